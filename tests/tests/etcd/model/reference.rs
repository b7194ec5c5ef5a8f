//! The model: which routes must be there, worked out the simplest way from all that happened.
//!
//! It shares no rule with the daemon's code. Nodes and subnets are numbers, and the moment of a
//! write is a count of writes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cbr0_tests::topology::{node_addresses, pod_ranges};
use ipnetwork::IpNetwork;

use super::step::{Edit, Write};

/// How much greater the number is that a node's other address is made of.
const MOVED: u8 = 20;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Via(IpAddr),
    Nowhere,
}

pub(crate) type Table = BTreeMap<IpNetwork, To>;

/// That a node has a subnet, or that it has left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) node: u8,
    pub(crate) moved: bool,
    /// The write that said so.
    since: u64,
}

/// The world as it must be seen by node 1.
pub(crate) struct Model {
    writes: u64,
    /// What is in etcd, by subnet.
    leases: BTreeMap<u8, Lease>,
    left: BTreeMap<u8, Lease>,
    /// Whom the daemon knows, by subnet: those that are held, too.
    known: BTreeMap<u8, Lease>,
    /// Whether this daemon has read etcd.
    has_read: bool,
    pub(crate) etcd_up: bool,
    pub(crate) link_up: bool,
    /// Our routes.
    pub(crate) ours: Table,
    /// The foreign routes to destinations that are or may be ours.
    pub(crate) foreign: Table,
}

impl Model {
    /// A node that has just joined.
    pub(crate) fn new() -> Self {
        Self {
            writes: 0,
            leases: BTreeMap::new(),
            left: BTreeMap::new(),
            known: BTreeMap::new(),
            has_read: true,
            etcd_up: true,
            link_up: true,
            ours: Table::new(),
            foreign: Table::new(),
        }
    }

    pub(crate) fn reaches_etcd(&self) -> bool {
        self.etcd_up && self.link_up
    }

    pub(crate) fn write(&mut self, write: Write) {
        self.writes += 1;
        match write {
            Write::Claim { node, subnet, moved } => {
                self.left.remove(&subnet);
                self.leases.insert(subnet, Lease { node, moved, since: self.writes });
            }
            Write::Vanish { subnet } => drop(self.leases.remove(&subnet)),
            Write::Leave { subnet } => {
                if let Some(holder) = self.holder(subnet) {
                    self.leases.remove(&subnet);
                    self.left.insert(subnet, Lease { since: self.writes, ..holder });
                }
            }
            Write::Odd { .. } | Write::OddGone { .. } | Write::Compact => {}
        }
    }

    /// Who can leave a subnet: who has it, or was seen to have had it last.
    pub(crate) fn holder(&self, subnet: u8) -> Option<Lease> {
        self.leases.get(&subnet).or_else(|| self.known.get(&subnet)).copied()
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Flush => self.ours.clear(),
            Edit::Delete(to) => drop(self.ours.remove(&to)),
            Edit::Foreign(to) => {
                self.ours.remove(&to);
                self.foreign.insert(to, To::Via(stranger(to, 1)));
            }
            Edit::ForeignGone(to) => drop(self.foreign.remove(&to)),
            Edit::Bend(to) => drop(self.ours.insert(to, To::Via(stranger(to, 2)))),
        }
    }

    /// Whether an edit can be made, as things are.
    pub(crate) fn allows(&self, edit: Edit) -> bool {
        match edit {
            Edit::Flush | Edit::Delete(_) => true,
            Edit::Foreign(_) => self.link_up,
            Edit::ForeignGone(to) => self.foreign.contains_key(&to),
            Edit::Bend(to) => self.ours.contains_key(&to),
        }
    }

    /// The uplink goes: the routes by it are gone, in both families.
    pub(crate) fn lose_link(&mut self) {
        self.link_up = false;
        self.ours.retain(|_, way| *way == To::Nowhere);
        self.foreign.clear();
    }

    /// Another daemon begins.
    pub(crate) fn restart(&mut self) {
        self.has_read = false;
    }

    /// What a daemon makes of all that: the routes of ours after it has acted.
    pub(crate) fn settle(&mut self) {
        if self.reaches_etcd() {
            self.read();
        }
        // Who has read nothing takes no route away.
        if self.has_read {
            self.ours.clear();
        }
        let known = self.known.iter().filter(|_| self.link_up);
        let routes = known.flat_map(|(&subnet, lease)| {
            let gateways = addresses(lease.node, lease.moved).map(To::Via);
            ranges(subnet).into_iter().zip(gateways)
        });
        let routes = routes.chain(NOWHERE.map(|range| (range.parse().unwrap(), To::Nowhere)));
        self.ours.extend(routes.filter(|(to, _)| !self.foreign.contains_key(to)));
    }

    /// The daemon reads etcd, or hears of the last write.
    fn read(&mut self) {
        self.has_read = true;
        let held = self.known.iter().filter(|&(subnet, lease)| !self.is_gone(*subnet, lease));
        let mut known: BTreeMap<u8, Lease> =
            held.map(|(subnet, lease)| (*subnet, *lease)).collect();
        known.extend(&self.leases);
        self.known = known;
    }

    /// A key that is missing says nothing. What does: that the node left, or has another subnet now.
    fn is_gone(&self, subnet: u8, lease: &Lease) -> bool {
        let speaks = |other: &Lease| other.node == lease.node && other.since > lease.since;
        self.left.get(&subnet).is_some_and(speaks) || self.leases.values().any(speaks)
    }
}

/// This node's own ranges, and the cluster's.
const NOWHERE: [&str; 4] = ["10.0.1.0/24", "fd00:0:0:1::/64", "10.0.0.0/14", "fd00::/48"];

pub(crate) fn ranges(subnet: u8) -> [IpNetwork; 2] {
    pod_ranges(subnet)
}

pub(crate) fn addresses(node: u8, moved: bool) -> [IpAddr; 2] {
    node_addresses(if moved { node + MOVED } else { node })
}

/// A neighbour that is no node.
pub(crate) fn stranger(to: IpNetwork, number: u8) -> IpAddr {
    node_addresses(100 + number)[usize::from(to.is_ipv6())]
}
