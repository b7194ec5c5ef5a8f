//! Many nodes on one switch: one joins and leaves, and all start at once.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::route_events::RouteEvents;
use cbr0_tests::topology::{self, Topology, UPLINK, etcd_addresses, node_addresses};
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::route::{self, Route, TABLE_MAIN};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::alone::late;
use super::daemon::{Daemon, PATIENCE, PROTOCOL, forget};
use super::milliseconds;
use super::store::{Claim, PREFIX, Store};
use crate::record::Unit;
use crate::subject::{Case, Lane, Sample};
use crate::suite::{FLOOR, OURS};

const NETWORK: &str = "10.0.0.0/14";
/// What is measured.
pub(crate) const JOIN: &str = "join";
pub(crate) const LEAVE: &str = "leave";
/// How the comparison of joins is called.
pub(crate) const JOINS: &str = "a node joins and leaves";

/// Both, with a cluster of so many nodes.
pub(crate) fn cases(nodes: u8) -> Vec<Case> {
    let unit = Unit::Milliseconds;
    let joins = move || Ok(vec![bare_joins(nodes)?, joins(nodes)?]);
    let starts = move || Ok(vec![starts(nodes)?]);
    vec![
        Case { title: format!("{JOINS}: {} others", nodes - 1), unit, prepare: Box::new(joins) },
        Case {
            title: format!("{nodes} nodes start at once on an empty etcd"),
            unit,
            prepare: Box::new(starts),
        },
    ]
}

/// The nodes with their etcd, and who listens to their routes.
struct Fleet {
    nodes: Vec<Node>,
    store: Store,
    events: RouteEvents,
    _topology: (Node, Node, Node, Node),
}

impl Fleet {
    fn build(count: u8) -> Result<Self> {
        let Topology { switch, router, outside, nodes } = Topology::create(count)?;
        let host = Node::create("etcd")?;
        topology::attach(&switch, &host, etcd_addresses())?;
        let store = Store::start(&host, etcd_addresses()[0], NETWORK)?;
        let events = RouteEvents::open(nodes.iter().map(Node::netns), PROTOCOL)?;
        Ok(Fleet { nodes, store, events, _topology: (switch, router, outside, host) })
    }

    fn start(&self) -> Result<Vec<Daemon>> {
        let start = |(number, node): (u8, &Node)| {
            Daemon::start(node, node_addresses(number)[0], self.store.endpoint())
        };
        (1..).zip(&self.nodes).map(start).collect()
    }

