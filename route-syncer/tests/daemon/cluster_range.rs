//! The cluster's ranges, unreachable where no better route leads: unknown nodes fail fast.

use kernel::address;
use kernel::route::{Route, add, delete};
use nix::libc;

use crate::lab::{Node, cidr, entries, ip};

const OWN: [&str; 2] = ["10.0.1.0/24 4096", "fd00:1::/64 4096"];
const BOTH: [&str; 4] = ["10.0.0.0/14 8192", OWN[0], OWN[1], "fd00::/16 8192"];
const V6: [&str; 2] = ["--cluster-cidr", "fd00::/16"];
const UNKNOWN: [&str; 2] = ["10.0.77.7", "fd00:77::7"];

/// A node with a default route: what nothing else leads to leaves by it.
fn node() -> Node {
    let mut node = Node::new(&entries(&[1, 2]));
    for (all, gateway) in [("0.0.0.0/0", "10.100.0.254"), ("::/0", "fd00:100::254")] {
        let route = Route::new(cidr(all)).via(ip(gateway)).dev(node.uplink);
        node.rtnl.request(&add(&route)).unwrap();
    }
    node
}

/// The link by which packets to an address leave.
fn way(node: &mut Node, to: &str) -> Option<u32> {
    node.rtnl.link_towards(ip(to)).unwrap().map(|link| link.index)
}

#[test]
fn packets_to_unknown_nodes_do_not_leave() {
    let mut node = node();
    let uplink = Some(node.uplink);
    assert_eq!(UNKNOWN.map(|to| way(&mut node, to)), [uplink; 2]);
    let _daemon = node.start_with(&V6);
    assert_eq!(node.dead_ends(), BOTH);
    assert_eq!(UNKNOWN.map(|to| way(&mut node, to)), [None; 2]);
    // Everything else does: the nodes', the neighbours', the world.
    for to in ["10.0.2.7", "fd00:2::7", "10.100.0.77", "fd00:100::77", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(way(&mut node, to), uplink, "{to}");
    }
    // A node that becomes known is reached.
    node.list(&entries(&[1, 2, 77]));
    let all = [
        "10.0.2.0/24 via 10.100.0.2",
        "10.0.77.0/24 via 10.100.0.77",
        "fd00:2::/64 via fd00:100::2",
        "fd00:77::/64 via fd00:100::77",
    ];
    node.wait_for_routes(&all);
    assert_eq!(UNKNOWN.map(|to| way(&mut node, to)), [uplink; 2]);
}

#[test]
fn they_follow_the_options_and_go_with_cleanup() {
    let mut node = node();
    node.start_with(&V6).kill();
    assert_eq!(node.dead_ends(), BOTH);
    let daemon = node.start_with(&["--cluster-cidr", "10.8.0.0/14"]);
    node.wait_for_dead_ends(&[BOTH[0], OWN[0], "10.8.0.0/14 8192", OWN[1]]);
    daemon.kill();
    let daemon = node.start_with(&["--cluster-unreachable=false"]);
    node.wait_for_dead_ends(&OWN);
    daemon.kill();
    let (said, code) = node.call(&["cleanup", "--state-dir", "/nowhere"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(node.dead_ends(), [""; 0]);
}

#[test]
fn they_are_repaired_and_shown() {
    let mut node = node();
    let daemon = node.start();
    let range = "10.0.0.0/14";
    let ours = node.route(range).unwrap();
    assert_eq!((ours.kind, ours.priority), (libc::RTN_UNREACHABLE, 8192));
    node.rtnl.request(&delete(&ours)).unwrap();
    node.wait_for_dead_ends(&[BOTH[0], OWN[0], OWN[1]]);
    node.wait_for_words(&["status"], "*      10.0.0.0/14  unreachable  -        ok");

    // Another's route in its place is a conflict, and it is told what to do.
    let theirs = Route { protocol: 4, kind: libc::RTN_BLACKHOLE, ..ours };
    node.rtnl.request(&kernel::route::replace(&theirs)).unwrap();
    node.wait_for_words(&["status"], "conflict(proto 4)");
    node.wait_for_words(&["check"], "--cluster-unreachable=false");
    assert_eq!(node.dead_ends(), OWN);
    // One with a better metric is none.
    node.rtnl.request(&delete(&theirs)).unwrap();
    node.rtnl.request(&add(&Route { priority: 77, ..theirs })).unwrap();
    node.wait_for_dead_ends(&[BOTH[0], OWN[0], OWN[1]]);
    node.wait_for_words(&["check"], "nothing is wrong");

    // What is shown is what the kernel has, also when nobody repairs it.
    daemon.kill();
    node.rtnl.request(&delete(&ours)).unwrap();
    node.wait_for_words(&["status"], "*      10.0.0.0/14  unreachable  -        missing");
}

#[test]
fn a_range_that_others_need_is_left_alone_and_shown() {
    let mut node = node();
    let _daemon = node.start_with(&["--service-cidr", "10.3.0.0/16"]);
    node.wait_for_words(&["status"], "it overlaps the service range 10.3.0.0/16");
    assert_eq!(node.dead_ends(), OWN);
}

/// A range on a link comes and goes with the address.
#[test]
fn a_range_that_is_on_a_link_is_left_alone() {
    let mut node = node();
    let wide = cidr("10.0.0.1/13");
    let _daemon = node.start();
    assert_eq!(node.dead_ends(), [BOTH[0], OWN[0], OWN[1]]);
    node.rtnl.request(&address::add(node.uplink, wide, false)).unwrap();
    node.wait_for_dead_ends(&OWN);
    node.wait_for_words(&["status"], "it is in the subnet of local address 10.0.0.1/13");
    node.rtnl.request(&address::delete(node.uplink, wide)).unwrap();
    node.wait_for_dead_ends(&[BOTH[0], OWN[0], OWN[1]]);
}

/// Who knows of no nodes yet takes none for unknown.
#[test]
fn without_any_list_no_node_is_unknown() {
    let mut node = node();
    node.list("[");
    let daemon = node.spawn();
    daemon.wait_for("the source is broken");
    node.wait_for_words(&["status"], "the source is broken");
    assert_eq!(node.dead_ends(), [""; 0]);
    node.list(&entries(&[1, 2]));
    node.wait_for_dead_ends(&[BOTH[0], OWN[0], OWN[1]]);
}
