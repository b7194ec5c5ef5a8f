//! The roster: which nodes are believed to be in the cluster.
//!
//! A node that is missing from a complete list is gone, and its routes go. But a list that lost
//! most of its nodes at once is more often a mistake than a cluster that shrank: a stale route to
//! a dead node is cheap, a missing route to a living one is an outage. So such a shrink is *held*:
//! what the list adds and changes counts, and the missing nodes stay, marked as held, until a
//! list names them again or drops fewer of them at once.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::clock;
use crate::observed::Route;
use crate::source::{HeldNode, List, Node};

/// Below this many other nodes, any shrink is believed: halves of small numbers are no evidence.
const FEWEST_HELD: usize = 4;

/// The nodes that are believed to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The last list that was believed as a whole. New lists are measured against it.
    pub baseline: Vec<Node>,
    /// The nodes of the latest list.
    pub listed: Vec<Node>,
    /// Nodes that are missing from the latest list and are held.
    pub held: Vec<HeldNode>,
    /// Those of the held ones that the source does not hold itself.
    pub doubted: Vec<HeldNode>,
}

impl Roster {
    /// What is known before a source has told anything: the nodes of the last list that was
    /// believed, and whatever routes of ours the kernel still has.
    pub fn remembered(mut baseline: Vec<Node>, own_routes: &[&Route]) -> Self {
        let known: HashSet<IpNetwork> =
            baseline.iter().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
        let mut by_gateway: BTreeMap<IpAddr, Vec<IpNetwork>> = BTreeMap::new();
        for route in own_routes.iter().filter(|route| !known.contains(&route.destination)) {
            if let Some(gateway) = route.gateway {
                by_gateway.entry(gateway).or_default().push(route.destination);
            }
        }
        // Nobody remembers their names; the address is the best there is.
        baseline.extend(by_gateway.into_iter().map(|(gateway, pod_cidrs)| Node {
            name: gateway.to_string(),
            addresses: vec![gateway],
            pod_cidrs,
            vteps: None,
        }));
        Self { listed: baseline.clone(), baseline, ..Self::default() }
    }

    /// Takes a new complete list.
    pub fn take(&mut self, list: impl Into<List>, own_name: &str) {
        let List { nodes, held: mut all_held, absence_is_proven, .. } = list.into();
        // Those that the source holds are no more missing than those that it names.
        let mut known = nodes.clone();
        known.extend(all_held.iter().map(|held| held.node.clone()));
        let before = std::mem::take(&mut self.doubted);
        if absence_is_proven {
            // The proof is of what went since the last list, and not of what that one lacked.
            let is_missing = missing_from(&known);
            self.doubted = before.into_iter().filter(|held| is_missing(&held.node)).collect();
            self.baseline = known;
            self.baseline.extend(self.doubted.iter().map(|held| held.node.clone()));
        } else {
            let missing = held(&self.baseline, &known, own_name);
            if missing.is_empty() {
                self.baseline = known;
            }
            let since = |node: &Node| {
                let before = before.iter().find(|held| held.node.name == node.name);
                before.map_or_else(clock::now, |held| held.since.clone())
            };
            let doubted = missing.into_iter().map(|node| HeldNode { since: since(&node), node });
            self.doubted = doubted.collect();
        }
        all_held.extend(self.doubted.iter().cloned());
        self.held = all_held;
        self.listed = nodes;
    }

    /// Takes what a source remembers: it says more than the kernel's routes about the nodes that
    /// it knows, and nothing about the others.
    pub fn remember(&mut self, list: List) {
        let List { nodes, held, .. } = list;
        let told = nodes.iter().chain(held.iter().map(|held| &held.node));
        let names: HashSet<String> = told.clone().map(|node| node.name.clone()).collect();
        let cidrs: HashSet<IpNetwork> = told.flat_map(|node| node.pod_cidrs.clone()).collect();
        // A name that came twice would make the list unreadable that is written of it.
        let is_told = |node: &Node| {
            names.contains(&node.name) || node.pod_cidrs.iter().any(|cidr| cidrs.contains(cidr))
        };
        self.listed.retain(|node| !is_told(node));
        self.listed.extend(nodes);
        self.held = held;
        self.baseline.clone_from(&self.listed);
        self.baseline.extend(self.held.iter().map(|held| held.node.clone()));
    }
}

