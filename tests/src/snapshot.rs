//! All that a plugin could change on a host, as text that can be compared.
//!
//! ADD and then DEL must leave a host as it was. What may differ all the same is named in one
//! place, [`Shared`]: objects that belong to the host or the network and not to one attachment.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use kernel::nft::Nft;
use kernel::{NetNs, Rtnl, route};

mod nft;
mod shared;

pub use shared::Shared;

use crate::error::{Context, Result};
use crate::node::Node;

/// The state of a host at one moment: what is there, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    facts: BTreeMap<Subject, String>,
}

/// One thing that a snapshot tells about. Links go by name: an index is never seen by a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Link(String),
    Address {
        link: String,
        address: String,
    },
    Route {
        link: String,
        route: String,
    },
    Sysctl(String),
    /// A table, or something in it.
    Nft {
        table: String,
        object: String,
    },
    File(String),
}

/// Flags that say how a link fares (running, lower layer up, dormant), not how it was set. The
/// kernel settles them some time after what they follow from.
const SETTLED_LATER: u32 = 0x40 | 0x1_0000 | 0x2_0000;

impl Snapshot {
    /// Reads the state of a host: that of its namespace, and the files of its store of
    /// reservations.
    ///
    /// # Errors
    /// The kernel refuses a list, or a file cannot be read.
    pub fn take(host: &Node) -> Result<Self> {
        let mut snapshot = Self::of(host.netns())?;
        snapshot.read_files(&host.data_dir(), "")?;
        Ok(snapshot)
    }

    /// Reads the state of a namespace: links, addresses, the routes of all tables, nf_tables, and
    /// the settings of its links.
    ///
    /// # Errors
    /// The kernel refuses a list.
    pub fn of(netns: &NetNs) -> Result<Self> {
        let mut snapshot = Snapshot { facts: BTreeMap::new() };
        snapshot.read_network(&mut Rtnl::open_in(netns)?)?;
        snapshot.read_nft(&mut Nft::open_in(netns)?)?;
        netns.run(|| snapshot.read_sysctls())??;
        Ok(snapshot)
    }

    /// How `later` differs from this snapshot; `None` when it does not, but in what is shared.
    pub fn difference(&self, later: &Snapshot, shared: &Shared) -> Option<Difference> {
        let mut lines = Vec::new();
        for (sign, one, other) in [('-', self, later), ('+', later, self)] {
            let differing = one.facts.iter().filter(|(subject, state)| {
                other.facts.get(subject) != Some(state)
                    && !shared.allows(subject)
                    && !other.lacks_link_of(subject)
            });
            let line =
                |(subject, state): (&Subject, &String)| (subject.clone(), sign, state.clone());
            lines.extend(differing.map(line));
        }
        // What something was stands above what it has become.
        lines.sort_by(|a, b| (&a.0, a.1 == '+').cmp(&(&b.0, b.1 == '+')));
        (!lines.is_empty()).then_some(Difference { lines })
    }

    /// Whether this is a setting of a link that is not here: the link itself is told then, and its
    /// two hundred settings need not be.
    fn lacks_link_of(&self, subject: &Subject) -> bool {
        let Subject::Sysctl(key) = subject else { return false };
        let link = key.rsplit('/').nth(1).unwrap_or_default();
        let common = ["all", "default", "ipv4"].contains(&link);
        !common && !self.facts.contains_key(&Subject::Link(link.to_owned()))
    }

    fn tell(&mut self, subject: Subject, state: impl Into<String>) {
        self.facts.insert(subject, state.into());
    }

    fn read_network(&mut self, rtnl: &mut Rtnl) -> Result<()> {
        let links = rtnl.links()?;
        let names: HashMap<u32, String> =
            links.iter().map(|link| (link.index, link.name.clone())).collect();
        let name = |index: Option<u32>| {
            index.and_then(|index| names.get(&index)).map_or("-", String::as_str)
        };
        for link in &links {
            let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
            let state = format!(
                "kind {:?} alias {:?} master {} mtu {} flags {:#x} mac {mac} port {:?}",
                link.kind,
                link.alias,
                name(link.master),
                link.mtu,
                link.flags & !SETTLED_LATER,
                link.port,
            );
            self.tell(Subject::Link(link.name.clone()), state);
        }
        for address in rtnl.addresses(0)?.iter().filter(|address| !address.link_local) {
            let link = name(Some(address.link)).to_owned();
            let state = if address.tentative { "tentative" } else { "" };
            self.tell(Subject::Address { link, address: address.address.to_string() }, state);
        }
        const EVERY_TABLE: u32 = 0;
        let routes = rtnl.routes(EVERY_TABLE)?;
        for route in routes.iter().filter(|route| !is_link_local(route.destination.ip())) {
            let link = name(route.link).to_owned();
            self.tell(Subject::Route { link, route: describe(route) }, "");
        }
        Ok(())
    }

