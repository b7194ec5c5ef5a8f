//! `diff` and `run --dry-run`: what would be done is told, and nothing is done.

use kernel::route::{Route, add, delete};
use kernel::sysctl;
use nix::libc;

use crate::lab::{Node, PROTOCOL, cidr, entries, ip};

const TO_NODE2: [&str; 2] = [
    "ip route add 10.0.2.0/24 via 10.100.0.2 dev uplink0 proto 214",
    "ip -6 route add fd00:2::/64 via fd00:100::2 dev uplink0 proto 214 metric 1024",
];
const DEAD_ENDS: [&str; 3] = [
    "ip route add unreachable 10.0.0.0/14 proto 214 metric 8192",
    "ip route add unreachable 10.0.1.0/24 proto 214 metric 4096",
    "ip -6 route add unreachable fd00:1::/64 proto 214 metric 4096",
];
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

#[test]
fn diff_is_empty_exactly_if_there_is_nothing_to_do() {
    let mut node = Node::new(&entries(&[1, 2]));
    assert_eq!(node.diff(), ([&TO_NODE2[..], &DEAD_ENDS].concat().join("\n") + "\n", Some(1)));
    let daemon = node.start();
    assert_eq!(node.diff(), (String::new(), Some(0)));
    daemon.kill();
    assert_eq!(node.diff(), (String::new(), Some(0)));

    // What went meanwhile, what is of no node, what leads elsewhere.
    let lost = node.route("10.0.2.0/24").unwrap();
    let stray = Route { destination: cidr("10.0.77.0/24"), ..lost };
    let wrong = Route { gateway: Some(ip("fd00:100::77")), ..node.route("fd00:2::/64").unwrap() };
    node.rtnl.request_all(&[delete(&lost), add(&stray), kernel::route::replace(&wrong)]).unwrap();
    let expected = "\
ip route add 10.0.2.0/24 via 10.100.0.2 dev uplink0 proto 214
ip -6 route replace fd00:2::/64 via fd00:100::2 dev uplink0 proto 214 metric 1024
ip route del 10.0.77.0/24 via 10.100.0.2 dev uplink0 proto 214
";
    assert_eq!(node.diff(), (expected.to_owned(), Some(1)));
}

#[test]
fn diff_leaves_foreign_routes_alone() {
    let mut node = Node::new(&entries(&[1, 2]));
    let theirs = Route::new(cidr("10.0.2.0/24")).via(ip("10.100.0.77")).dev(node.uplink);
    node.rtnl.request(&add(&theirs)).unwrap();
    assert_eq!(node.diff(), ([&TO_NODE2[1..], &DEAD_ENDS].concat().join("\n") + "\n", Some(1)));
}

#[test]
fn diff_of_facts_that_cannot_be_read_is_trouble() {
    let node = Node::new("[");
    assert_eq!(node.diff(), (String::new(), Some(2)));
}

#[test]
fn diff_holds_what_a_daemon_would_hold() {
    let node = Node::new(&entries(&[1, 2, 3, 4, 5]));
    node.start().kill();
    node.list(&entries(&[1]));
    assert_eq!(node.diff(), (String::new(), Some(0)));
    node.list(&entries(&[1, 3, 4, 5]));
    let expected = "\
ip route del 10.0.2.0/24 via 10.100.0.2 dev uplink0 proto 214
ip -6 route del fd00:2::/64 via fd00:100::2 dev uplink0 proto 214 metric 1024
";
    assert_eq!(node.diff(), (expected.to_owned(), Some(1)));
}

/// P24.
#[test]
fn p24_a_dry_run_writes_nothing() {
    let mut node = Node::new(&entries(&[1, 2]));
    node.ns.run(|| FORWARDING.map(|key| sysctl::set(key, "0").unwrap())).unwrap();
    let mut monitor = node.monitor();
    let dry = node.spawn_dry();
    // The dead ends, each time, behind the routes.
    let next = |count: usize| {
        let mut lines = dry.next_lines(count + DEAD_ENDS.len());
        assert_eq!(lines.split_off(count), DEAD_ENDS);
        lines
    };
    assert_eq!(next(2), TO_NODE2);

    node.list(&entries(&[1, 2, 3]));
    let to_node3 = [
        "ip route add 10.0.3.0/24 via 10.100.0.3 dev uplink0 proto 214",
        "ip -6 route add fd00:3::/64 via fd00:100::3 dev uplink0 proto 214 metric 1024",
    ];
    assert_eq!(next(4), [TO_NODE2[0], to_node3[0], TO_NODE2[1], to_node3[1]]);
    assert_eq!(monitor.writes(), [""; 0]);

    // What others do to the kernel changes what is left to do.
    let own = Route { protocol: PROTOCOL, ..Route::new(cidr("10.0.2.0/24")) };
    node.rtnl.request(&add(&own.via(ip("10.100.0.2")).dev(node.uplink))).unwrap();
    assert_eq!(next(3), [to_node3[0], TO_NODE2[1], to_node3[1]]);
    node.list(&entries(&[1]));
    let gone = "ip route del 10.0.2.0/24 via 10.100.0.2 dev uplink0 proto 214";
    assert_eq!(dry.next_lines(4), [&DEAD_ENDS[..], &[gone]].concat());
    let ours = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&delete(&ours)).unwrap();
    assert_eq!(next(0), [""; 0]);
    let ends = [("10.0.0.0/14", 8192), ("10.0.1.0/24", 4096), ("fd00:1::/64", 4096)];
    let left = [&DEAD_ENDS[1..], &DEAD_ENDS[2..], &["# nothing to do"]];
    for ((range, priority), left) in ends.into_iter().zip(left) {
        let (protocol, kind) = (PROTOCOL, libc::RTN_UNREACHABLE);
        let end = Route { protocol, kind, priority, ..Route::new(cidr(range)) };
        node.rtnl.request(&add(&end)).unwrap();
        assert_eq!(dry.next_lines(left.len()), left);
    }

    assert_eq!(dry.stop(), Some(0));
    let own = ["+10.0.2.0/24", "-10.0.2.0/24", "+10.0.1.0/24", "+fd00:1::/64"];
    assert_eq!(monitor.writes(), own, "these were the test's own");
    assert!(!node.run_dir().exists());
    let values = node.ns.run(|| FORWARDING.map(|key| sysctl::get(key).unwrap())).unwrap();
    assert_eq!(values, ["0", "0"]);
}
