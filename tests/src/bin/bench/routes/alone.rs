//! One node with an etcd of thousands of claims on the other end of its uplink.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use cbr0_tests::node::Node;
use cbr0_tests::route_events::{RouteEvents, Seen};
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::link::{Veth, VethPeer};
use kernel::route::{self, Route, TABLE_MAIN};
use kernel::{MacAddress, Rtnl, address, link};

use super::daemon::{Daemon, PATIENCE, PROTOCOL};
use super::store::{Claim, Store};

/// The network of all claims; the node's own range is somewhere in it.
const NETWORK: &str = "10.64.0.0/10";
const FIRST_RANGE: Ipv4Addr = Ipv4Addr::new(10, 64, 16, 0);
/// The uplink's network holds an address for each claim, and others to which they may move.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 192, 0, 1);
const ETCD: Ipv4Addr = Ipv4Addr::new(10, 192, 0, 2);
const UPLINK_PREFIX: u8 = 12;
const FIRST_GATEWAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 193, 0, 0), Ipv4Addr::new(10, 194, 0, 0)];
const UPLINK: &str = "eth0";

/// The node, the etcd, and who listens to the node's routes.
pub(crate) struct Alone {
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) events: RouteEvents,
    pub(crate) claims: Vec<Claim>,
    pub(crate) uplink: u32,
    /// Where etcd is; its files go with it.
    _host: Node,
}

/// The claim of this number, at its first or its second gateway.
pub(crate) fn claim(number: u32, gateway: usize) -> Result<Claim> {
    let network = Ipv4Addr::from_bits(FIRST_RANGE.to_bits() + (number << 8));
    let range = IpNetwork::new(network.into(), 24);
    let range = range.map_err(|error| LabError::Wrong(error.to_string()))?;
    let gateway = Ipv4Addr::from_bits(FIRST_GATEWAYS[gateway].to_bits() + number);
    Ok(Claim { range, gateway })
}

impl Alone {
    /// A node with nothing, and an etcd with claims.
    pub(crate) fn build(claims: u32) -> Result<Self> {
        let (node, host) = (Node::create("node")?, Node::create("etcd")?);
        let peer = VethPeer {
            namespace: host.netns(),
            name: UPLINK,
            mac: Some(MacAddress([2, 0, 0, 0, 0, 2])),
        };
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let wire = Veth { name: UPLINK, mac, master: None, mtu: None, peer };
        node.rtnl()?.request(&wire.create())?;
        let uplink = address_uplink(&node, OWN)?;
        address_uplink(&host, ETCD)?;
        let mut store = Store::start(&host, ETCD.into(), NETWORK)?;
        let claims = (0..claims).map(|number| claim(number, 0)).collect::<Result<Vec<_>>>()?;
        store.claim(&claims)?;
        let events = RouteEvents::open([node.netns()], PROTOCOL)?;
        Ok(Alone { node, store, events, claims, uplink, _host: host })
    }

    /// The same, with a route syncer that has made its routes and has read etcd.
    pub(crate) fn synced(claims: u32) -> Result<(Self, Daemon)> {
        let alone = Self::build(claims)?;
        let daemon = alone.start()?;
        alone.all_there()?;
        Ok((alone, daemon))
    }

    /// Starts a route syncer.
    pub(crate) fn start(&self) -> Result<Daemon> {
        Daemon::start(&self.node, OWN.into(), self.store.endpoint())
    }

