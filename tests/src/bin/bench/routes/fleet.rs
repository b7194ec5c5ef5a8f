//! Many nodes with the route syncer: one joins and leaves, and all start at once.

use std::time::Instant;

use cbr0_tests::Result;
use cbr0_tests::node::Node;
use cbr0_tests::topology::{etcd_addresses, node_addresses};

use super::cluster::{Cluster, JOIN, LEAVE, joining};
use super::daemon::{Daemon, PROTOCOL, forget};
use super::store::{Claim, Store};
use super::watchers::Watchers;
use super::{bird, milliseconds};
use crate::record::Unit;
use crate::subject::{Case, Lane, Sample};
use crate::suite::{FLOOR, OURS};

const NETWORK: &str = "10.0.0.0/14";
/// How the comparison of joins begins.
pub(crate) const JOINS: &str = "a node joins and leaves";
/// What is measured of a start of all.
pub(crate) const MESH: &str = "full mesh";

/// Both, with a cluster of so many nodes.
pub(crate) fn cases(nodes: u8) -> Vec<Case> {
    let unit = Unit::Milliseconds;
    let joins = move || {
        let mut lanes = vec![bare_joins(nodes)?, joins(nodes)?];
        lanes.extend(bird::joins(nodes)?);
        Ok(lanes)
    };
    let starts = move || {
        let mut lanes = vec![starts(nodes)?];
        lanes.extend(bird::starts(nodes)?);
        Ok(lanes)
    };
    vec![
        Case { title: format!("{JOINS}: {} others", nodes - 1), unit, prepare: Box::new(joins) },
        Case {
            title: format!("{nodes} nodes start at once, knowing nothing"),
            unit,
            prepare: Box::new(starts),
        },
    ]
}

/// The nodes with their etcd.
struct Fleet {
    cluster: Cluster,
    store: Store,
}

impl Fleet {
    fn build(count: u8) -> Result<Self> {
        let cluster = Cluster::build(count, count, PROTOCOL)?;
        let store = Store::start(&cluster.host, etcd_addresses()[0], NETWORK)?;
        Ok(Fleet { cluster, store })
    }

    fn start(&self) -> Result<Vec<Daemon>> {
        let start = |(number, node): (u8, &Node)| {
            Daemon::start(node, node_addresses(number)[0], self.store.endpoint())
        };
        (1..).zip(&self.cluster.nodes).map(start).collect()
    }

    /// A node joins and leaves, as far as the others can see.
    fn join_and_leave(&mut self, claim: &Claim) -> Result<Vec<Sample>> {
        let begun = Instant::now();
        self.store.claim(&[*claim])?;
        let mut samples = self.cluster.on_all(JOIN, claim, begun)?;
        let begun = Instant::now();
        self.store.leave(claim)?;
        samples.extend(self.cluster.on_all(LEAVE, claim, begun)?);
        Ok(samples)
    }
}

/// The others run the route syncer.
fn joins(nodes: u8) -> Result<Lane> {
    let mut fleet = Fleet::build(nodes - 1)?;
    let daemons = fleet.start()?;
    fleet.cluster.meshed()?;
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
    let watchers = Watchers::start(&fleet.cluster.nodes, &fleet.store, &claim)?;
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
        let end = fleet.cluster.meshed()?;
        drop(daemons);
        fleet.store.wipe()?;
        fleet.cluster.nodes.iter().try_for_each(forget)?;
        fleet.cluster.flush()?;
        Ok(vec![Sample { what: MESH, value: milliseconds(begun, end) }])
    };
    Ok(Lane { suite: OURS.to_owned(), turn: Box::new(turn) })
}
