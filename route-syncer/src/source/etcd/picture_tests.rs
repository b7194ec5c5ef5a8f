//! Histories, and whom they leave in the picture.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::backend::Backend;
use super::super::contents::{Contents, Stored};
use super::super::own::sign;
use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T01:00:00Z";

fn node(number: u8) -> Identity {
    Identity {
        name: format!("node{number}"),
        machine: Some(format!("machine{number}")),
        v4: Some([10, 100, 0, number].into()),
        v6: None,
        backend: Backend::HostGw,
    }
}

fn name(number: u8) -> String {
    format!("10.0.{number}.0-24")
}

/// Leases as `(subnet, node, revision)`.
fn contents(revision: i64, leases: &[(u8, u8, i64)]) -> Contents {
    let mut contents = Contents { revision, ..Contents::default() };
    for &(subnet, owner, revision) in leases {
        let value = node(owner).value().into();
        contents.leases.insert(name(subnet), Stored { value, revision, lease: 1 });
    }
    contents
}

fn with_sign(mut contents: Contents, subnet: u8, of: u8, revision: i64) -> Contents {
    let value = sign(&node(of), false).into();
    contents.left.insert(name(subnet), Stored { value, revision, lease: 0 });
    contents
}

struct Case(Picture);

impl Case {
    /// Node 1 sees these.
    fn new(contents: &Contents) -> Self {
        Case(Picture::default()).then(contents)
    }

    fn step(self, contents: &Contents, doubt: Option<&str>, now: &str) -> Self {
        let networks = ["10.0.0.0/14".parse().unwrap()];
        let view = Viewpoint { own: &node(1), networks: &networks, doubt, now };
        Case(self.0.fold(contents, &view))
    }

    fn then(self, contents: &Contents) -> Self {
        self.step(contents, None, NOW)
    }

    fn doubting(self, contents: &Contents) -> Self {
        self.step(contents, Some("another history"), NOW)
    }

    /// `subnet:node`, with `!` if it is held.
    fn shown(&self) -> Vec<String> {
        let show = |(key, member): (&String, &Member)| {
            let held = if member.held_since.is_some() { "!" } else { "" };
            let subnet = key.split('.').nth(2).unwrap();
            format!("{subnet}:{}{held}", member.identity.name.trim_start_matches("node"))
        };
        self.0.members.iter().map(show).collect()
    }
}

#[test]
fn others_are_members_and_this_node_is_not() {
    let case = Case::new(&contents(9, &[(1, 1, 3), (2, 2, 4), (3, 3, 5)]));
    assert_eq!(case.shown(), ["2:2", "3:3"]);
}

#[test]
fn who_vanishes_is_held_since_then_and_comes_back() {
    let all = contents(9, &[(1, 1, 3), (2, 2, 4)]);
    let case = Case::new(&all).then(&contents(10, &[(1, 1, 3)]));
    assert_eq!(case.shown(), ["2:2!"]);
    let case = case.step(&contents(11, &[(1, 1, 3)]), None, LATER);
    assert_eq!(case.0.held().next().unwrap().held_since.as_deref(), Some(NOW));
    let case = case.then(&contents(12, &[(1, 1, 3), (2, 2, 12)]));
    assert_eq!(case.shown(), ["2:2"]);
}

#[test]
fn an_empty_etcd_holds_everybody() {
    let case = Case::new(&contents(9, &[(2, 2, 4), (3, 3, 5)])).then(&contents(20, &[]));
    assert_eq!(case.shown(), ["2:2!", "3:3!"]);
    assert_eq!(case.0.doubt, None);
}

#[test]
fn a_sign_is_evidence_if_it_is_newer_and_of_the_same_node() {
    let all = contents(9, &[(2, 2, 4)]);
    let gone = |of, revision| with_sign(contents(20, &[]), 2, of, revision);
    assert!(Case::new(&all).then(&gone(2, 10)).shown().is_empty());
    assert_eq!(Case::new(&all).then(&gone(2, 3)).shown(), ["2:2!"], "older than the lease");
    assert_eq!(Case::new(&all).then(&gone(3, 10)).shown(), ["2:2!"], "somebody else's");
    // Also after it was held for a while.
    let held = Case::new(&all).then(&contents(10, &[]));
    assert!(held.then(&gone(2, 15)).shown().is_empty());
}

#[test]
fn a_range_that_is_claimed_again_is_the_claimers() {
    let all = contents(9, &[(2, 2, 4)]);
    let held = || Case::new(&all).then(&contents(10, &[]));
    assert_eq!(held().then(&contents(11, &[(2, 3, 11)])).shown(), ["2:3"]);
    assert!(held().then(&contents(11, &[(2, 1, 11)])).shown().is_empty(), "by this node");
    // By a wider range, and by the node itself when it has another one.
    let mut wider = contents(11, &[]);
    let value = node(3).value().into();
    wider.leases.insert("10.0.0.0-20".into(), Stored { value, revision: 11, lease: 0 });
    assert_eq!(held().then(&wider).0.members.keys().collect::<Vec<_>>(), ["10.0.0.0-20"]);
    assert_eq!(held().then(&contents(11, &[(7, 2, 11)])).shown(), ["7:2"]);
}

#[test]
fn another_history_takes_nothing_away() {
    // Node 3 had left subnet 2 long ago, node 2 has it now; the backup knows only the former.
    let now = contents(30, &[(2, 2, 25), (4, 4, 26)]);
    let restored = with_sign(contents(20, &[(2, 3, 10), (5, 5, 12)]), 4, 4, 15);
    let case = Case::new(&now).doubting(&restored);
    assert_eq!(case.shown(), ["2:2!", "4:4!", "5:5"]);
    assert!(case.0.skipped[&name(2)].contains("older"), "{:?}", case.0.skipped);
    assert_eq!(case.0.doubt.as_ref().unwrap().since, NOW);
    // What was in the backup is no evidence later either.
    let case = case.then(&Contents { revision: 21, ..restored.clone() });
    assert_eq!(case.shown(), ["2:2!", "4:4!", "5:5"]);
    assert!(case.0.doubt.is_some());
    // What is written from then on is.
    let case = case.then(&with_sign(contents(23, &[(2, 2, 22), (5, 5, 12)]), 4, 4, 23));
    assert_eq!(case.shown(), ["2:2", "5:5"]);
    assert_eq!(case.0.doubt, None);
}

#[test]
fn what_is_malformed_is_skipped_and_changes_nothing_else() {
    let all = contents(9, &[(2, 2, 4), (3, 3, 5)]);
    let mut broken = all.clone();
    let junk = |value: &[u8]| Stored { value: value.into(), revision: 9, lease: 0 };
    broken.leases.insert("junk".into(), junk(b"{}"));
    broken.leases.insert("11.0.0.0-24".into(), junk(node(9).value().as_bytes()));
    broken.leases.insert(name(3), junk(b"\xff\x00"));
    let case = Case::new(&all).then(&broken);
    assert_eq!(case.shown(), ["2:2", "3:3!"]);
    assert_eq!(case.0.skipped.len(), 3);
    assert!(case.0.skipped["11.0.0.0-24"].contains("10.0.0.0/14"));
}
