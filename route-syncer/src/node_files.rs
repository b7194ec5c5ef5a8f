//! What this node tells programs that read files: the conflist, for container runtimes, and
//! `subnet.env`, for those who know flannel. Both are written once the routes are there, again
//! when what they tell has changed, and never removed: Pods outlive the daemon.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use tracing::info;

use crate::claims::{Judged, Verdict};
use crate::observed::Observed;
use crate::{conflist, subnet_env};

/// What the files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The ranges of this node's Pods.
    pub ranges: Vec<IpNetwork>,
    /// The largest packet that Pods may send, in bytes.
    pub mtu: u32,
    /// The ranges that all nodes' Pods are in, as far as they are known.
    pub cluster: Vec<IpNetwork>,
}

/// A fact that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The source does not name this node, or not its Pods.
    #[error("the source tells no Pod range of this node; is --node right?")]
    Range,
    /// The node's address is not here, and no other node can be reached.
    #[error(
        "no link has this node's address or leads to another node, so the MTU of the uplink is \
         not known; is the node's address right? Else give the Pods' MTU with --mtu"
    )]
    Uplink,
}

impl Facts {
    /// From the claims, and from the size of packets that Pods may send, if that is known.
    ///
    /// # Errors
    /// One of the facts is not known.
    pub fn of(
        judged: &[Judged],
        cluster: Vec<IpNetwork>,
        mtu: Option<u32>,
    ) -> Result<Self, Unknown> {
        let own: Vec<_> =
            judged.iter().filter(|one| one.verdict == Verdict::Own).map(|one| &one.claim).collect();
        if own.is_empty() {
            return Err(Unknown::Range);
        }
        let mtu = mtu.ok_or(Unknown::Uplink)?;
        Ok(Self { ranges: own.iter().map(|claim| claim.cidr).collect(), mtu, cluster })
    }
}

/// The smallest MTU of the links that have this node's addresses, or lead to other nodes.
pub fn uplink_mtu(judged: &[Judged], observed: &Observed) -> Option<u32> {
    let own = judged.iter().filter(|one| one.verdict == Verdict::Own);
    let own: Vec<IpAddr> = own.filter_map(|one| one.claim.gateway).collect();
    let with_address = observed.addresses.iter().filter(|address| own.contains(&address.local));
    let to_others = judged.iter().filter_map(|one| match one.verdict {
        Verdict::Route { link, .. } => Some(link),
        _ => None,
    });
    let uplinks: Vec<u32> = with_address.map(|address| address.link).chain(to_others).collect();
    let links = observed.links.iter().filter(|link| uplinks.contains(&link.index));
    links.filter_map(|link| link.mtu).min()
}

/// The files that were asked for.
#[derive(Debug)]
pub struct NodeFiles {
    /// The network configuration for container runtimes.
    pub conflist: Option<PathBuf>,
    /// The node's subnet in flannel's format.
    pub subnet_env: Option<PathBuf>,
    /// What the files that are in place tell; none if that has to be looked at.
    in_place: Option<Facts>,
}

impl NodeFiles {
    /// None of the files has been looked at yet.
    pub fn new(conflist: Option<PathBuf>, subnet_env: Option<PathBuf>) -> Self {
        Self { conflist, subnet_env, in_place: None }
    }

    /// Makes the next call look at the files, even if they should be as they were left.
    pub fn distrust(&mut self) {
        self.in_place = None;
    }

    /// Makes the files tell these facts. Returns what is not as it should be.
    pub fn write(&mut self, facts: Result<Facts, Unknown>, synced: &Path) -> Vec<String> {
        let facts = match facts {
            Ok(facts) if self.in_place.as_ref() == Some(&facts) => return Vec::new(),
            Ok(facts) => facts,
            Err(unknown) => return self.waiting(unknown),
        };
        let mut problems = Vec::new();
        if let Some(path) = &self.conflist {
            match conflist::write(path, &facts, synced) {
                Ok(written) => note(written, path),
                Err(problem) => problems.push(problem.to_string()),
            }
        }
        if let Some(path) = &self.subnet_env {
            match subnet_env::write(path, &facts) {
                Ok(written) => note(written, path),
                Err(problem) => problems.push(problem.to_string()),
            }
        }
        self.in_place = Some(facts).filter(|_| problems.is_empty());
        problems
    }

    /// The files that have to wait stay as they are.
    fn waiting(&self, unknown: Unknown) -> Vec<String> {
        let files = self.conflist.iter().chain(&self.subnet_env);
        files.map(|path| format!("{}: not written, since {unknown}", path.display())).collect()
    }
}

