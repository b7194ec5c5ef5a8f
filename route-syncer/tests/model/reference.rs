//! The model: which routes must be there, worked out the simplest way from all that happened.
//!
//! It shares no rule with the daemon's code. Ranges are pairs of numbers here, and what the kernel
//! does by itself is written down as facts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::step::{sane_addresses, sane_range};

pub(crate) use Family::{V4, V6};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { V4 } else { V6 }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) pod_cidrs: Vec<IpNetwork>,
}

impl Node {
    /// A node as it should be: number 1 is this one.
    pub(crate) fn sane(number: u8) -> Self {
        let pod_cidrs = vec![sane_range(number, V4), sane_range(number, V6)];
        Self { number, addresses: sane_addresses(number), pod_cidrs }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cidrs: Vec<String> = self.pod_cidrs.iter().map(ToString::to_string).collect();
        write!(f, "node{} at {:?} with {}", self.number, self.addresses, cidrs.join(" "))
    }
}

/// A table in words.
pub(crate) fn words(table: &Table) -> String {
    let rows: Vec<String> = table.iter().map(|(to, way)| format!("{to} {way:?}")).collect();
    rows.join("\n  ")
}

/// Where a route of ours leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Via(IpAddr),
    Nowhere,
}

pub(crate) type Table = BTreeMap<IpNetwork, To>;

/// What the daemon's node is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) up: bool,
    pub(crate) has_v4: bool,
    pub(crate) has_v6: bool,
    /// Our routes.
    pub(crate) ours: Table,
    /// The foreign routes, to destinations of ours.
    pub(crate) foreign: BTreeMap<IpNetwork, IpAddr>,
    baseline: Vec<Node>,
    listed: Vec<Node>,
    held: Vec<Node>,
    /// Those that a list lacked which was not believed.
    doubted: Vec<Node>,
    /// The list on the disk.
    disk: Option<Vec<Node>>,
    has_list: bool,
    is_informed: bool,
}

impl Model {
    /// A node with its uplink, where no daemon ever ran.
    pub(crate) fn new() -> Self {
        Self {
            up: true,
            has_v4: true,
            has_v6: true,
            ours: Table::new(),
            foreign: BTreeMap::new(),
            baseline: Vec::new(),
            listed: Vec::new(),
            held: Vec::new(),
            doubted: Vec::new(),
            disk: None,
            has_list: false,
            is_informed: false,
        }
    }

    /// A daemon starts: it knows the list on the disk, and nodes by the routes of others than those.
    pub(crate) fn start(&mut self) {
        self.has_list = false;
        self.is_informed = self.disk.is_some();
        self.baseline = self.disk.clone().unwrap_or_default();
        let mut strays: BTreeMap<IpAddr, Vec<IpNetwork>> = BTreeMap::new();
        for (to, way) in &self.ours {
            if let To::Via(gateway) = way
                && !self.baseline.iter().any(|node| node.pod_cidrs.contains(to))
            {
                strays.entry(*gateway).or_default().push(*to);
            }
        }
        for (place, (gateway, pod_cidrs)) in strays.into_iter().enumerate() {
            let number = 200 + place as u8;
            self.baseline.push(Node { number, addresses: vec![gateway], pod_cidrs });
        }
        self.listed = self.baseline.clone();
        self.held = Vec::new();
        self.doubted = Vec::new();
    }

    pub(crate) fn remember(&mut self, nodes: &[Node], held: &[Node]) {
        self.is_informed = true;
        let is_told = |node: &Node| {
            nodes.iter().chain(held).any(|told| {
                told.number == node.number
                    || node.pod_cidrs.iter().any(|cidr| told.pod_cidrs.contains(cidr))
            })
        };
        self.listed.retain(|node| !is_told(node));
        self.listed.extend_from_slice(nodes);
        self.held = held.to_vec();
        self.baseline = [&self.listed[..], held].concat();
    }

    pub(crate) fn list(&mut self, nodes: &[Node], held: &[Node], proven: bool) {
        self.has_list = true;
        self.is_informed = true;
        let known = [nodes, held].concat();
        let is_missing = |node: &&Node| {
            !known.iter().any(|other| {
                other.number == node.number
                    || other.addresses.iter().any(|address| node.addresses.contains(address))
                    || other.pod_cidrs.iter().any(|cidr| node.pod_cidrs.contains(cidr))
            })
        };
        let others: Vec<&Node> = self
            .baseline
            .iter()
            .filter(|node| node.number != 1 && !node.pod_cidrs.is_empty())
            .collect();
        let lost = others.iter().copied().filter(is_missing).count();
        let is_too_much = known.is_empty() || (others.len() >= 4 && lost * 2 > others.len());
        if proven {
            // What went since the last list is gone, and what that one lacked is still in doubt.
            self.doubted.retain(|node| is_missing(&node));
            self.baseline = [&known[..], &self.doubted].concat();
        } else {
            let doubted = self.baseline.iter().filter(|_| is_too_much).filter(is_missing);
            let doubted: Vec<Node> = doubted.cloned().collect();
            if doubted.is_empty() {
                self.baseline.clone_from(&known);
            }
            self.doubted = doubted;
        }
        let all_held = [held, &self.doubted].concat();
        self.listed = nodes.to_vec();
        self.held = all_held;
        self.disk = Some(self.baseline.clone());
    }

