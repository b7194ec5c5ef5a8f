//! A real Kubernetes API server with its etcd, inside a host of the laboratory, and the little that
//! is asked of it there: objects come and go by requests of our own.
//!
//! No kubelet and no controller runs: Nodes are what the test says.

use std::fs;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernel::NetNs;
use serde_json::Value;

use crate::error::{Context, LabError, Result};
use crate::etcd::Etcd;
use crate::node::Node;
use crate::{process, wait};

/// Many times what a start or a request takes.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long to wait before asking again a server that is not ready to answer.
const PAUSE: Duration = Duration::from_millis(50);
/// The port of the API server.
pub const PORT: u16 = 6443;
/// The token that may do everything.
const ADMIN: &str = "the-admins";

/// The programs that it takes.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `kube-apiserver`.
    pub apiserver: PathBuf,
    /// `etcd`.
    pub etcd: PathBuf,
    /// `openssl`, which makes a key, and speaks TLS for requests.
    pub openssl: PathBuf,
}

/// An API server. It ends with this value, and so does its etcd.
#[derive(Debug)]
pub struct ApiServer {
    programs: Programs,
    netns: NetNs,
    folder: PathBuf,
    address: IpAddr,
    running: Option<Child>,
    /// Where it keeps everything.
    pub etcd: Etcd,
}

impl ApiServer {
    /// Starts one with an empty cluster on a host, and returns when it serves. Beside the
    /// administrator's, these tokens count, each of the user of the same name.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(
        programs: Programs,
        host: &Node,
        address: IpAddr,
        tokens: &[&str],
    ) -> Result<Self> {
        let folder = host.folder().join("kubernetes");
        fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        let etcd = Etcd::start(programs.etcd.clone(), host, address)?;
        let netns = NetNs::open(&host.netns().path())?;
        let mut server = ApiServer { programs, netns, folder, address, running: None, etcd };
        server.make_key()?;
        server.set_tokens(tokens)?;
        server.run()?;
        Ok(server)
    }

    /// Sets which tokens count beside the administrator's from the next [`ApiServer::run`] on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_tokens(&self, tokens: &[&str]) -> Result<()> {
        let users = tokens.iter().map(|token| format!("{token},{token},{token}\n"));
        let users = format!("{ADMIN},admin,admin,system:masters\n{}", users.collect::<String>());
        fs::write(self.folder.join("tokens"), users).context(|| "write the tokens".to_owned())
    }

    /// The key that tokens of ServiceAccounts are signed with.
    fn make_key(&self) -> Result<()> {
        let mut command = Command::new(&self.programs.openssl);
        command.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]);
        command.arg(self.folder.join("accounts.key"));
        let done = process::run(command, b"", DEADLINE)?;
        if done.status.success() { Ok(()) } else { Err(LabError::Wrong(done.stderr)) }
    }

    /// Starts it again, on what its etcd has.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&mut self) -> Result<()> {
        let socket = self.folder.join("ready");
        let _ = fs::remove_file(&socket);
        let ready = UnixDatagram::bind(&socket).context(|| "make a socket".to_owned())?;
        let log = fs::File::create(self.folder.join("log")).context(|| "make a log".to_owned())?;
        let mut command = self.command();
        command.env("NOTIFY_SOCKET", &socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.netns.run(|| command.spawn())?;
        self.running = Some(child.context(|| "start kube-apiserver".to_owned())?);
        // It tells when it serves, as it would tell systemd.
        if wait::readable(&ready, Instant::now() + DEADLINE)? {
            return self.ask("GET", "/readyz", &Value::Null).map(drop);
        }
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let words = format!("kube-apiserver does not serve within {DEADLINE:?}; its log:\n{log}");
        Err(LabError::Wrong(words))
    }

    fn command(&self) -> Command {
        let (folder, address) = (&self.folder, self.address);
        let key = folder.join("accounts.key");
        let mut command = Command::new(&self.programs.apiserver);
        command
            .arg(format!("--etcd-servers={}", self.etcd.endpoint))
            .args([format!("--bind-address={address}"), format!("--advertise-address={address}")])
            .arg(format!("--secure-port={PORT}"))
            // There it puts a certificate that it signs itself.
            .arg(format!("--cert-dir={}", folder.display()))
            .arg(format!("--token-auth-file={}", folder.join("tokens").display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .args(["--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC"])
            .args(["--endpoint-reconciler-type=none", "--etcd-compaction-interval=0"])
            .arg("--shutdown-watch-termination-grace-period=0s");
        command
    }

    /// Ends it, and leaves its etcd running.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // It may have ended by itself.
            let _ = running.kill();
            let _ = running.wait();
        }
    }

    /// The certificate that clients are to trust.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("apiserver.crt")
    }

    /// Asks as the administrator, until the server is ready to answer, and returns what it says.
    /// A body that is null is none.
    ///
    /// # Errors
    /// It refuses, or does not answer in time.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let kind = if method == "PATCH" { "merge-patch+json" } else { "json" };
        self.ask_until_ready(method, path, kind, &body)
    }

    /// Makes an object of a document of YAML, as `kubectl create` does: a field that is unknown is
    /// refused, and a warning is an error. Returns the object.
    ///
    /// # Errors
    /// As [`ApiServer::ask`].
    pub fn create(&self, path: &str, yaml: &str) -> Result<Value> {
        self.ask_until_ready("POST", &format!("{path}?fieldValidation=Strict"), "yaml", yaml)
    }

    fn ask_until_ready(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let (code, head, text) = self.try_ask(method, path, kind, body)?;
            if kind == "yaml" && head.contains("\r\nWarning: ") {
                return Err(LabError::Wrong(format!("{method} {path}: {head}")));
            }
            if (200..300).contains(&code) {
                // Some answers are no JSON.
                return Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)));
            }
            // So it answers before all of it has started, or nobody does.
            let is_starting = code == 0 || code == 403 || code >= 500;
            if !is_starting || Instant::now() > until {
                return Err(LabError::Wrong(format!("{method} {path}: {code}: {text}")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// One request: the code, or 0 where nobody answers, the head of the answer, and its body.
    fn try_ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> Result<(u16, String, String)> {
        let request = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Bearer {ADMIN}\r\n\
             Content-Type: application/{kind}\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut command = Command::new(&self.programs.openssl);
        command.args(["s_client", "-quiet", "-connect", &format!("{}:{PORT}", self.address)]);
        let done = self.netns.run(|| process::run(command, request.as_bytes(), DEADLINE))??;
        let (head, text) = done.stdout.split_once("\r\n\r\n").unwrap_or_default();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.unwrap_or(0), head.to_owned(), text.to_owned()))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
