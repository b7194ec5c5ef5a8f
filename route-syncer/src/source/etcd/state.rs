//! What is remembered across a reboot, in `/var/lib/cbr0` by default: this node's subnet, and the
//! picture of the cluster, so that a node that boots without etcd has its routes, and that nobody
//! who is held is forgotten.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::backend::{self, Backend};
use super::key::Subnet;
use super::picture::{Doubt, Member, Picture};
use super::value::Identity;
use crate::replace::{replace_soon, settle};

const FILE: &str = "etcd.json";
const MODE: u32 = 0o644;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: cannot {what}: {source}; give another folder with --state-dir")]
pub struct StateError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The cluster ID of etcd and the revision of the picture; none if etcd was never read.
    pub history: Option<(u64, i64)>,
    /// This node's subnet.
    pub own: Option<Subnet>,
    /// The cluster's ranges.
    pub networks: Vec<IpNetwork>,
    /// The other nodes.
    pub picture: Picture,
}

impl State {
    /// Whether both are the same, but for the history.
    pub fn is_but_for_history(&self, other: &Self) -> bool {
        let Self { history: _, own, networks, picture } = self;
        (own, networks, picture) == (&other.own, &other.networks, &other.picture)
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The prefix in etcd: what is remembered of another one is of another cluster.
    prefix: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    prefix: String,
    /// In hexadecimal, as etcdctl shows it.
    cluster: Option<String>,
    revision: i64,
    subnet: Option<String>,
    networks: Vec<String>,
    doubt: Option<Doubt>,
    nodes: Vec<WrittenNode>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenNode {
    subnet: String,
    name: String,
    machine: Option<String>,
    v4: Option<std::net::Ipv4Addr>,
    v6: Option<std::net::Ipv6Addr>,
    /// As in a lease; a file without it is of a version that knew one backend.
    #[serde(flatten)]
    backend: Option<backend::Written>,
    floor: i64,
    held_since: Option<String>,
}

impl StateFile {
    /// The file in this folder, which need not be there.
    pub fn new(folder: &Path, prefix: &str) -> Self {
        Self { path: folder.join(FILE), prefix: prefix.to_owned() }
    }

    /// What is remembered; nothing if there is no file, or none of this cluster.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self) -> Result<State, StateError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::default()),
            Err(source) => return Err(self.error("read it", source)),
        };
        let written: Written = match serde_json::from_str(&text) {
            Ok(written) => written,
            Err(error) => {
                warn!("{:?} is left aside: {error}", self.path);
                return Ok(State::default());
            }
        };
        if written.prefix != self.prefix {
            warn!("{:?} is left aside: it is of the prefix {:?}", self.path, written.prefix);
            return Ok(State::default());
        }
        Ok(written.state())
    }

    /// Remembers, also if the program crashes; if the machine does, once it is [`StateFile::settle`]d.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, state: &State) -> Result<(), StateError> {
        let text = serde_json::to_string_pretty(&Written::new(state, &self.prefix));
        let text = text.map_err(|error| self.error("write it", error.into()))? + "\n";
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let written = fs::create_dir_all(folder);
        let written = written.and_then(|()| replace_soon(&self.path, text.as_bytes(), MODE));
        written.map_err(|source| self.error("write it", source))
    }

    /// Makes what was written outlive a crash of the machine.
    ///
    /// # Errors
    /// The disk fails.
    pub fn settle(&self) -> Result<(), StateError> {
        settle(&self.path).map_err(|source| self.error("write it to the disk", source))
    }

    /// Forgets everything, of whatever cluster. Returns the file if there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(folder: &Path) -> Result<Option<PathBuf>, StateError> {
        let path = folder.join(FILE);
        match fs::remove_file(&path) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError { path, what: "remove it", source }),
        }
    }

    fn error(&self, what: &'static str, source: io::Error) -> StateError {
        StateError { path: self.path.clone(), what, source }
    }
}

impl Written {
    fn new(state: &State, prefix: &str) -> Self {
        let node = |(name, member): (&String, &Member)| {
            let Identity { name: node, machine, v4, v6, backend } = member.identity.clone();
            let backend = Some(backend.written());
            let (floor, held_since) = (member.floor, member.held_since.clone());
            WrittenNode {
                subnet: name.clone(),
                name: node,
                machine,
                v4,
                v6,
                backend,
                floor,
                held_since,
            }
        };
        Self {
            prefix: prefix.to_owned(),
            cluster: state.history.map(|(cluster, _)| format!("{cluster:x}")),
            revision: state.history.map_or(0, |(_, revision)| revision),
            subnet: state.own.map(|subnet| subnet.to_string()),
            networks: state.networks.iter().map(ToString::to_string).collect(),
            doubt: state.picture.doubt.clone(),
            nodes: state.picture.members.iter().map(node).collect(),
        }
    }

    fn state(self) -> State {
        let cluster = self.cluster.and_then(|hex| u64::from_str_radix(&hex, 16).ok());
        let mut picture = Picture { doubt: self.doubt, ..Picture::default() };
        for node in self.nodes {
            let Ok(subnet) = node.subnet.parse() else { continue };
            let WrittenNode { name, machine, v4, v6, backend, floor, held_since, .. } = node;
            let mut identity = Identity { name, machine, v4, v6, backend: Backend::HostGw };
            let backend = backend.and_then(|written| written.read(&identity.addresses()).ok());
            identity.backend = backend.unwrap_or_default();
            picture.members.insert(node.subnet, Member { identity, subnet, floor, held_since });
        }
        State {
            history: cluster.map(|cluster| (cluster, self.revision)),
            own: self.subnet.and_then(|subnet| subnet.parse().ok()),
            networks: self.networks.iter().filter_map(|text| text.parse().ok()).collect(),
            picture,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::tunnel::Vteps;

    fn state() -> State {
        let mut picture = Picture::default();
        let identity = Identity {
            name: "node2".into(),
            machine: Some("m2".into()),
            v4: Some([10, 100, 0, 3].into()),
            v6: None,
            backend: Backend::Vxlan(Vteps::derived([[10, 100, 0, 3].into()])),
        };
        let subnet: Subnet = "10.0.2.0-24".parse().unwrap();
        let held_since = Some("2026-01-01T00:00:00Z".to_owned());
        let member = Member { identity, subnet, floor: 7, held_since };
        picture.members.insert(subnet.to_string(), member);
        State {
            history: Some((u64::MAX, 9)),
            own: Some("10.0.1.0-24".parse().unwrap()),
            networks: vec!["10.0.0.0/14".parse().unwrap()],
            picture,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(&folder.path().join("new"), "/p/");
        assert_eq!(file.read().unwrap(), State::default());
        file.write(&state()).unwrap();
        assert_eq!(file.read().unwrap(), state());
    }

    #[test]
    fn what_is_of_another_cluster_or_broken_is_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), "/p/");
        file.write(&state()).unwrap();
        assert_eq!(StateFile::new(folder.path(), "/q/").read().unwrap(), State::default());
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(file.read().unwrap(), State::default());
    }
}
