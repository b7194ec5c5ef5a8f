//! A route that the kernel does not take.

use kernel::route::{self, Route};
use nix::libc;

use crate::lab::{Node, cidr, entries, entry};

const TWO: [&str; 2] = ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"];
/// To our eyes an address like others of the uplink's subnet. To the kernel's it is the subnet's
/// broadcast address, which is no gateway.
const BROADCAST: &str = "10.100.0.255";

/// Node 3, whose route the kernel refuses.
fn bad() -> String {
    format!(r#"{{"name": "node3", "address": "{BROADCAST}", "podCIDRs": ["10.0.3.0/24"]}}"#)
}

#[test]
fn p27_a_route_that_the_kernel_refuses_delays_no_other_and_is_shown() {
    let mut node = Node::new(&format!("[{}, {}, {}]", bad(), entry(1), entry(2)));
    let daemon = node.spawn();
    daemon.wait_for("10.0.3.0/24 of node3: missing(");
    daemon.wait_for("the first sync is done");
    assert_eq!(node.routes(), TWO);
    let (shown, code) = node.call(&["status"]);
    assert!(shown.contains("10.0.3.0/24") && shown.contains("missing"), "{shown}");
    assert_eq!(code, Some(1));

    // Nor does it delay what comes or is lost later.
    let mut monitor = node.monitor();
    node.list(&format!("[{}, {}, {}, {}]", bad(), entry(1), entry(2), entry(4)));
    monitor.wait_for_new("10.0.4.0/24");
    monitor.wait_for_new("fd00:4::/64");
    for destination in ["10.0.2.0/24", "fd00:2::/64"] {
        let lost = node.route(destination).unwrap();
        let mut monitor = node.monitor();
        node.rtnl.request(&route::delete(&lost)).unwrap();
        monitor.wait_for_new(destination);
    }
}

#[test]
fn p27_a_refused_route_is_tried_again_with_nothing_heard() {
    let mut node = Node::new(&format!("[{}, {}, {}]", bad(), entry(1), entry(2)));
    let daemon = node.spawn();
    daemon.wait_for("it is tried again");
    // The kernel now takes the address for a neighbour's, and says of it nothing that the daemon
    // looks at: there is no event but of the kernel's own route, in another table.
    let mut broadcast = Route::new(cidr("10.100.0.255/32")).dev(node.uplink);
    broadcast.table = u32::from(libc::RT_TABLE_LOCAL);
    broadcast.kind = libc::RTN_BROADCAST;
    broadcast.scope = libc::RT_SCOPE_LINK;
    broadcast.protocol = libc::RTPROT_KERNEL;
    node.rtnl.request(&route::delete(&broadcast)).unwrap();
    node.wait_for_routes(&[TWO[0], "10.0.3.0/24 via 10.100.0.255", TWO[1]]);
    let ok = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 ok", "fd00:2::/64 ok"];
    node.wait_for_status(&[&["10.0.3.0/24 ok"][..], &ok].concat());
}

#[test]
fn p27_hundreds_that_are_refused_delay_no_other() {
    let refused: Vec<String> = (0..=255).map(|number| format!("\"10.1.{number}.0/24\"")).collect();
    let bad = format!(
        r#"{{"name": "bad", "address": "{BROADCAST}", "podCIDRs": [{}]}}"#,
        refused.join(", ")
    );
    let mut node = Node::new(&format!("[{bad}, {}, {}]", entry(1), entry(2)));
    let _daemon = node.start();
    assert_eq!(node.routes(), TWO);
    let lost = node.route("10.0.2.0/24").unwrap();
    let mut monitor = node.monitor();
    node.rtnl.request(&route::delete(&lost)).unwrap();
    monitor.wait_for_new("10.0.2.0/24");
    node.list(&entries(&[1, 2]));
    node.wait_for_routes(&TWO);
}