    /// What a daemon makes of all that: the routes of ours after it has acted.
    pub(crate) fn settle(&mut self) {
        let mut wanted = Table::new();
        let mut kept = Vec::new();
        for (cidr, gateway) in self.accepted() {
            if self.reaches(gateway) {
                wanted.insert(cidr, To::Via(gateway));
            } else {
                kept.push((cidr, To::Via(gateway)));
            }
        }
        for own in self.own() {
            wanted.insert(own, To::Nowhere);
        }
        if self.is_informed {
            for cluster in CLUSTER {
                wanted.insert(cluster.parse().unwrap(), To::Nowhere);
            }
        }
        wanted.retain(|to, way| *way == To::Nowhere || !self.foreign.contains_key(to));
        // Nothing goes before there was a list, and what cannot be made anew now stays as it is.
        let stays = |to: &IpNetwork, way: &To| {
            !self.foreign.contains_key(to) && (!self.has_list || kept.contains(&(*to, *way)))
        };
        self.ours.retain(|to, way| stays(to, way));
        self.ours.extend(wanted);
    }

    /// The claims that become routes, in the order of the list; those of held nodes come last.
    fn accepted(&self) -> Vec<(IpNetwork, IpAddr)> {
        let mut accepted: Vec<(IpNetwork, IpAddr)> = Vec::new();
        let own = self.own();
        for node in self.listed.iter().chain(&self.held).filter(|node| node.number != 1) {
            for &cidr in &node.pod_cidrs {
                let mut gateways = node.addresses.iter();
                let Some(&gateway) =
                    gateways.find(|gateway| family(**gateway) == family(cidr.ip()))
                else {
                    continue;
                };
                let is_free = accepted.iter().all(|(other, _)| !meet(*other, cidr))
                    && own.iter().all(|own| !meet(*own, cidr));
                let is_self = sane_addresses(1).contains(&gateway) && self.has(family(gateway));
                if is_free && is_a_pod_range(cidr) && !is_self {
                    accepted.push((cidr, gateway));
                }
            }
        }
        accepted
    }

    fn own(&self) -> Vec<IpNetwork> {
        let nodes = self.listed.iter().chain(&self.held);
        nodes.filter(|node| node.number == 1).flat_map(|node| node.pod_cidrs.clone()).collect()
    }

    pub(crate) fn has(&self, family: Family) -> bool {
        match family {
            V4 => self.has_v4,
            V6 => self.has_v6,
        }
    }

    fn reaches(&self, gateway: IpAddr) -> bool {
        let (first, last) = numbers(uplink(family(gateway)));
        let it = numbers(IpNetwork::from(gateway)).0;
        self.up && self.has(family(gateway)) && first <= it && it <= last
    }
}

const CLUSTER: [&str; 2] = ["10.0.0.0/14", "fd01::/16"];

fn uplink(family: Family) -> IpNetwork {
    match family {
        V4 => "10.100.0.0/24",
        V6 => "fd00:100::/64",
    }
    .parse()
    .unwrap()
}

/// The first and the last address of a range, as numbers of its family's.
fn numbers(cidr: IpNetwork) -> (u128, u128) {
    let (number, bits) = match cidr.ip() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let free = bits - u32::from(cidr.prefix());
    let mask = 1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
    (number & !mask, number | mask)
}

fn meet(a: IpNetwork, b: IpNetwork) -> bool {
    let ((a_first, a_last), (b_first, b_last)) = (numbers(a), numbers(b));
    family(a.ip()) == family(b.ip()) && a_first <= b_last && b_first <= a_last
}

/// What the steps draw and nobody may have is outside of the cluster, but for one with host bits.
fn is_a_pod_range(cidr: IpNetwork) -> bool {
    let (first, last) = numbers(cidr);
    let is_inside = CLUSTER.iter().any(|cluster| {
        let cluster: IpNetwork = cluster.parse().unwrap();
        let (from, to) = numbers(cluster);
        family(cluster.ip()) == family(cidr.ip()) && from <= first && last <= to
    });
    is_inside && cidr.to_string() != "10.0.7.1/24"
}
