//! The Nodes there are. Pure: what the API server tells is folded in, and the whole is told.

use std::collections::BTreeMap;

use super::object::{Member, NodeObject};
use crate::source::{List, Node};

/// How many Nodes are named where many may be meant.
const SHOWN: usize = 5;

/// The Nodes there are, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture(BTreeMap<String, Member>);

impl Picture {
    /// The picture of a complete list.
    pub fn of(nodes: Vec<NodeObject>) -> Self {
        let named = nodes.into_iter().map(|node| (node.metadata.name.clone(), node.member()));
        Self(named.collect())
    }

    /// Takes a Node as it is now. Returns whether anything that counts is new: a kubelet's signs of
    /// life are not. (A Node that was deleted and made again in one go is one that changed.)
    pub fn put(&mut self, node: NodeObject) -> bool {
        let name = node.metadata.name.clone();
        let member = node.member();
        self.0.insert(name, member.clone()) != Some(member)
    }

    /// Takes a Node out. Returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// All of it. The oldest Node comes first, so that of two that have the same range the one that
    /// had it first keeps it, on every node alike.
    pub fn list(&self) -> List {
        let mut sorted: Vec<(&String, &Member)> = self.0.iter().collect();
        sorted.sort_by_key(|&(name, member)| (&member.created, name));
        List {
            nodes: sorted.iter().map(|&(name, member)| node(name, member)).collect(),
            problems: self.problems(),
            notes: self.notes(),
            ..List::default()
        }
    }

    fn problems(&self) -> Vec<String> {
        let bad = |(name, member): (&String, &Member)| {
            let values = member.unreadable.join(", ");
            (!values.is_empty()).then(|| format!("Node {name:?}: cannot read {values}; left aside"))
        };
        self.0.iter().filter_map(bad).take(SHOWN).collect()
    }

    fn notes(&self) -> Vec<String> {
        let without: Vec<&str> = self
            .0
            .iter()
            .filter(|(_, member)| member.pod_cidrs.is_empty())
            .map(|(name, _)| name.as_str())
            .collect();
        let Some(some) = without.get(..without.len().min(SHOWN)).filter(|some| !some.is_empty())
        else {
            return Vec::new();
        };
        let more = if without.len() > SHOWN { ", …" } else { "" };
        vec![format!(
            "{} Nodes have no Pod range yet (spec.podCIDRs): {}{more}; kube-controller-manager \
             gives them, with --allocate-node-cidrs and --cluster-cidr",
            without.len(),
            some.join(", ")
        )]
    }
}

fn node(name: &str, member: &Member) -> Node {
    Node {
        name: name.to_owned(),
        addresses: member.addresses.clone(),
        pod_cidrs: member.pod_cidrs.clone(),
        vteps: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, created: &str, range: Option<&str>, heartbeat: u32) -> NodeObject {
        let ranges: Vec<&str> = range.into_iter().collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "resourceVersion": "1", "creationTimestamp": created},
            "spec": {"podCIDRs": ranges},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.100.0.2"}],
                       "conditions": [{"type": "Ready", "lastHeartbeatTime": heartbeat}]},
        }))
        .unwrap()
    }

    fn names(picture: &Picture) -> Vec<String> {
        picture.list().nodes.into_iter().map(|node| node.name).collect()
    }

    #[test]
    fn a_sign_of_life_is_no_news() {
        let mut picture = Picture::default();
        assert!(picture.put(object("a", "1", Some("10.0.1.0/24"), 1)));
        assert!(!picture.put(object("a", "1", Some("10.0.1.0/24"), 2)));
        assert!(picture.put(object("a", "1", Some("10.0.2.0/24"), 2)));
        assert!(picture.remove("a"));
        assert!(!picture.remove("a"));
    }

    #[test]
    fn the_oldest_comes_first_whatever_its_name() {
        let range = Some("10.0.1.0/24");
        let nodes = vec![object("a", "3", range, 0), object("b", "1", range, 0)];
        let mut picture = Picture::of(nodes);
        picture.put(object("c", "1", range, 0));
        assert_eq!(names(&picture), ["b", "c", "a"]);
    }

    #[test]
    fn nodes_without_a_range_are_listed_and_some_are_noted() {
        let nodes = (1..=7).map(|i| object(&format!("node{i}"), "1", None, 0)).collect();
        let list = Picture::of(nodes).list();
        assert_eq!(list.nodes.len(), 7);
        assert_eq!(list.notes.len(), 1);
        assert!(list.notes[0].starts_with("7 Nodes have"), "{:?}", list.notes);
        assert!(list.notes[0].contains("node5, …"), "{:?}", list.notes);
        let all = Picture::of(vec![object("a", "1", Some("10.0.1.0/24"), 0)]).list();
        assert_eq!((all.notes, all.problems), (vec![], vec![]));
    }
}
