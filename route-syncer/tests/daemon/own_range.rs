//! The node's own range, unreachable where no better route leads.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel::link::Bridge;
use kernel::route::{Route, add};
use kernel::{MacAddress, address, link, sysctl};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::{Node, cidr, entries, ip};
use crate::masquerade::neighbour;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const RANGES: [&str; 2] = ["10.0.1.0/24", "fd00:1::/64"];
const UNUSED: [&str; 2] = ["10.0.1.77", "fd00:1::77"];
const ENDS: [&str; 3] = ["10.0.0.0/14 8192", "10.0.1.0/24 4096", "fd00:1::/64 4096"];
const TO_NODE2: [&str; 2] = ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"];
const FINE: [&str; 4] = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 ok", "fd00:2::/64 ok"];

/// Makes the bridge of the Pods, with the gateways' addresses, as the plugin does.
fn make_bridge(node: &mut Node) -> u32 {
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    node.rtnl.request(&Bridge { name: "cbr0", mac, mtu: None }.create()).unwrap();
    let bridge = node.rtnl.link_by_name("cbr0").unwrap().unwrap().index;
    for gateway in ["10.0.1.1/24", "fd00:1::1/64"] {
        node.rtnl.request(&address::add(bridge, cidr(gateway), false)).unwrap();
    }
    bridge
}

/// The links by which packets to unused Pod addresses leave.
fn ways(node: &mut Node) -> [Option<u32>; 2] {
    UNUSED.map(|to| node.rtnl.link_towards(ip(to)).unwrap().map(|link| link.index))
}

/// A node with a default route: what nothing else leads to leaves by it.
fn node() -> Node {
    let mut node = Node::new(&entries(&[1, 2]));
    for (all, gateway) in [("0.0.0.0/0", "10.100.0.254"), ("::/0", "fd00:100::254")] {
        let route = Route::new(cidr(all)).via(ip(gateway)).dev(node.uplink);
        node.rtnl.request(&add(&route)).unwrap();
    }
    node
}

/// P19.
#[test]
fn p19_the_bridge_wins_whichever_came_first() {
    for bridge_is_first in [true, false] {
        let mut node = node();
        let uplink = Some(node.uplink);
        assert_eq!(ways(&mut node), [uplink; 2]);
        let early = bridge_is_first.then(|| make_bridge(&mut node));
        let _daemon = node.start();
        assert_eq!(node.dead_ends(), ENDS);
        let bridge = early.unwrap_or_else(|| {
            assert_eq!(ways(&mut node), [None; 2]);
            make_bridge(&mut node)
        });
        assert_eq!(ways(&mut node), [Some(bridge); 2]);
        // And it is no conflict.
        node.wait_for_status(&FINE);
        node.rtnl.request(&link::delete(bridge)).unwrap();
        assert_eq!(ways(&mut node), [None; 2]);
    }
}

/// P19.
#[test]
fn p19_packets_to_unused_addresses_are_answered_and_do_not_loop() {
    let families = [
        (0, "10.100.1.1/24", "10.100.1.2/24", "net/snmp", ErrorKind::HostUnreachable),
        (1, "fd00:101::1/64", "fd00:101::2/64", "net/snmp6", ErrorKind::NetworkUnreachable),
    ];
    for (family, here, there, counters, expected) in families {
        let mut node = Node::new(&entries(&[1, 2]));
        // What the router has no other way for comes back here.
        let (router, ..) = neighbour(&mut node, "router", here, there);
        let link = node.rtnl.link_by_name("router").unwrap().unwrap().index;
        let all = cidr(["0.0.0.0/0", "::/0"][family]);
        let default = Route::new(all).via(cidr(there).ip()).dev(link);
        node.rtnl.request(&add(&default)).unwrap();
        let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"][family];
        router.run(|| sysctl::set(forwarding, "1").unwrap()).unwrap();
        let _daemon = node.start();

        let to = SocketAddr::new(ip(UNUSED[family]), 9);
        let answer = router.run(|| answer_to(cidr(there).ip(), to)).unwrap();
        assert_eq!(answer.kind(), expected);
        let path = format!("/proc/thread-self/{counters}");
        let text = node.ns.run(|| std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(forwarded(&text), 0, "{text}");
    }
}

/// What comes back to a datagram. (TCP would not do: it forgets an answer that comes while it sends.)
fn answer_to(from: IpAddr, to: SocketAddr) -> Error {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
    if from.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
    }
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"is anybody there?").unwrap();
    socket.recv(&mut [0; 16]).unwrap_err()
}

