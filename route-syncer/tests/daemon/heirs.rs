//! Two nodes claim one range: the first of the list has it, and the other one stands by.

use crate::lab::{Node, entry};

const FIRST: [&str; 2] = ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"];
const SECOND: [&str; 2] = ["10.0.2.0/24 via 10.100.0.5", "fd00:2::/64 via fd00:100::5"];

fn list(nodes: &[String]) -> String {
    format!("[{}]", [&[entry(1)], nodes].concat().join(",\n"))
}

/// Node 5, which claims the ranges of node 2.
fn rival() -> String {
    entry(5).replace("10.0.5.0", "10.0.2.0").replace("fd00:5:", "fd00:2:")
}

/// P7, and what cut off the survivor elsewhere: the claim of either goes, and the other one has the
/// route, in one step.
#[test]
fn p07_of_two_claims_to_one_range_either_may_go() {
    let mut node = Node::new(&list(&[entry(2), rival()]));
    let _daemon = node.start();
    node.wait_for_routes(&FIRST);

    // The winner goes: the one that stood by is there with one replacement a family.
    let mut monitor = node.monitor();
    node.list(&list(&[rival()]));
    node.wait_for_routes(&SECOND);
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft");
    assert_eq!(writes, ["+10.0.2.0/24", "+fd00:2::/64"]);

    // Another one comes behind it, and goes again: nothing is written.
    node.list(&list(&[rival(), entry(2)]));
    node.wait_for_status(&[
        "10.0.1.0/24 own",
        "fd00:1::/64 own",
        "10.0.2.0/24 ok",
        "fd00:2::/64 ok",
        "10.0.2.0/24 refused(overlaps 10.0.2.0/24 of node5, which comes first)",
        "fd00:2::/64 refused(overlaps fd00:2::/64 of node5, which comes first)",
    ]);
    node.list(&list(&[rival()]));
    node.wait_for_status(&[
        "10.0.1.0/24 own",
        "fd00:1::/64 own",
        "10.0.2.0/24 ok",
        "fd00:2::/64 ok",
    ]);
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft");
    assert_eq!(writes, [""; 0]);
    assert_eq!(node.routes(), SECOND);
}