/// The nodes of `before` that are missing from `list` and must not be believed gone: all missing
/// ones, if more than half of at least four other nodes are, or if the list is empty. An empty
/// list is never believed, since this node itself is in the cluster.
pub fn held(before: &[Node], list: &[Node], own_name: &str) -> Vec<Node> {
    let is_missing = missing_from(list);
    let others: Vec<&Node> =
        before.iter().filter(|node| node.name != own_name && !node.pod_cidrs.is_empty()).collect();
    let missing = others.iter().filter(|node| is_missing(node)).count();
    if list.is_empty() || (others.len() >= FEWEST_HELD && missing * 2 > others.len()) {
        before.iter().filter(|node| is_missing(node)).cloned().collect()
    } else {
        Vec::new()
    }
}

/// Tells whether a list does not know a node. One that was renamed, moved or given other Pods is
/// not missing.
fn missing_from(list: &[Node]) -> impl Fn(&Node) -> bool + use<> {
    let names: HashSet<String> = list.iter().map(|node| node.name.clone()).collect();
    let addresses: HashSet<IpAddr> = list.iter().flat_map(|node| node.addresses.clone()).collect();
    let cidrs: HashSet<IpNetwork> = list.iter().flat_map(|node| node.pod_cidrs.clone()).collect();
    move |node| {
        !names.contains(&node.name)
            && !node.addresses.iter().any(|address| addresses.contains(address))
            && !node.pod_cidrs.iter().any(|cidr| cidrs.contains(cidr))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn node(number: u8) -> Node {
        Node {
            name: format!("node{number}"),
            addresses: vec![IpAddr::from([10, 100, 0, number])],
            pod_cidrs: vec![format!("10.0.{number}.0/24").parse().unwrap()],
            vteps: None,
        }
    }

    fn nodes(numbers: std::ops::RangeInclusive<u8>) -> Vec<Node> {
        numbers.map(node).collect()
    }

    fn names(nodes: &[Node]) -> Vec<&str> {
        nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn more_than_half_of_four_others_are_held() {
        let before = nodes(1..=5);
        let three_gone = nodes(1..=2);
        assert_eq!(names(&held(&before, &three_gone, "node1")), ["node3", "node4", "node5"]);
        // With so many missing, this node's own absence is no evidence either.
        assert_eq!(held(&before, &nodes(2..=3), "node1").len(), 0);
        assert_eq!(names(&held(&before, &nodes(2..=2), "node1"))[0], "node1");
    }

    #[test]
    fn half_of_them_go() {
        assert_eq!(held(&nodes(1..=5), &nodes(1..=3), "node1"), []);
    }

    #[test]
    fn few_nodes_are_believed_gone() {
        assert_eq!(held(&nodes(1..=4), &nodes(1..=1), "node1"), []);
    }

    #[test]
    fn an_empty_list_is_never_believed() {
        assert_eq!(names(&held(&nodes(1..=2), &[], "node1")), ["node1", "node2"]);
    }

    #[test]
    fn nodes_without_pods_and_this_node_do_not_count() {
        let mut before = nodes(1..=5);
        before[4].pod_cidrs.clear();
        assert_eq!(held(&before, &nodes(1..=1), "node1"), []);
    }

    #[test]
    fn renamed_moved_and_renumbered_nodes_are_not_missing() {
        let before = nodes(1..=5);
        let mut list = before.clone();
        list[1].name = "renamed".into();
        list[2].addresses = vec![IpAddr::from([10, 100, 1, 3])];
        list[2].name = "moved".into();
        list[3].pod_cidrs = vec!["10.1.4.0/24".parse().unwrap()];
        list[4] = Node { addresses: vec![], pod_cidrs: vec![], ..node(5) };
        assert_eq!(held(&before, &list, "node1"), []);
    }

    #[test]
    fn what_the_list_adds_counts_while_others_are_held() {
        let mut roster = Roster { baseline: nodes(1..=5), ..Roster::default() };
        let mut list = nodes(1..=1);
        list.push(node(9));
        roster.take(list.clone(), "node1");
        assert_eq!(roster.listed, list);
        assert_eq!(roster.held.len(), 4);
        // Adding more nodes does not make the missing ones fewer.
        list.extend(nodes(10..=20));
        roster.take(list, "node1");
        assert_eq!(roster.held.len(), 4);
    }

    #[test]
    fn a_hold_ends_when_the_nodes_are_back_or_fewer_are_missing() {
        let mut roster = Roster { baseline: nodes(1..=5), ..Roster::default() };
        roster.take(nodes(1..=1), "node1");
        assert_eq!(roster.held.len(), 4);
        let mut back = roster.clone();
        back.take(nodes(1..=5), "node1");
        assert_eq!(back.held, []);
        roster.take(nodes(1..=3), "node1");
        assert_eq!(roster.held, []);
        roster.take(nodes(1..=1), "node1");
        assert_eq!(roster.held, []);
    }

    #[test]
    fn proof_of_one_going_is_none_of_those_that_were_missing_before() {
        let mut roster = Roster { baseline: nodes(1..=6), ..Roster::default() };
        roster.take(nodes(1..=2), "node1");
        assert_eq!(roster.held.len(), 4);
        let since = roster.held[0].since.clone();
        let proven = |nodes| List { nodes, absence_is_proven: true, ..List::default() };
        // Node 2 was deleted, and node 3's range is another's now.
        let heir = Node { pod_cidrs: node(3).pod_cidrs, ..node(9) };
        roster.take(proven(vec![node(1), heir.clone()]), "node1");
        let held: Vec<&str> = roster.held.iter().map(|held| held.node.name.as_str()).collect();
        assert_eq!(held, ["node4", "node5", "node6"]);
        assert_eq!(roster.held[0].since, since);
        // Which is how the next list is measured.
        roster.take(vec![node(1), heir], "node1");
        assert_eq!(roster.held.len(), 3);
        roster.take(proven(nodes(1..=6)), "node1");
        assert_eq!(roster.held, []);
    }

    #[test]
    fn a_node_that_the_source_remembers_with_another_range_is_there_once() {
        let mut roster = Roster::remembered(nodes(1..=3), &[]);
        let renumbered = Node { pod_cidrs: vec!["10.1.2.0/24".parse().unwrap()], ..node(2) };
        roster.remember(vec![renumbered].into());
        assert_eq!(names(&roster.listed), ["node1", "node3", "node2"]);
        assert_eq!(roster.baseline, roster.listed);
    }

    #[test]
    fn the_kernels_routes_are_remembered_by_their_gateway() {
        let route = |destination: &str, gateway: [u8; 4]| Route {
            destination: destination.parse().unwrap(),
            metric: 0,
            protocol: 214,
            kind: 1,
            scope: 0,
            gateway: Some(IpAddr::from(gateway)),
            on_link: false,
            link: Some(1),
        };
        let known = route("10.0.2.0/24", [10, 100, 0, 2]);
        let lost = route("10.0.7.0/24", [10, 100, 0, 7]);
        let roster = Roster::remembered(nodes(1..=2), &[&known, &lost]);
        assert_eq!(names(&roster.baseline), ["node1", "node2", "10.100.0.7"]);
        assert_eq!(roster.baseline, roster.listed);
    }
}