    /// Every setting of every link, and the one that turns forwarding on.
    fn read_sysctls(&mut self) -> Result<()> {
        const IP_FORWARD: &str = "net/ipv4/ip_forward";
        let state = kernel::sysctl::get(IP_FORWARD)?;
        self.tell(Subject::Sysctl(IP_FORWARD.to_owned()), state);
        for folder in ["net/ipv4/conf", "net/ipv6/conf"] {
            for link in entries(&Path::new("/proc/sys").join(folder))? {
                for name in entries(&Path::new("/proc/sys").join(folder).join(&link))? {
                    let key = format!("{folder}/{link}/{name}");
                    // Some are there to be written only, or not set.
                    if let Ok(state) = kernel::sysctl::get(&key) {
                        self.tell(Subject::Sysctl(key), state);
                    }
                }
            }
        }
        Ok(())
    }

    fn read_files(&mut self, folder: &Path, below: &str) -> Result<()> {
        for name in entries(folder)? {
            let path = folder.join(&name);
            if path.is_dir() {
                let inner = format!("{below}{name}/");
                self.tell(Subject::File(inner.clone()), "");
                self.read_files(&path, &inner)?;
            } else {
                let content = fs::read(&path).context(|| format!("read {}", path.display()))?;
                let content = String::from_utf8_lossy(&content).escape_debug().to_string();
                self.tell(Subject::File(format!("{below}{name}")), content);
            }
        }
        Ok(())
    }
}

/// The kernel makes link-local addresses, and routes to them, when it sees fit: they say nothing
/// that the link they belong to does not.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn describe(route: &route::Route) -> String {
    let mut text = format!("{}", route.destination);
    if let Some(gateway) = route.gateway {
        let _ = write!(text, " via {gateway}");
    }
    let _ = write!(
        text,
        " table {} protocol {} scope {} metric {} kind {}",
        route.table, route.protocol, route.scope, route.priority, route.kind
    );
    text
}

/// The names in a folder; none if it is not there, as before the first ADD.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let what = || format!("list {}", folder.display());
    match fs::read_dir(folder) {
        Ok(entries) => {
            let name = |entry: io::Result<fs::DirEntry>| {
                Ok(entry?.file_name().to_string_lossy().into_owned())
            };
            entries.map(name).collect::<io::Result<_>>().context(what)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context(what),
    }
}

/// What differs between two snapshots: a line each for what went (`-`) and what came (`+`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    lines: Vec<(Subject, char, String)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines
            .iter()
            .try_for_each(|(subject, sign, state)| writeln!(out, "{sign} {subject} {state}"))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Link(name) => write!(out, "link {name}:"),
            Subject::Address { link, address } => write!(out, "address {address} of {link}"),
            Subject::Route { link, route } => write!(out, "route {route} out of {link}"),
            Subject::Sysctl(key) => write!(out, "sysctl {key} ="),
            Subject::Nft { table, object } => write!(out, "nf_tables {table} {object}"),
            Subject::File(path) => write!(out, "file {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::MacAddress;
    use kernel::link::Bridge;

    use super::*;
    use crate::error::Outcome;
    use crate::require;

    fn with_bridge(name: &str) -> Result<(Snapshot, Snapshot)> {
        let host = Node::create("host")?;
        let before = Snapshot::take(&host)?;
        let bridge = Bridge { name, mac: MacAddress([2, 0, 0, 0, 0, 1]), mtu: None };
        host.rtnl()?.request(&bridge.create())?;
        Ok((before, Snapshot::take(&host)?))
    }

    #[test]
    fn a_bridge_that_is_not_the_shared_one_is_told() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let (before, after) = with_bridge("br9")?;
        assert_eq!(before.difference(&after, &Shared::with_bridge("br9")), None);
        let told =
            before.difference(&after, &Shared::with_bridge("cbr0")).map(|told| told.to_string());
        assert!(told.is_some_and(|told| told.contains("+ link br9: kind \"bridge\"")));
        assert_eq!(after.difference(&after, &Shared::after_warm_up()), None);
        Ok(())
    }

    #[test]
    fn reservations_are_told_but_not_the_stores_own_files() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let host = Node::create("host")?;
        let before = Snapshot::take(&host)?;
        let network = host.data_dir().join("net");
        fs::create_dir_all(&network)?;
        for (name, content) in [("lock", ""), ("last_reserved_ip.0", "10.0.1.2")] {
            fs::write(network.join(name), content)?;
        }
        let shared = Shared::with_bridge("cbr0");
        assert_eq!(before.difference(&Snapshot::take(&host)?, &shared), None);
        fs::write(network.join("10.0.1.2"), "c1\r\neth0")?;
        let told = before.difference(&Snapshot::take(&host)?, &shared).map(|told| told.to_string());
        assert_eq!(told.as_deref(), Some("+ file net/10.0.1.2 c1\\r\\neth0\n"));
        Ok(())
    }
}
