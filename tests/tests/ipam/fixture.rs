//! A data directory with one network, the plugins that reserve in it, and what lies in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::pod;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{LabError, Result, bins};
use cni_conf::dispatch;
use cni_conf::env::Env;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const NETWORK: &str = "mynet";

/// Words of the errors, which tools match.
pub(crate) const FULL: &str = "no IP addresses available in range set";
pub(crate) const DUPLICATE: &str = "duplicate allocation is not allowed";

/// Where plugins run. They look at no network, so one host does for all.
pub(crate) struct Lab {
    pub(crate) host: Node,
    pub(crate) ours: PathBuf,
}

impl Lab {
    /// `None` on a machine where no namespaces can be made.
    pub(crate) fn new() -> Result<Option<Lab>> {
        if !require::root()? {
            return Ok(None);
        }
        Ok(Some(Lab { host: Node::create("host")?, ours: bins::plugin("host-local")? }))
    }

    pub(crate) fn run(&self, call: &Call) -> Result<Answer> {
        call.run(&self.host)
    }
}

/// The reference's binary; `None` when the test that asks must end.
pub(crate) fn reference() -> Result<Option<PathBuf>> {
    Ok(require::part(Part::Reference)?.map(|folder| folder.join("host-local")))
}

/// An interface of a container: the part of the triple that a reservation names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) container: String,
    pub(crate) ifname: String,
}

impl Holder {
    pub(crate) fn new(container: &str, ifname: &str) -> Self {
        Holder { container: container.to_owned(), ifname: ifname.to_owned() }
    }

    /// `eth0` of the container.
    pub(crate) fn eth0(container: &str) -> Self {
        Self::new(container, "eth0")
    }

    /// The content of each of its reservations.
    pub(crate) fn contents(&self) -> String {
        format!("{}\r\n{}", self.container, self.ifname)
    }
}

/// What a runtime says in one call, besides the network's own configuration.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    verb: &'static str,
    holder: Option<Holder>,
    /// Keys of the configuration.
    more: Value,
    /// CNI_ARGS
    args: String,
}

impl Request {
    pub(crate) fn new(verb: &'static str, holder: &Holder) -> Self {
        Request { verb, holder: Some(holder.clone()), more: json!({}), args: String::new() }
    }

    pub(crate) fn add(holder: &Holder) -> Self {
        Self::new("ADD", holder)
    }

    pub(crate) fn del(holder: &Holder) -> Self {
        Self::new("DEL", holder)
    }

    /// A GC that leaves `valid` alone.
    pub(crate) fn gc<'a>(valid: impl IntoIterator<Item = &'a Holder>) -> Self {
        let attachment =
            |holder: &Holder| json!({"containerID": holder.container, "ifname": holder.ifname});
        let valid: Vec<Value> = valid.into_iter().map(attachment).collect();
        let more = json!({"cni.dev/valid-attachments": valid});
        Request { verb: "GC", holder: None, more, args: String::new() }
    }

    /// With keys of the configuration besides.
    #[must_use]
    pub(crate) fn with(self, more: Value) -> Self {
        Request { more, ..self }
    }

    /// With CNI_ARGS.
    #[must_use]
    pub(crate) fn args(self, args: String) -> Self {
        Request { args, ..self }
    }
}

/// One network with its reservations.
pub(crate) struct Network {
    /// `None` when the folder is somebody else's.
    _folder: Option<TempDir>,
    data_dir: PathBuf,
    ipam: Value,
}

impl Network {
    /// A network without reservations, with these keys in `ipam`.
    pub(crate) fn new(ipam: &Value) -> Result<Self> {
        Self::below(&std::env::temp_dir(), ipam)
    }

