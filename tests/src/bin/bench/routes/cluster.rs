//! Nodes on one switch, and who listens to their routes.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use cbr0_tests::node::Node;
use cbr0_tests::route_events::RouteEvents;
use cbr0_tests::topology::{self, Topology, UPLINK, etcd_addresses, node_addresses};
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::neighbour;
use kernel::route::{self, TABLE_MAIN};

use super::alone::late;
use super::daemon::PATIENCE;
use super::milliseconds;
use super::store::Claim;
use crate::subject::Sample;

/// What is measured.
pub(crate) const JOIN: &str = "join";
/// What is measured.
pub(crate) const LEAVE: &str = "leave";

/// The nodes, whose routes of one protocol are told apart.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// A host for what they share.
    pub(crate) host: Node,
    pub(crate) events: RouteEvents,
    protocol: u8,
    /// How many of the nodes, the first ones, are listened to.
    heard: usize,
    _others: [Node; 3],
}

/// The claim of a node that joins and leaves.
pub(crate) fn joining() -> Result<Claim> {
    let range = IpNetwork::new(Ipv4Addr::new(10, 3, 200, 0).into(), 24);
    let range = range.map_err(|error| LabError::Wrong(error.to_string()))?;
    Ok(Claim { range, gateway: Ipv4Addr::new(10, 100, 0, 200) })
}

/// Tells every node the others' hardware addresses. The table of neighbours is one for all namespaces
/// of a machine and takes 1,024 that were asked for; what is told for ever does not count.
fn introduce(nodes: &[Node]) -> Result<()> {
    let uplink = |node: &Node| {
        let missing = || LabError::Wrong(format!("{} has no uplink", node.name));
        node.rtnl()?.link_by_name(UPLINK)?.ok_or_else(missing)
    };
    let uplinks = nodes.iter().map(uplink).collect::<Result<Vec<_>>>()?;
    for (place, node) in nodes.iter().enumerate() {
        let others = (1..).zip(&uplinks).enumerate().filter(|(other, _)| *other != place);
        let told = others.filter_map(|(_, (number, link))| {
            let address = node_addresses(number)[0];
            Some(neighbour::set_permanent(uplinks[place].index, address, link.mac?))
        });
        node.rtnl()?.request_all(&told.collect::<Vec<_>>())?;
    }
    Ok(())
}

impl Cluster {
    /// So many nodes, of which the first `heard` are listened to.
    pub(crate) fn build(count: u8, heard: u8, protocol: u8) -> Result<Self> {
        let Topology { switch, router, outside, nodes } = Topology::create(count)?;
        let host = Node::create("host")?;
        topology::attach(&switch, &host, etcd_addresses())?;
        introduce(&nodes)?;
        let heard = usize::from(heard);
        let events = RouteEvents::open(nodes.iter().take(heard).map(Node::netns), protocol)?;
        Ok(Cluster { nodes, host, events, protocol, heard, _others: [switch, router, outside] })
    }

    /// The moment when all that are listened to had a route to the range of every other node.
    pub(crate) fn meshed(&self) -> Result<Instant> {
        let mut there = HashSet::new();
        let wanted = self.heard * (self.nodes.len() - 1);
        let last = self.events.wait(PATIENCE, |seen| {
            let route = (seen.place, seen.destination);
            if seen.there {
                there.insert(route)
            } else {
                there.remove(&route)
            };
            there.len() == wanted
        })?;
        last.map(|seen| seen.at).ok_or_else(|| late("the full mesh"))
    }

    /// Until the route is there ([`JOIN`]), or gone, on each node, in milliseconds.
    pub(crate) fn on_all(
        &self,
        what: &'static str,
        claim: &Claim,
        begun: Instant,
    ) -> Result<Vec<Sample>> {
        let there = what == JOIN;
        let mut samples = Vec::new();
        let mut waiting: HashSet<_> = (0..self.heard).collect();
        let all = self.events.wait(PATIENCE, |seen| {
            if seen.destination == claim.range && seen.there == there && waiting.remove(&seen.place)
            {
                samples.push(Sample { what, value: milliseconds(begun, seen.at) });
            }
            waiting.is_empty()
        })?;
        all.map(|_| samples).ok_or_else(|| late("a route on all nodes"))
    }

    /// Removes all routes of the full mesh, and waits until that was heard.
    pub(crate) fn flush(&self) -> Result<()> {
        for node in &self.nodes {
            let mut rtnl = node.rtnl()?;
            let routes = rtnl.routes(TABLE_MAIN)?;
            let ours = routes.iter().filter(|route| route.protocol == self.protocol);
            rtnl.request_all(&ours.map(route::delete).collect::<Vec<_>>())?;
        }
        let mut left = self.heard * (self.nodes.len() - 1);
        let last = self.events.wait(PATIENCE, |seen| {
            left -= usize::from(!seen.there);
            left == 0
        })?;
        last.map(drop).ok_or_else(|| late("the end of all routes"))
    }
}