    /// The moment when every node had a route to every other's range.
    fn meshed(&self) -> Result<Instant> {
        let mut there = HashSet::new();
        let wanted = self.nodes.len() * (self.nodes.len() - 1);
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

    /// Until the route is there, or gone, on each node, in milliseconds.
    fn on_all(&self, what: &'static str, claim: &Claim, begun: Instant) -> Result<Vec<Sample>> {
        let there = what == JOIN;
        let mut samples = Vec::new();
        let mut waiting: HashSet<_> = (0..self.nodes.len()).collect();
        let all = self.events.wait(PATIENCE, |seen| {
            if seen.destination == claim.range && seen.there == there && waiting.remove(&seen.place)
            {
                samples.push(Sample { what, value: milliseconds(begun, seen.at) });
            }
            waiting.is_empty()
        })?;
        all.map(|_| samples).ok_or_else(|| late("a route on all nodes"))
    }

    /// A node joins and leaves, as far as the others can see.
    fn join_and_leave(&mut self, claim: &Claim) -> Result<Vec<Sample>> {
        let begun = Instant::now();
        self.store.claim(&[*claim])?;
        let mut samples = self.on_all(JOIN, claim, begun)?;
        let begun = Instant::now();
        self.store.leave(claim)?;
        samples.extend(self.on_all(LEAVE, claim, begun)?);
        Ok(samples)
    }

    /// As if they had never been started.
    fn reset(&mut self) -> Result<()> {
        self.store.wipe()?;
        for node in &self.nodes {
            let mut rtnl = node.rtnl()?;
            let routes = rtnl.routes(TABLE_MAIN)?;
            let ours = routes.iter().filter(|route| route.protocol == PROTOCOL);
            rtnl.request_all(&ours.map(route::delete).collect::<Vec<_>>())?;
            forget(node)?;
        }
        Ok(())
    }
}

/// The claim of the node that joins and leaves.
fn joining() -> Result<Claim> {
    let range = IpNetwork::new(Ipv4Addr::new(10, 3, 200, 0).into(), 24);
    let range = range.map_err(|error| LabError::Wrong(error.to_string()))?;
    Ok(Claim { range, gateway: Ipv4Addr::new(10, 100, 0, 200) })
}

/// The others run the route syncer.
fn joins(nodes: u8) -> Result<Lane> {
    let mut fleet = Fleet::build(nodes - 1)?;
    let daemons = fleet.start()?;
    fleet.meshed()?;
    let claim = joining()?;
    let turn = move || {
        let _running = &daemons;
        fleet.join_and_leave(&claim)
    };
    Ok(Lane { suite: OURS.to_owned(), turn: Box::new(turn) })
}

/// The others are watched for by one thread that does nothing but make the route.
fn bare_joins(nodes: u8) -> Result<Lane> {
    let mut fleet = Fleet::build(nodes - 1)?;
    let claim = joining()?;
    let watchers = Watchers::start(&fleet, &claim)?;
    let turn = move || {
        let _running = &watchers;
        fleet.join_and_leave(&claim)
    };
    Ok(Lane { suite: FLOOR.to_owned(), turn: Box::new(turn) })
}

/// From the start of the first until the last route is there.
fn starts(nodes: u8) -> Result<Lane> {
    let mut fleet = Fleet::build(nodes)?;
    let turn = move || {
        let begun = Instant::now();
        let daemons = fleet.start()?;
        let end = fleet.meshed()?;
        drop(daemons);
        fleet.reset()?;
        // Those deletions are not of the next start.
        let mut left = fleet.nodes.len() * (fleet.nodes.len() - 1);
        let last = fleet.events.wait(PATIENCE, |seen| {
            left -= usize::from(!seen.there);
            left == 0
        })?;
        last.ok_or_else(|| late("the end of all routes"))?;
        Ok(vec![Sample { what: "full mesh", value: milliseconds(begun, end) }])
    };
    Ok(Lane { suite: OURS.to_owned(), turn: Box::new(turn) })
}

/// A watch for each node, and a thread that reads them all.
struct Watchers {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// One node's watch, and how its route is made.
struct Watcher {
    stream: BufReader<TcpStream>,
    rtnl: Rtnl,
    route: Route,
}

impl Watchers {
    fn start(fleet: &Fleet, claim: &Claim) -> Result<Self> {
        let watcher = |node: &Node| {
            let mut rtnl = node.rtnl()?;
            let uplink = rtnl.link_by_name(UPLINK)?.map_or(0, |link| link.index);
            let route = Route::new(claim.range).via(claim.gateway.into()).dev(uplink);
            let route = Route { protocol: PROTOCOL, ..route };
            let stream = fleet.store.connect()?.watch(&format!("{PREFIX}subnets/"))?;
            Ok(Watcher { stream, rtnl, route })
        };
        let mut watchers = fleet.nodes.iter().map(watcher).collect::<Result<Vec<_>>>()?;
        let (stop, stopped) = UnixStream::pair().context(|| "make a pair of sockets".to_owned())?;
        let thread = thread::spawn(move || while step(&mut watchers, &stopped) {});
        Ok(Watchers { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether to go on. What fails shows as a route that does not come.
fn step(watchers: &mut [Watcher], stopped: &UnixStream) -> bool {
    let poll_in = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds: Vec<_> =
        watchers.iter().map(|watcher| poll_in(watcher.stream.get_ref().as_fd())).collect();
    fds.push(poll_in(stopped.as_fd()));
    if poll(&mut fds, PollTimeout::NONE).is_err() {
        return false;
    }
    let mut ready: Vec<_> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    if ready.pop() != Some(false) {
        return false;
    }
    for (watcher, _) in watchers.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
        watcher.take();
    }
    true
}

impl Watcher {
    fn take(&mut self) {
        let mut line = String::new();
        // A chunk's size, a line of JSON, the chunk's end.
        while !line.ends_with("}\n") {
            line.clear();
            if !matches!(self.stream.read_line(&mut line), Ok(read) if read > 0) {
                return;
            }
        }
        let message = if line.contains("\"type\":\"DELETE\"") {
            route::delete(&self.route)
        } else {
            route::add(&self.route)
        };
        let _ = self.rtnl.request(&message);
        let _ = self.stream.read_line(&mut line);
    }
}