    /// The routes to all claims.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.claims.iter().map(|claim| Route {
            protocol: PROTOCOL,
            ..Route::new(claim.range).via(claim.gateway.into()).dev(self.uplink)
        })
    }

    /// Adds all routes, as fast as the kernel takes them.
    pub(crate) fn add_all(&self, rtnl: &mut Rtnl) -> Result<()> {
        let messages: Vec<_> = self.routes().map(|route| route::add(&route)).collect();
        Ok(rtnl.request_all(&messages)?)
    }

    /// Removes all routes, and forgets what was heard until then.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut rtnl = self.node.rtnl()?;
        let ours = rtnl.routes(TABLE_MAIN)?.into_iter().filter(|route| route.protocol == PROTOCOL);
        let ours: Vec<_> = ours.collect();
        let messages: Vec<_> = ours.iter().map(route::delete).collect();
        rtnl.request_all(&messages)?;
        self.gone(ours.len())
    }

    /// Waits until so many deletions were heard of.
    pub(crate) fn gone(&self, mut count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let last = self.events.wait(PATIENCE, |seen| {
            count -= usize::from(!seen.there && count > 0);
            count == 0
        })?;
        last.map(drop).ok_or_else(|| late("the end of all routes"))
    }

    /// The moment when the last route came that was missing, with all missing now.
    pub(crate) fn all_there(&self) -> Result<Instant> {
        let mut missing: HashSet<_> = self.claims.iter().map(|claim| claim.range).collect();
        let last = self.events.wait(PATIENCE, |seen| {
            missing.remove(&seen.destination);
            missing.is_empty()
        })?;
        last.map(|seen| seen.at).ok_or_else(|| late(&format!("{} routes", missing.len())))
    }

    /// The moment when the deletion of all routes had been heard of and all were back, for good: who
    /// flushes goes on until none is left, and one that is back at once goes again.
    pub(crate) fn all_back(&self) -> Result<Instant> {
        let mut to_go: HashSet<_> = self.claims.iter().map(|claim| claim.range).collect();
        let mut away = HashSet::new();
        loop {
            let last = self.events.wait(PATIENCE, |seen: &Seen| {
                if seen.there {
                    away.remove(&seen.destination);
                } else {
                    to_go.remove(&seen.destination);
                    away.insert(seen.destination);
                }
                to_go.is_empty() && away.is_empty()
            })?;
            let Some(last) = last else {
                return Err(late(&format!("{} routes", to_go.len() + away.len())));
            };
            if self.has_all()? {
                return Ok(last.at);
            }
        }
    }

    fn has_all(&self) -> Result<bool> {
        let routes = self.node.rtnl()?.routes(TABLE_MAIN)?;
        let to_claims = routes.iter().filter(|it| it.protocol == PROTOCOL && it.gateway.is_some());
        Ok(to_claims.count() >= self.claims.len())
    }

    /// Waits until a route leads to this claim's range by its gateway.
    pub(crate) fn leads(&self, claim: &Claim) -> Result<Instant> {
        let is_it = |seen: &Seen| {
            seen.there
                && seen.destination == claim.range
                && seen.gateway == Some(IpAddr::V4(claim.gateway))
        };
        let seen = self.events.wait(PATIENCE, is_it)?;
        seen.map(|seen| seen.at).ok_or_else(|| late("a route"))
    }

    /// Takes the uplink down and up; IPv4 routes go with it, unheard.
    pub(crate) fn flap(&self) -> Result<Instant> {
        let mut rtnl = self.node.rtnl()?;
        rtnl.request(&link::set_down(self.uplink))?;
        rtnl.request(&link::set_up(self.uplink))?;
        Ok(Instant::now())
    }
}

/// What is waited for did not come.
pub(crate) fn late(what: &str) -> LabError {
    LabError::Timeout { what: what.to_owned(), deadline: PATIENCE }
}

fn address_uplink(node: &Node, own: Ipv4Addr) -> Result<u32> {
    let mut rtnl = node.rtnl()?;
    let missing = || LabError::Wrong(format!("{UPLINK} is gone"));
    let index = rtnl.link_by_name(UPLINK)?.ok_or_else(missing)?.index;
    rtnl.request(&link::set_up(index))?;
    let own = IpNetwork::new(own.into(), UPLINK_PREFIX);
    let own = own.map_err(|error| LabError::Wrong(error.to_string()))?;
    rtnl.request(&address::add(index, own, false))?;
    Ok(index)
}
