//! A route syncer as a process that is measured.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::{LabError, Result, bins};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Many times what anything takes that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The protocol of its routes.
pub(crate) const PROTOCOL: u8 = 214;

/// It ends with this value.
pub(crate) struct Daemon {
    process: Child,
    /// The lines of its log, each with the moment.
    log: Receiver<(Instant, String)>,
}

/// What a process has used until now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Time on a CPU, in milliseconds.
    pub(crate) cpu: f64,
    /// How often one of its threads waited for something and was woken.
    pub(crate) wakes: f64,
}

impl Daemon {
    /// Starts one on a node of this address, with its facts in the etcd at this URL. What it remembers is in the
    /// node's folder.
    pub(crate) fn start(node: &Node, address: IpAddr, endpoint: &str) -> Result<Self> {
        let folder = node.folder();
        let machine = folder.join("machine-id");
        let id = node.name.bytes().fold(1_u128, |id, byte| id.wrapping_mul(257) ^ u128::from(byte));
        fs::write(&machine, format!("{id:032x}")).context(|| "give a node an ID".to_owned())?;
        let mut command = Command::new(bins::route_syncer()?);
        command.args(["run", "--source", "etcd", "--node", &node.name]);
        command.args(["--node-address", &address.to_string()]);
        // What is measured is routes to other nodes, as its rivals make them.
        command.args(["--own-unreachable=false", "--cluster-unreachable=false"]);
        command.args(["--etcd-endpoints", endpoint, "--machine-id"]).arg(machine);
        command.arg("--state-dir").arg(folder.join("state"));
        command.arg("--run-dir").arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let spawned = node.netns().run(|| command.spawn())?;
        let mut process = spawned.context(|| "start route-syncer".to_owned())?;
        let (sender, log) = mpsc::channel();
        if let Some(stderr) = process.stderr.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map_while(std::io::Result::ok);
                lines.map(|line| (Instant::now(), line)).try_for_each(|line| sender.send(line))
            });
        }
        Ok(Daemon { process, log })
    }

    /// Waits until it has logged these words, and tells when that was.
    pub(crate) fn logged(&self, words: &str) -> Result<Instant> {
        let until = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((at, line)) = self.log.recv_timeout(left) else {
                let why = format!("the route syncer has not logged {words:?}; its last: {last}");
                return Err(LabError::Wrong(why));
            };
            if line.contains(words) {
                return Ok(at);
            }
            last = line;
        }
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.process.id()).unwrap_or_default();
        kill(Pid::from_raw(pid), Signal::SIGTERM).context(|| "end route-syncer".to_owned())?;
        self.process.wait().context(|| "wait for route-syncer".to_owned())?;
        Ok(())
    }

    /// What it has used until now.
    pub(crate) fn used(&self) -> Result<Used> {
        // The processor time of all threads, in nanoseconds, is the first number.
        let of_thread = |task: &str| -> Option<(f64, f64)> {
            let nanoseconds = fs::read_to_string(format!("{task}/schedstat")).ok()?;
            let status = fs::read_to_string(format!("{task}/status")).ok()?;
            let wakes = field(&status, "voluntary_ctxt_switches:")?;
            Some((nanoseconds.split(' ').next()?.parse::<f64>().ok()? / 1e6, wakes))
        };
        let folder = format!("/proc/{}/task", self.process.id());
        let tasks = fs::read_dir(&folder).context(|| format!("list {folder}"))?;
        let mut used = Used { cpu: 0.0, wakes: 0.0 };
        for task in tasks.flatten() {
            if let Some((cpu, wakes)) = of_thread(&task.path().to_string_lossy()) {
                used.cpu += cpu;
                used.wakes += wakes;
            }
        }
        Ok(used)
    }

    /// Its resident memory now and at its most, in MiB.
    pub(crate) fn memory(&self) -> Result<[f64; 2]> {
        let file = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(&file).context(|| format!("read {file}"))?;
        let missing = || LabError::Wrong(format!("{file} tells no memory"));
        let [now, most] = ["VmRSS:", "VmHWM:"].map(|name| field(&status, name));
        Ok([now.ok_or_else(missing)? / 1024.0, most.ok_or_else(missing)? / 1024.0])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets the route syncers of a node forget what they knew.
pub(crate) fn forget(node: &Node) -> Result<()> {
    let what = || format!("remove what the route syncer of {} remembers", node.name);
    for name in ["last-good.json", "synced.json", "route-syncer.json"] {
        fs::remove_file(node.folder().join(name)).context(what)?;
    }
    fs::remove_dir_all(node.folder().join("state")).context(what)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