fn note(written: bool, path: &Path) {
    if written {
        info!("wrote {}", path.display());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::claims::Claim;
    use crate::observed::{Address, Link};

    fn judged(cidr: &str, gateway: &str, verdict: Verdict) -> Judged {
        let claim = Claim {
            node: "node".into(),
            cidr: cidr.parse().unwrap(),
            gateway: gateway.parse().ok(),
            vtep: None,
            held_since: None,
        };
        Judged { claim, verdict }
    }

    fn own(cidr: &str, gateway: &str) -> Judged {
        judged(cidr, gateway, Verdict::Own)
    }

    fn other(link: u32) -> Judged {
        let gateway = "10.100.0.9";
        judged("10.0.9.0/24", gateway, Verdict::Route { gateway: gateway.parse().unwrap(), link })
    }

    /// The loopback, and links 2 and 3, which is down.
    fn observed() -> Observed {
        let link = |index, up, mtu| Link { index, name: String::new(), up, carrier: up, mtu };
        let address = |link, text: &str| {
            let subnet: IpNetwork = text.parse().unwrap();
            Address { link, local: subnet.ip(), subnet }
        };
        Observed {
            links: vec![
                link(1, false, None),
                link(2, true, Some(1500)),
                link(3, false, Some(1400)),
            ],
            addresses: vec![
                address(1, "10.99.0.1/32"),
                address(2, "10.100.0.1/24"),
                address(3, "10.101.0.1/24"),
            ],
            ..Observed::default()
        }
    }

    fn mtu(judged: &[Judged]) -> Result<u32, Unknown> {
        let mtu = uplink_mtu(judged, &observed());
        Facts::of(judged, Vec::new(), mtu).map(|facts| facts.mtu)
    }

    #[test]
    fn the_mtu_is_that_of_the_narrowest_uplink() {
        assert_eq!(mtu(&[own("10.0.1.0/24", "10.100.0.1")]), Ok(1500));
        assert_eq!(mtu(&[own("10.0.1.0/24", "10.100.0.1"), other(3)]), Ok(1400));
        assert_eq!(mtu(&[own("10.0.1.0/24", "10.101.0.1"), other(2)]), Ok(1400));
        assert_eq!(mtu(&[own("10.0.1.0/24", "none"), other(2)]), Ok(1500));
    }

    #[test]
    fn the_loopback_is_no_uplink() {
        assert_eq!(mtu(&[own("10.0.1.0/24", "10.99.0.1")]), Err(Unknown::Uplink));
        assert_eq!(mtu(&[own("10.0.1.0/24", "10.99.0.1"), other(2)]), Ok(1500));
    }

    #[test]
    fn the_ranges_are_this_nodes_own() {
        let both = [own("10.0.1.0/24", "10.100.0.1"), other(2), own("fd00:1::/64", "fd00::1")];
        let facts = Facts::of(&both, Vec::new(), Some(1430)).unwrap();
        assert_eq!(
            facts.ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.1.0/24", "fd00:1::/64"]
        );
        assert_eq!(facts.mtu, 1430);
        assert_eq!(mtu(&[other(2)]), Err(Unknown::Range));
    }

    #[test]
    fn what_cannot_be_written_is_told_each_time_and_what_is_in_place_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subnet.env");
        let mut files = NodeFiles::new(None, Some(path.clone()));
        let cluster = |ranges: &[&str]| Facts {
            ranges: vec!["10.0.1.0/24".parse().unwrap()],
            mtu: 1500,
            cluster: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        };
        let synced = Path::new("/run/cbr0/synced.json");
        for _ in 0..2 {
            assert_eq!(files.write(Err(Unknown::Range), synced).len(), 1);
            assert_eq!(files.write(Ok(cluster(&[])), synced).len(), 1);
        }
        assert!(files.write(Ok(cluster(&["10.0.0.0/14"])), synced).is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(files.write(Ok(cluster(&["10.0.0.0/14"])), synced).is_empty());
        assert!(!path.exists());
        assert!(files.write(Ok(cluster(&["10.0.0.0/15"])), synced).is_empty());
        assert!(std::fs::read_to_string(&path).unwrap().contains("10.0.0.0/15"));
        std::fs::remove_file(&path).unwrap();
        files.distrust();
        assert!(files.write(Ok(cluster(&["10.0.0.0/15"])), synced).is_empty());
        assert!(path.exists());
    }
}