    /// The same, its folder made in `parent`, which says what filesystem it is on.
    pub(crate) fn below(parent: &Path, ipam: &Value) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cbr0-tests-").tempdir_in(parent);
        let folder = folder.context(|| "make a temporary folder".to_owned())?;
        let data_dir = folder.path().join("networks");
        Ok(Network { _folder: Some(folder), ..Self::at(&data_dir, ipam) })
    }

    /// A network whose `dataDir` is this.
    pub(crate) fn at(data_dir: &Path, ipam: &Value) -> Self {
        let mut ipam = ipam.clone();
        ipam["type"] = json!("host-local");
        ipam["dataDir"] = json!(data_dir);
        Network { _folder: None, data_dir: data_dir.to_owned(), ipam }
    }

    /// The network's own directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.data_dir.join(NETWORK)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// A call of a plugin's binary.
    pub(crate) fn call(&self, program: &Path, request: &Request) -> Call {
        let call = Call::new(program, request.verb)
            .env("CNI_PATH", "/no/folder")
            .env("CNI_ARGS", &request.args)
            .stdin_json(&self.conf(&request.more));
        match &request.holder {
            Some(Holder { container, ifname }) => call
                .env("CNI_CONTAINERID", container)
                .env("CNI_IFNAME", ifname)
                .env("CNI_NETNS", "/no/netns"),
            None => call,
        }
    }

    /// Our plugin without a process of its own: forty times as fast, and the same code from the
    /// environment and the standard input on.
    pub(crate) fn in_process(&self, request: &Request) -> Answer {
        let (container_id, ifname) = match &request.holder {
            Some(Holder { container, ifname }) => (container.clone(), ifname.clone()),
            None => <_>::default(),
        };
        let env = Env {
            command: Some(request.verb.to_owned()),
            container_id,
            ifname,
            netns: "/no/netns".to_owned(),
            args: request.args.clone(),
            path: "/no/folder".to_owned(),
            netns_override: false,
        };
        let stdin = self.conf(&request.more).to_string();
        let outcome = dispatch::run(&ipam::HostLocal, env, stdin.as_bytes());
        Answer {
            stdout: outcome.stdout,
            stderr: outcome.stderr,
            code: Some(i32::from(!outcome.success)),
        }
    }

    fn conf(&self, more: &Value) -> Value {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": NETWORK, "type": "bridge", "ipam": self.ipam,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        conf
    }

    /// The reservations: whose each address is. Without content it is nobody's.
    pub(crate) fn reservations(&self) -> Result<BTreeMap<IpAddr, String>> {
        let directory = self.directory();
        let mut reservations = BTreeMap::new();
        for name in names(&directory)? {
            if let Ok(address) = name.parse() {
                let path = directory.join(name);
                let content = fs::read(&path).context(|| format!("read {}", path.display()))?;
                reservations.insert(address, String::from_utf8_lossy(&content).into_owned());
            }
        }
        Ok(reservations)
    }

    /// The addresses that a holder has.
    pub(crate) fn held_by(&self, holder: &Holder) -> Result<Vec<IpAddr>> {
        let contents = holder.contents();
        let mut held = self.reservations()?;
        held.retain(|_, content| *content == contents);
        Ok(held.into_keys().collect())
    }

    /// What lies in the network's directory and is no reservation of anybody.
    pub(crate) fn strays(&self) -> Result<Vec<String>> {
        let mut names = names(&self.directory())?;
        names.retain(|name| {
            let known = name == "lock" || name.starts_with("last_reserved_ip.");
            !known && name.parse::<IpAddr>().is_err()
        });
        Ok(names.into_iter().collect())
    }

    /// What lies beside the network's directory: it helps our plugin, and must never matter.
    pub(crate) fn beside(&self) -> Result<Vec<PathBuf>> {
        let ours = |name: &String| name.starts_with(&format!(".{NETWORK}."));
        let names = names(&self.data_dir)?.into_iter().filter(ours);
        Ok(names.map(|name| self.data_dir.join(name)).collect())
    }

    /// Removes that, as a restart of the node may.
    pub(crate) fn forget(&self) -> Result<()> {
        for path in self.beside()? {
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Puts a file into the network's directory.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let directory = self.directory();
        let what = || format!("write {}", self.path(name).display());
        fs::create_dir_all(&directory).context(what)?;
        fs::write(directory.join(name), content).context(what)
    }
}

/// The names in a folder; none when there is no folder.
fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let what = || format!("list {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.context(what)?,
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry.context(what)?.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// The addresses that a successful ADD gave.
pub(crate) fn given(answer: &Answer) -> Result<Vec<IpAddr>> {
    match answer.failure() {
        Some(error) => Err(LabError::Wrong(format!("the ADD failed: {error}"))),
        None => pod::addresses(&answer.json()?),
    }
}

/// What must be so, said in words when it is not.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(LabError::Wrong(otherwise())) }
}
