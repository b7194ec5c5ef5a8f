//! What the cluster asks of this host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::forwarding::Families;
use crate::claims::{Judged, Verdict};
use crate::observed::Observed;
use crate::status::{Report, State};

/// What the cluster asks of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The families of the claims that count.
    pub families: Families,
    /// The ranges of this node's Pods.
    pub own: BTreeSet<IpNetwork>,
    /// How many nodes there are.
    pub nodes: usize,
    /// The links that other nodes are behind: index and name.
    pub links: BTreeSet<(u32, String)>,
}

impl Situation {
    /// From the claims, for the daemon.
    pub fn of(judged: &[Judged], observed: &Observed) -> Self {
        let counts = |judged: &&Judged| !matches!(judged.verdict, Verdict::Refused(_));
        let mut situation = Self::default();
        let mut nodes = BTreeSet::new();
        for Judged { claim, verdict } in judged.iter().filter(counts) {
            let is_own = *verdict == Verdict::Own;
            situation.take(claim.cidr, is_own, claim.gateway, observed);
            nodes.insert(claim.node.as_str());
        }
        situation.nodes = nodes.len();
        situation
    }

    /// From what the daemon said, for `check`.
    pub fn of_report(report: &Report, observed: &Observed) -> Self {
        let mut situation = Self::default();
        let mut nodes = BTreeSet::new();
        for row in report.routes.iter().filter(|row| row.state != State::Refused) {
            let Ok(cidr) = row.pod_cidr.parse() else { continue };
            situation.take(cidr, row.node == report.node, row.via, observed);
            nodes.insert(row.node.as_str());
        }
        situation.nodes = nodes.len();
        situation
    }

    fn take(&mut self, cidr: IpNetwork, is_own: bool, via: Option<IpAddr>, observed: &Observed) {
        self.families.ipv4 |= cidr.is_ipv4();
        self.families.ipv6 |= cidr.is_ipv6();
        if is_own {
            self.own.insert(cidr);
            return;
        }
        let near = observed.addresses.iter();
        let near = near.filter(|address| via.is_some_and(|via| address.subnet.contains(via)));
        let named = near.map(|address| (address.link, observed.link_name(address.link)));
        self.links.extend(named);
    }
}