/// How many packets a namespace has passed on, by its counters.
fn forwarded(text: &str) -> u64 {
    let words = |line: &'static str| move |text: &&str| text.starts_with(line);
    if let Some(line) = text.lines().find(words("Ip6OutForwDatagrams")) {
        return line.split_whitespace().nth(1).unwrap().parse().unwrap();
    }
    let mut ip = text.lines().filter(words("Ip:"));
    let (names, values) = (ip.next().unwrap(), ip.next().unwrap());
    let place = names.split(' ').position(|name| name == "ForwDatagrams").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// P19.
#[test]
fn p19_no_other_node_gets_the_own_range() {
    let own = r#"{"name": "node1", "address": "10.100.0.1", "podCIDRs": ["10.0.1.0/24"]}"#;
    let thief = r#"{"name": "node2", "address": "10.100.0.2", "podCIDRs": ["10.0.1.0/24"]}"#;
    let mut node = Node::new(&format!("[{thief}, {own}]"));
    let _daemon = node.start();
    node.wait_for_status(&[
        "10.0.1.0/24 refused(overlaps this node's own range 10.0.1.0/24)",
        "10.0.1.0/24 own",
    ]);
    assert_eq!(node.routes(), [""; 0]);
    assert_eq!(node.dead_ends(), ENDS[..2]);
}

#[test]
fn the_routes_are_repaired_shown_and_kept_at_a_restart() {
    let mut node = node();
    let daemon = node.start();
    node.wait_for_status(&FINE);
    let (table, _) = node.call(&["status"]);
    assert_eq!(table.matches("unreachable").count(), 3, "{table}");
    for range in RANGES {
        let mut monitor = node.monitor();
        let lost = node.route(range).unwrap();
        assert_eq!((lost.kind, lost.priority), (libc::RTN_UNREACHABLE, 4096));
        node.rtnl.request(&kernel::route::delete(&lost)).unwrap();
        monitor.wait_for_new(range);
    }
    node.wait_for_status(&FINE);
    assert_eq!(daemon.stop(), Some(0));
    let mut monitor = node.monitor();
    assert_eq!(node.start().stop(), Some(0));
    assert_eq!(monitor.writes(), [""; 0]);
    assert_eq!((node.routes(), node.dead_ends().len()), (TO_NODE2.map(str::to_owned).into(), 3));

    // Who does not want them has none.
    let _daemon = node.start_with(&["--own-unreachable=false"]);
    node.wait_for_dead_ends(&ENDS[..1]);
}

#[test]
fn a_foreign_route_in_their_place_is_reported_and_never_touched() {
    let mut node = node();
    let theirs = |range| Route {
        priority: 4096,
        kind: libc::RTN_BLACKHOLE,
        protocol: 4,
        ..Route::new(cidr(range))
    };
    node.rtnl.request_all(&RANGES.map(|range| add(&theirs(range)))).unwrap();
    let before = RANGES.map(|range| node.route(range).unwrap());
    let _daemon = node.start();
    let conflicts = RANGES.map(|range| format!("{range} conflict(proto 4)"));
    node.wait_for_status(&[&conflicts[0], &conflicts[1], FINE[2], FINE[3]]);
    assert_eq!(RANGES.map(|range| node.route(range).unwrap()), before);
    assert_eq!(node.dead_ends(), ENDS[..1]);
    // When they go, ours come.
    node.rtnl.request_all(&before.map(|route| kernel::route::delete(&route))).unwrap();
    node.wait_for_dead_ends(&ENDS);
    node.wait_for_status(&FINE);
}

#[test]
fn a_range_with_the_nodes_own_address_in_it_stays_reachable() {
    let list = r#"[{"name": "node1", "address": "10.100.0.1", "podCIDRs": ["10.0.0.0/8"]}]"#;
    let mut node = Node::new(list);
    let _daemon = node.start();
    node.wait_for_status(&["10.0.0.0/8 own"]);
    assert_eq!(node.dead_ends(), [""; 0]);
}

#[test]
fn cleanup_takes_them_too() {
    let mut node = node();
    node.start().kill();
    let state_dir = node.folder.path().join("state");
    let (said, code) = node.call(&["cleanup", "--state-dir", state_dir.to_str().unwrap()]);
    assert_eq!((code, said.contains("removed 5 routes")), (Some(0), true), "{said}");
    assert_eq!((node.routes(), node.dead_ends()), (Vec::new(), Vec::new()));
}
