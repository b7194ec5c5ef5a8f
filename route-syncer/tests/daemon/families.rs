//! IPv4 and IPv6, each for itself.

use std::fs;

use kernel::route;

use crate::lab::{Node, entries, entry};

const V4: [&str; 2] = ["10.0.2.0/24 via 10.100.0.2", "10.0.3.0/24 via 10.100.0.3"];

/// The list of nodes 1 and 2, with something else in the entry of node 2.
fn changed(from: &str, to: &str) -> String {
    let before = entry(2);
    assert!(before.contains(from));
    format!("{}, {}", entry(1), before.replace(from, to))
}

#[test]
fn p20_where_one_family_changes_the_other_is_not_touched() {
    // What changes of node 2, and all that is written.
    let changes = [
        ("fd00:2::/64", "fd00:22::/64", &["+fd00:22::/64", "-fd00:2::/64"][..]),
        ("fd00:100::2", "fd00:100::22", &["+fd00:2::/64"]),
        ("10.0.2.0/24", "10.0.22.0/24", &["+10.0.22.0/24", "-10.0.2.0/24"]),
        ("10.100.0.2", "10.100.0.22", &["+10.0.2.0/24"]),
    ];
    for (from, to, expected) in changes {
        let node = Node::new(&entries(&[1, 2]));
        let _daemon = node.start();
        let mut monitor = node.monitor();
        let list = changed(from, to);
        node.list(&format!("[{list}]"));
        monitor.wait_for_new(&expected[0][1..]);
        // Had there been more to write, it would come before what the next edit brings.
        node.list(&format!("[{list}, {}]", entry(4)));
        monitor.wait_for_new("fd00:4::/64");
        let mut writes = monitor.writes();
        writes.retain(|write| write != "nft"); // the exemptions
        let next = ["+10.0.4.0/24", "+fd00:4::/64"];
        assert_eq!(writes, [expected, &next].concat(), "{from} became {to}");
    }
}

#[test]
fn p20_a_refused_or_unreachable_family_does_not_delay_the_other() {
    let refused = entry(2).replace("fd00:2::/64", "fd00:100::/64");
    let off_link = entry(3).replace("fd00:100::3", "fd00:777::3");
    let mut node = Node::new(&format!("[{}, {refused}, {off_link}]", entry(1)));
    let _daemon = node.start();
    assert_eq!(node.routes(), V4);
    node.wait_for_status(&[
        "10.0.1.0/24 own",
        "fd00:1::/64 own",
        "10.0.2.0/24 ok",
        "fd00:100::/64 refused(overlaps the subnet of local address fd00:100::1/64)",
        "10.0.3.0/24 ok",
        "fd00:3::/64 off-link",
    ]);

    // The other way round.
    let refused = entry(2).replace("10.0.2.0/24", "10.100.0.0/24");
    let off_link = entry(3).replace("10.100.0.3", "192.0.2.3");
    node.list(&format!("[{}, {refused}, {off_link}]", entry(1)));
    // No link leads to node 3 now, so its route is gone: the claim stands with another gateway.
    node.wait_for_routes(&["fd00:2::/64 via fd00:100::2", "fd00:3::/64 via fd00:100::3"]);
}

#[test]
fn p20_without_ipv6_in_the_kernel_ipv4_is_as_ever() {
    let mut node = Node::new(&entries(&[1, 2]));
    let off = || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    node.ns.run(off).unwrap().unwrap();
    let _daemon = node.start();
    assert_eq!(node.routes(), V4[..1]);
    // Changes come through, and what is lost is repaired.
    node.list(&entries(&[1, 2, 3]));
    node.wait_for_routes(&V4);
    let lost = node.route("10.0.2.0/24").unwrap();
    let mut monitor = node.monitor();
    node.rtnl.request(&route::delete(&lost)).unwrap();
    monitor.wait_for_new("10.0.2.0/24");
    assert_eq!(node.routes(), V4);
}
