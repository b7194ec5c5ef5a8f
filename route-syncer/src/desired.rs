//! The desired state: which routes this node should have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::claims::{Judged, Verdict};
use crate::difference;
use crate::observed::Route;
use crate::tunnel::Family;
use crate::tunnel::peers::Peer;
use crate::tunnel::seen::Seen;
use crate::unreachable::Obstacle;

/// Where the packets to a range go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The other node's address, or through a tunnel the neighbour that stands for the node.
    pub gateway: IpAddr,
    /// The index of the link that leads there.
    pub link: u32,
    /// Whether the gateway is a neighbour there, whatever the addresses say (`onlink`).
    pub on_link: bool,
}

/// The routes this node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The next hop by destination.
    pub routes: BTreeMap<IpNetwork, NextHop>,
    /// The ranges that are to be unreachable where no better route leads, with the metrics of the
    /// routes that make them so. A destination is here or among `routes`, not both.
    pub unreachable: BTreeMap<IpNetwork, u32>,
    /// The ranges of the cluster that are not made unreachable, though they should be, and why.
    pub obstacles: BTreeMap<IpNetwork, Obstacle>,
    /// Routes that are left as they are where they exist: the claim stands, but no live link leads
    /// to its gateway now, so the route can neither be made nor be called wrong.
    pub kept: BTreeSet<(IpNetwork, IpAddr)>,
    /// The other ends of the tunnel, for the routes that go through it.
    pub peers: BTreeSet<Peer>,
}

impl Desired {
    /// Folds judged claims into one table. Claims that were accepted do not overlap, so no
    /// destination comes twice. Without a device in `tunnel` nothing can go through it.
    pub fn fold(judged: &[Judged], tunnel: &Seen) -> Self {
        let mut desired = Self::default();
        for Judged { claim, verdict } in judged {
            match *verdict {
                Verdict::Route { gateway, link } => {
                    desired.routes.insert(claim.cidr, NextHop { gateway, link, on_link: false });
                }
                Verdict::OffLink { gateway } => {
                    desired.kept.insert((claim.cidr, gateway));
                }
                Verdict::Tunnel { gateway, vtep } => {
                    let peer = Peer::of(claim.cidr, vtep, gateway);
                    match tunnel.devices.get(&Family::of(gateway)) {
                        Some(device) => desired.tunnel(claim.cidr, peer, device.index),
                        None => desired.keep_any(claim.cidr, peer),
                    }
                }
                Verdict::Own | Verdict::Refused(_) => {}
            }
        }
        desired
    }

    /// Lets a range be reached through the tunnel's device of this index.
    pub fn tunnel(&mut self, range: IpNetwork, peer: Peer, link: u32) {
        let next_hop = NextHop { gateway: peer.neighbour, link, on_link: true };
        self.routes.insert(range, next_hop);
        self.peers.insert(peer);
    }

    /// Leaves the route to a range as it is, be it direct or through the tunnel.
    fn keep_any(&mut self, range: IpNetwork, peer: Peer) {
        self.kept.extend([(range, peer.neighbour), (range, peer.remote)]);
    }

    /// Whether a route of the table is to this destination.
    pub fn leads_to(&self, destination: IpNetwork) -> bool {
        self.routes.contains_key(&destination) || self.unreachable.contains_key(&destination)
    }

    /// The route of the table to this destination, made by `protocol`.
    pub fn route_to(&self, destination: IpNetwork, protocol: u8) -> Option<Route> {
        let through = |&next_hop| difference::wanted(destination, next_hop, protocol);
        let nowhere = |&metric| difference::unreachable(destination, metric, protocol);
        let route = self.routes.get(&destination).map(through);
        route.or_else(|| self.unreachable.get(&destination).map(nowhere))
    }

    /// Whether a route that came or went may have disturbed the table's routes, which `own` makes.
    pub fn is_disturbed(&self, route: &Route, gone: bool, own: u8) -> bool {
        let wanted = self.route_to(route.destination, own);
        if gone || route.protocol != own {
            wanted.is_some()
        } else {
            wanted.as_ref() != Some(route)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OWN: u8 = 214;

    #[test]
    fn only_what_is_not_as_wanted_disturbs() {
        let next_hop = NextHop { gateway: [10, 100, 0, 2].into(), link: 2, on_link: false };
        let wanted: IpNetwork = "10.0.2.0/24".parse().unwrap();
        let (nowhere, other) = ("10.0.1.0/24".parse().unwrap(), "10.0.9.0/24".parse().unwrap());
        let desired = Desired {
            routes: BTreeMap::from([(wanted, next_hop)]),
            unreachable: BTreeMap::from([(nowhere, 4096)]),
            ..Desired::default()
        };
        let disturbs = |to, metric, protocol, gone| {
            let route = difference::wanted(to, next_hop, protocol);
            desired.is_disturbed(&Route { metric, ..route }, gone, OWN)
        };
        assert!(!disturbs(wanted, 0, OWN, false), "our own doing");
        assert!(!disturbs(other, 0, OWN, true), "our own doing");
        assert!(disturbs(wanted, 0, OWN, true));
        assert!(disturbs(wanted, 7, OWN, false) && disturbs(other, 0, OWN, false));
        assert!(disturbs(nowhere, 4096, OWN, false), "it leads somewhere");
        let made = difference::unreachable(nowhere, 4096, OWN);
        assert!(!desired.is_disturbed(&made, false, OWN) && desired.is_disturbed(&made, true, OWN));
        assert!(disturbs(wanted, 0, 4, false) && disturbs(wanted, 9, 4, true));
        assert!(!disturbs(other, 0, 4, false));
    }
}
