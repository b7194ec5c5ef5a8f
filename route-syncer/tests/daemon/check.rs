//! `check`: what is wrong is told in words, with a remedy, and nothing else is.

use kernel::nft::{Family, Nft, Table};
use kernel::route::{Route, add, delete};
use kernel::sysctl;

use crate::lab::{Node, cidr, entries, ip};

/// Waits until the daemon says this of its claims, for it tells after it has acted.
fn started(node: &mut Node, states: [&str; 2]) -> crate::lab::Daemon {
    let daemon = node.start();
    node.wait_for_status(&["10.0.1.0/24 own", "fd00:1::/64 own", states[0], states[1]]);
    daemon
}

const FINE: [&str; 2] = ["10.0.2.0/24 ok", "fd00:2::/64 ok"];

fn wrong(node: &Node) -> Vec<String> {
    let (said, code) = node.call(&["check"]);
    assert_eq!(code, Some(1), "{said}");
    said.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_wrong_with_a_node_in_order() {
    let mut node = Node::new(&entries(&[1, 2]));
    let (said, code) = node.call(&["check"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("no route-syncer has run") && said.contains("start one"), "{said}");
    let daemon = started(&mut node, FINE);
    assert_eq!(node.call(&["check"]), ("nothing is wrong\n".to_owned(), Some(0)));
    daemon.kill();
    let [words] = &wrong(&node)[..] else { panic!("{:?}", wrong(&node)) };
    assert!(words.contains("not running") && words.contains("start it"), "{words}");
}

#[test]
fn a_foreign_route_is_told_with_whose_it_is() {
    let mut node = Node::new(&entries(&[1, 2]));
    let theirs = Route::new(cidr("10.0.2.0/24")).via(ip("10.100.0.77")).dev(node.uplink);
    node.rtnl.request(&add(&theirs)).unwrap();
    let _daemon = started(&mut node, ["10.0.2.0/24 conflict(proto 3)", FINE[1]]);
    let [words] = &wrong(&node)[..] else { panic!("{:?}", wrong(&node)) };
    assert!(words.contains("10.0.2.0/24 of node2: conflict(proto 3)"), "{words}");
    assert!(words.contains("ip route show 10.0.2.0/24"), "{words}");
}

#[test]
fn a_refused_claim_and_a_node_that_cannot_be_reached_are_told() {
    let list = r#"[
        {"name": "node1", "address": "10.100.0.1", "podCIDRs": ["10.0.1.0/24"]},
        {"name": "node2", "address": "10.100.0.2", "podCIDRs": ["10.0.1.128/25"]},
        {"name": "node3", "address": "10.200.0.3", "podCIDRs": ["10.0.3.0/24"]}]"#;
    let mut node = Node::new(list);
    let _daemon = node.start();
    let refused = "10.0.1.128/25 refused(overlaps this node's own range 10.0.1.0/24)";
    node.wait_for_status(&["10.0.1.0/24 own", refused, "10.0.3.0/24 off-link"]);
    let [taken, far] = &wrong(&node)[..] else { panic!("{:?}", wrong(&node)) };
    assert!(taken.contains("correct what the source says of node2"), "{taken}");
    assert!(far.contains("no link that is up leads to 10.200.0.3"), "{far}");
}

#[test]
fn what_a_daemon_no_longer_repairs_is_found_in_the_kernel() {
    let mut node = Node::new(&entries(&[1, 2]));
    started(&mut node, FINE).kill();
    let lost = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&delete(&lost)).unwrap();
    let table = Table { family: Family::Inet, name: "cbr0_cluster" };
    Nft::open_in(&node.ns).unwrap().commit(&[table.delete()]).unwrap();
    node.ns.run(|| sysctl::set("net/ipv4/ip_forward", "0").unwrap()).unwrap();
    let wrong = wrong(&node);
    let expected = [
        "not running",
        "10.0.2.0/24 of node2: missing",
        "sysctl -w net.ipv4.ip_forward=1",
        "masquerade rules are gone",
    ];
    assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
    for (words, part) in wrong.iter().zip(expected) {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_broken_source_and_a_node_that_is_not_named_are_told() {
    let mut node = Node::new(&entries(&[2]));
    let daemon = node.start();
    node.wait_for_status(&FINE);
    let [words] = &wrong(&node)[..] else { panic!("{:?}", wrong(&node)) };
    assert!(words.contains("\"node1\"") && words.contains("--node"), "{words}");
    node.list("[");
    // It is logged before it is in the status, and the daemon says no more after that.
    daemon.wait_for("the source is broken");
    node.wait_for_words(&["check"], "the source is broken since");
}
