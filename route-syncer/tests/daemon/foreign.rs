//! What others have beside our routes is as it was, whatever ours become.

use kernel::route::{Route, TABLE_MAIN, add, delete};
use nix::libc;

use crate::lab::{Node, PROTOCOL, cidr, entries, ip};

/// A table that is not the main one.
const OTHER_TABLE: u32 = 1000;
const ALL: [&str; 4] = [
    "10.0.2.0/24 via 10.100.0.2",
    "10.0.3.0/24 via 10.100.0.3",
    "fd00:2::/64 via fd00:100::2",
    "fd00:3::/64 via fd00:100::3",
];

/// A node on which others have routes of many kinds, some of them close to ours.
fn node() -> Node {
    let mut node = Node::new(&entries(&[1, 2, 3]));
    let v4 = |to| Route::new(cidr(to)).via(ip("10.100.0.254")).dev(node.uplink);
    let v6 = |to| Route::new(cidr(to)).via(ip("fd00:100::fe")).dev(node.uplink);
    let theirs = [
        v4("0.0.0.0/0"),
        v6("::/0"),
        // Around a range of ours, and in it.
        v4("10.0.2.0/23"),
        v4("10.0.2.128/25"),
        v6("fd00:2::/48"),
        v6("fd00:2::80/121"),
        // Standing by behind ours.
        Route { priority: 5000, ..v4("10.0.2.0/24") },
        Route { priority: 5000, ..v6("fd00:2::/64") },
        Route { kind: libc::RTN_BLACKHOLE, ..Route::new(cidr("10.200.0.0/16")) },
        // Of our number, but not in the main table.
        Route { table: OTHER_TABLE, protocol: PROTOCOL, ..v4("10.0.7.0/24") },
        Route { table: OTHER_TABLE, protocol: PROTOCOL, ..v6("fd00:7::/64") },
    ];
    node.rtnl.request_all(&theirs.map(|route| add(&route))).unwrap();
    node
}

/// All routes that are not ours, in both tables; those that the kernel makes of addresses, too.
fn foreign(node: &mut Node) -> Vec<Route> {
    let main = node.rtnl.routes(TABLE_MAIN).unwrap();
    let mut foreign: Vec<Route> =
        main.into_iter().filter(|route| route.protocol != PROTOCOL).collect();
    foreign.extend(node.rtnl.routes(OTHER_TABLE).unwrap());
    foreign
}

/// P1.
#[test]
fn p01_ours_are_the_desired_ones_and_all_others_are_as_they_were() {
    let mut node = node();
    let before = foreign(&mut node);
    let daemon = node.start();
    node.wait_for_routes(&ALL);
    assert_eq!(foreign(&mut node), before);

    let lost: Vec<_> = ["10.0.2.0/24", "fd00:3::/64"].map(cidr).into();
    let ours = node.rtnl.routes(TABLE_MAIN).unwrap().into_iter().filter(|route| {
        route.protocol == PROTOCOL && lost.contains(&route.destination) && route.priority < 5000
    });
    let deletions: Vec<_> = ours.map(|route| delete(&route)).collect();
    assert_eq!(deletions.len(), 2);
    node.rtnl.request_all(&deletions).unwrap();
    node.wait_for_routes(&ALL);
    assert_eq!(foreign(&mut node), before);

    node.list(&entries(&[1, 3, 4]));
    let others = [ALL[1], "10.0.4.0/24 via 10.100.0.4", ALL[3], "fd00:4::/64 via fd00:100::4"];
    node.wait_for_routes(&others);
    assert_eq!(foreign(&mut node), before);

    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(node.routes(), others);
    assert_eq!(foreign(&mut node), before);
}
