//! A real etcd, of one member unless more are added, inside a host of the laboratory.

use std::fs;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernel::NetNs;

use crate::error::{Context, LabError, Result};
use crate::node::Node;
use crate::{process, wait};

/// Many times what a start or a command takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// An etcd. It ends with this value; its data are in the host's folder.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    netns: NetNs,
    folder: PathBuf,
    /// What clients are told.
    pub endpoint: String,
    options: Vec<String>,
    /// The folder of the data: another one after a restored backup.
    data: PathBuf,
    running: Option<Child>,
}

impl Etcd {
    /// Starts an empty one on a host, and returns when it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: PathBuf, host: &Node, address: IpAddr) -> Result<Self> {
        Self::start_at(program, host, format!("http://{address}:2379"), Vec::new())
    }

    /// As [`Etcd::start`], at a URL of its own, with more options, such as those for TLS.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_at(
        program: PathBuf,
        host: &Node,
        endpoint: String,
        options: Vec<String>,
    ) -> Result<Self> {
        let folder = host.folder().join("etcd");
        fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        let mut etcd = Etcd {
            program,
            netns: NetNs::open(&host.netns().path())?,
            data: folder.join("data"),
            folder,
            endpoint,
            options,
            running: None,
        };
        etcd.run()?;
        Ok(etcd)
    }

    /// Starts another member of its cluster on the same host: number 1, 2, …
    ///
    /// # Errors
    /// It does not start.
    pub fn add_member(&self, number: u16) -> Result<Self> {
        let name = format!("member{number}");
        let peer = format!("http://127.0.0.1:{}", 2380 + 2 * number);
        let said = self.ctl(&["member", "add", &name, "--peer-urls", &peer])?;
        let cluster =
            said.split("ETCD_INITIAL_CLUSTER=\"").nth(1).and_then(|s| s.split('"').next());
        let cluster = cluster.ok_or_else(|| LabError::Wrong(format!("no cluster in {said}")))?;
        let options = ["--name", &name, "--listen-peer-urls", &peer]
            .into_iter()
            .chain(["--initial-advertise-peer-urls", &peer, "--initial-cluster", cluster])
            .chain(["--initial-cluster-state", "existing"]);
        let folder = self.folder.join(&name);
        fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        let port = (2379 + 2 * number).to_string();
        let mut member = Etcd {
            program: self.program.clone(),
            netns: NetNs::open(&self.netns.path())?,
            data: folder.join("data"),
            folder,
            endpoint: self.endpoint.replace("2379", &port),
            options: options.map(str::to_owned).collect(),
            running: None,
        };
        member.run()?;
        Ok(member)
    }

    /// Starts it again, on the data that it has.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&mut self) -> Result<()> {
        let socket = self.folder.join("ready");
        let _ = fs::remove_file(&socket);
        let ready = UnixDatagram::bind(&socket).context(|| "make a socket".to_owned())?;
        let log = fs::File::create(self.folder.join("log")).context(|| "make a log".to_owned())?;
        let mut command = Command::new(&self.program);
        command
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &self.endpoint])
            .args(["--advertise-client-urls", &self.endpoint])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .args(&self.options)
            // Leases of few seconds need a quick leader.
            .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = self.netns.run(|| command.spawn())?.context(|| "start etcd".to_owned())?;
        self.running = Some(child);
        // It tells when it serves, as it would tell systemd.
        if !wait::readable(&ready, Instant::now() + DEADLINE)? {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            return Err(LabError::Wrong(format!(
                "etcd does not serve within {DEADLINE:?}; its log:\n{log}"
            )));
        }
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // It may have ended by itself.
            let _ = running.kill();
            let _ = running.wait();
        }
    }

    /// Runs etcdctl, and returns what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.ctl_with(arguments, "")
    }

    /// As [`Etcd::ctl`], with this on its stdin.
    ///
    /// # Errors
    /// It fails.
    pub fn ctl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let program = self.program.with_file_name("etcdctl");
        let mut command = Command::new(program);
        command.args(["--endpoints", &self.endpoint]).args(arguments).env("ETCDCTL_API", "3");
        let finished = self.netns.run(|| process::run(command, input.as_bytes(), DEADLINE))??;
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        Err(LabError::Wrong(format!("etcdctl {arguments:?}: {}", finished.stderr)))
    }

    /// The revision: one more for each write.
    ///
    /// # Errors
    /// etcdctl fails.
    pub fn revision(&self) -> Result<i64> {
        let answer = self.ctl(&["get", "/", "--limit", "1", "-w", "json"])?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let revision = answer["header"]["revision"].as_i64();
        revision.ok_or_else(|| LabError::Wrong(format!("no revision in {answer:#}")))
    }

    /// Saves a backup.
    ///
    /// # Errors
    /// etcdctl fails.
    pub fn save(&self) -> Result<PathBuf> {
        let path = self.folder.join("backup");
        self.ctl(&["snapshot", "save", &path.to_string_lossy()])?;
        Ok(path)
    }

    /// Ends it, and starts it from a backup.
    ///
    /// # Errors
    /// etcdctl fails, or it does not start.
    pub fn restore(&mut self, backup: &Path) -> Result<()> {
        self.stop();
        self.data = self.folder.join("restored");
        let (backup, data) = (backup.to_string_lossy(), self.data.to_string_lossy().into_owned());
        self.ctl(&["snapshot", "restore", &backup, "--data-dir", &data])?;
        self.run()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}
