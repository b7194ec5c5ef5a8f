//! What is written to the routes and nf_tables of a node.

use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use kernel::netlink::{Protocol, Reply, Socket};
use kernel::route::TABLE_MAIN;
use nix::libc;

use super::{PATIENCE, cidr, wait_readable};

const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const NFNLGRP_NFTABLES: u32 = 7;

/// Everything written to routes and nf_tables of a node since the monitor was made.
pub(crate) struct Monitor {
    pub(super) routes: Socket,
    tables: Socket,
    seen: Vec<(bool, IpNetwork)>,
}

impl Monitor {
    /// Starts to listen in this thread's namespace.
    pub(super) fn open() -> Self {
        let mut routes = Socket::open(Protocol::Route).unwrap();
        routes.subscribe(RTNLGRP_IPV4_ROUTE).unwrap();
        routes.subscribe(RTNLGRP_IPV6_ROUTE).unwrap();
        let mut tables = Socket::open(Protocol::Netfilter).unwrap();
        tables.subscribe(NFNLGRP_NFTABLES).unwrap();
        Self { routes, tables, seen: Vec::new() }
    }

    /// What was written since the last call: `+destination` or `-destination`, and `nft`.
    pub(crate) fn writes(&mut self) -> Vec<String> {
        self.collect();
        let mut writes: Vec<String> = self
            .seen
            .drain(..)
            .map(|(new, to)| format!("{}{to}", if new { '+' } else { '-' }))
            .collect();
        if self.tables.events().unwrap().is_none_or(|events| !events.is_empty()) {
            writes.push("nft".into());
        }
        writes
    }

    /// Waits until a route to the destination was made or changed.
    pub(crate) fn wait_for_new(&mut self, destination: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.collect();
            if self.seen.contains(&(true, cidr(destination))) {
                return;
            }
            assert!(Instant::now() < end, "no route to {destination} was made: {:?}", self.seen);
            wait_readable(&self.routes, end);
        }
    }

    /// Waits until at least so many routes were written.
    pub(crate) fn wait_for_count(&mut self, count: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.collect();
            if self.seen.len() >= count {
                return;
            }
            assert!(Instant::now() < end, "only {:?} were written", self.seen);
            wait_readable(&self.routes, end);
        }
    }

    /// Takes in what comes until then.
    pub(crate) fn listen(&mut self, until: Instant) {
        while Instant::now() < until {
            wait_readable(&self.routes, until);
            self.collect();
        }
    }

    fn collect(&mut self) {
        let events = self.routes.events().unwrap().expect("the monitor overflowed");
        self.seen.extend(events.iter().filter_map(pod_route));
    }
}

/// Whether a route event is about a new route, and its destination; none for routes of links, in
/// tables other than main, or to anything but Pods.
fn pod_route(event: &Reply) -> Option<(bool, IpNetwork)> {
    let destination = event.attributes(12).get(libc::RTA_DST)?;
    let address: IpAddr = match destination.value {
        [a, b, c, d] => [*a, *b, *c, *d].into(),
        value => <[u8; 16]>::try_from(value).ok()?.into(),
    };
    let destination = IpNetwork::new(address, event.u8_at(1)).ok()?;
    let pods = destination.prefix() == if address.is_ipv4() { 24 } else { 64 };
    let main = u32::from(event.u8_at(4)) == TABLE_MAIN;
    let kernels = event.u8_at(5) == libc::RTPROT_KERNEL;
    (pods && main && !kernels).then_some((event.kind == libc::RTM_NEWROUTE, destination))
}
