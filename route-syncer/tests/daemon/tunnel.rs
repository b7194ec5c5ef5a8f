//! Nodes behind a router, with `--off-link vxlan`: the tunnel to them is made, repaired and removed
//! as routes are.

use std::collections::BTreeSet;

use kernel::link::{self, Kind, NewLink, Vxlan};
use kernel::netlink::{Message, Protocol, Reply, Socket};
use kernel::route::{Route, TABLE_MAIN};
use kernel::{MacAddress, address, fdb, neighbour};
use nix::libc;

use crate::lab::{Node, PROTOCOL, cidr, entry, ip, wait_readable_until};

const VXLAN: [&str; 2] = ["--off-link", "vxlan"];
/// `NUD_PERMANENT`.
const PERMANENT: u8 = 0x80;
const DEVICES: [&str; 2] = ["cbr0-vxlan", "cbr0-vxlan6"];

/// The entry of a node behind the router: node 3 is 10.101.0.3.
fn behind(number: u8) -> String {
    entry(number).replace("10.100.", "10.101.").replace("fd00:100:", "fd00:101:")
}

fn list(entries: &[String]) -> String {
    format!("[{}]", entries.join(",\n"))
}

/// Node 1, with node 2 on its link and node 3 behind a router.
fn node() -> Node {
    Node::new(&list(&[entry(1), entry(2), behind(3)]))
}

/// What there is of the tunnel, and our routes with their links.
fn found(node: &mut Node) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let rtnl = &mut node.rtnl;
    let links = rtnl.links().unwrap();
    for device in links.iter().filter(|link| DEVICES.contains(&link.name.as_str())) {
        let name = &device.name;
        let Some(Kind::Vxlan(vxlan)) = device.made_as else { panic!("{device:?}") };
        let (mac, mtu, up) = (device.mac.unwrap(), device.mtu, device.is_up());
        found.insert(format!("{name} {mac} mtu {mtu} up {up} {vxlan:?}"));
        for one in rtnl.addresses(device.index).unwrap().iter().filter(|one| !one.link_local) {
            found.insert(format!("{name} has {}", one.address));
        }
        for one in rtnl.neighbours(device.index).unwrap().iter().filter(|one| one.permanent) {
            found.insert(format!("{name} neighbour {} {}", one.address, one.mac.unwrap()));
        }
        for one in rtnl.forwarding_entries(device.index).unwrap() {
            found.insert(format!("{name} entry {} to {}", one.mac, one.remote));
        }
    }
    let routes = rtnl.routes(TABLE_MAIN).unwrap();
    // Those that lead nowhere are no part of a tunnel.
    let leads = |route: &&Route| route.protocol == PROTOCOL && route.gateway.is_some();
    for route in routes.iter().filter(leads) {
        let link = links.iter().find(|link| Some(link.index) == route.link).unwrap();
        let on_link = if route.on_link { " onlink" } else { "" };
        let via = route.gateway.unwrap();
        found.insert(format!("{} via {via} dev {}{on_link}", route.destination, link.name));
    }
    found
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

const DIRECT: [&str; 2] =
    ["10.0.2.0/24 via 10.100.0.2 dev uplink0", "fd00:2::/64 via fd00:100::2 dev uplink0"];
const TUNNELLED: [&str; 2] = [
    "10.0.3.0/24 via 10.0.3.0 dev cbr0-vxlan onlink",
    "fd00:3::/64 via fe80::c77:1aff:fef1:453a dev cbr0-vxlan6 onlink",
];

/// All of it with [`node`]. The hardware addresses follow from 10.100.0.1, 10.101.0.3 and their like.
fn all() -> BTreeSet<String> {
    let mut all = set(&[
        "cbr0-vxlan 0e:cb:0a:64:00:01 mtu 1450 up true \
         Vxlan { id: 1, local: Some(10.100.0.1), port: 8472, learning: false }",
        "cbr0-vxlan has 10.0.1.0/32",
        "cbr0-vxlan neighbour 10.0.3.0 0e:cb:0a:65:00:03",
        "cbr0-vxlan entry 0e:cb:0a:65:00:03 to 10.101.0.3",
        "cbr0-vxlan6 0e:30:dc:31:c8:08 mtu 1430 up true \
         Vxlan { id: 1, local: Some(fd00:100::1), port: 8472, learning: false }",
        "cbr0-vxlan6 has fd00:1::/128",
        "cbr0-vxlan6 neighbour fe80::c77:1aff:fef1:453a 0e:77:1a:f1:45:3a",
        "cbr0-vxlan6 entry 0e:77:1a:f1:45:3a to fd00:101::3",
    ]);
    all.extend(set(&DIRECT));
    all.extend(set(&TUNNELLED));
    all
}

/// A socket that hears of links, neighbours, addresses and routes.
fn events(node: &Node) -> Socket {
    let open = || {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        // RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
        [1, 3, 5, 7, 9, 11].into_iter().for_each(|group| socket.subscribe(group).unwrap());
        socket
    };
    node.ns.run(open).unwrap()
}

/// Waits until what is found is as expected.
fn wait_for(node: &mut Node, what: &str, expected: &BTreeSet<String>) {
    let mut events = events(node);
    wait_readable_until(|wait| {
        let found = found(node);
        if found == *expected {
            return true;
        }
        wait(&events, &format!("{what}: {found:#?} is not {expected:#?}"));
        events.events().unwrap();
        false
    });
}

/// What the events tell that was written about routes of ours, neighbours and links. What the kernel
/// itself does later, such as to settle the state of a link, is not among it.
fn writes(events: &mut Socket) -> Vec<String> {
    let told = events.events().unwrap().expect("an overflow");
    let is_write = |event: &&Reply| match event.kind {
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => event.u8_at(5) == PROTOCOL,
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => event.u8_at(8) & PERMANENT != 0,
        libc::RTM_DELLINK => true,
        _ => false,
    };
    told.iter().filter(is_write).map(|event| format!("{event:?}")).collect()
}

fn index(node: &mut Node, name: &str) -> u32 {
    node.rtnl.link_by_name(name).unwrap().unwrap().index
}

#[test]
fn nodes_behind_a_router_are_reached_through_the_tunnel_and_those_on_the_link_directly() {
    let mut node = node();
    let _daemon = node.start_with(&VXLAN);
    assert_eq!(found(&mut node), all());
    let status = node.status(&[]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let expected = "\
NODE   POD CIDR     VIA          DEVICE                STATE
node1  10.0.1.0/24  unreachable  -                     own
node1  fd00:1::/64  unreachable  -                     own
node2  10.0.2.0/24  10.100.0.2   uplink0               ok
node2  fd00:2::/64  fd00:100::2  uplink0               ok
node3  10.0.3.0/24  10.101.0.3   cbr0-vxlan (tunnel)   ok
node3  fd00:3::/64  fd00:101::3  cbr0-vxlan6 (tunnel)  ok
*      10.0.0.0/14  unreachable  -                     ok
";
    assert_eq!(String::from_utf8(status.stdout).unwrap(), expected);
}

#[test]
fn whatever_is_lost_of_the_tunnel_comes_back() {
    let mut node = node();
    let _daemon = node.start_with(&VXLAN);
    assert_eq!(found(&mut node), all());
    let mac = |text: &str| text.parse::<MacAddress>().unwrap();
    type Damage = fn(&mut Node, u32) -> Message;
    let damages: [(&str, Damage); 9] = [
        ("entry", |_, link| {
            fdb::delete(link, "0e:cb:0a:65:00:03".parse().unwrap(), ip("10.101.0.3"))
        }),
        ("entry elsewhere", |_, link| {
            fdb::set(link, "0e:cb:0a:65:00:03".parse().unwrap(), ip("10.101.0.99"))
        }),
        ("neighbour", |_, link| neighbour::delete(link, ip("10.0.3.0"))),
        ("route", |node, _| kernel::route::delete(&node.route("10.0.3.0/24").unwrap())),
        ("address", |_, link| address::delete(link, cidr("10.0.1.0/32"))),
        ("MTU", |_, link| link::set_mtu(link, 1400)),
        ("hardware address", |_, link| link::set_mac(link, MacAddress([2, 0, 0, 0, 0, 7]))),
        ("down", |_, link| link::set_down(link)),
        ("device", |_, link| link::delete(link)),
    ];
    for (what, damage) in damages {
        let link = index(&mut node, DEVICES[0]);
        let message = damage(&mut node, link);
        node.rtnl.request(&message).unwrap();
        wait_for(&mut node, what, &all());
    }
    // What is superfluous goes as well.
    let link = index(&mut node, DEVICES[0]);
    let stray = [
        fdb::set(link, mac("02:00:00:00:00:09"), ip("10.101.0.9")),
        neighbour::set_permanent(link, ip("10.0.9.0"), mac("02:00:00:00:00:09")),
        address::add(link, cidr("10.0.9.0/32"), false),
    ];
    for message in stray {
        node.rtnl.request(&message).unwrap();
        wait_for(&mut node, message.what(), &all());
    }
}

#[test]
fn after_a_flush_of_everything_all_is_back() {
    let mut node = node();
    let _daemon = node.start_with(&VXLAN);
    let routes: Vec<Route> = node.rtnl.routes(TABLE_MAIN).unwrap();
    let mut flush: Vec<Message> = routes
        .iter()
        .filter(|route| route.protocol == PROTOCOL)
        .map(kernel::route::delete)
        .collect();
    for name in DEVICES {
        let link = index(&mut node, name);
        for one in node.rtnl.neighbours(link).unwrap() {
            flush.push(neighbour::delete(link, one.address));
        }
        for one in node.rtnl.forwarding_entries(link).unwrap() {
            flush.push(fdb::delete(link, one.mac, one.remote));
        }
    }
    node.rtnl.batch(&flush).unwrap();
    wait_for(&mut node, "flush", &all());
}

#[test]
fn the_tunnel_follows_the_nodes_own_address() {
    let mut node = node();
    let _daemon = node.start_with(&VXLAN);
    let uplink = node.uplink;
    node.rtnl.request(&address::add(uplink, cidr("10.100.0.77/24"), false)).unwrap();
    node.list(&list(&[entry(1).replace("10.100.0.1", "10.100.0.77"), entry(2), behind(3)]));
    let moved: BTreeSet<String> = all()
        .into_iter()
        .map(|line| {
            line.replace("0e:cb:0a:64:00:01", "0e:cb:0a:64:00:4d")
                .replace("10.100.0.1)", "10.100.0.77)")
        })
        .collect();
    wait_for(&mut node, "moved", &moved);
    // The second address goes with the first one.
    node.delete_addresses();
    node.add_addresses();
    node.list(&list(&[entry(1), entry(2), behind(3)]));
    wait_for(&mut node, "back", &all());
}

#[test]
fn p03_a_restart_writes_nothing_of_the_tunnel() {
    let mut node = node();
    let daemon = node.start_with(&VXLAN);
    assert_eq!(found(&mut node), all());
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(found(&mut node), all(), "all stays when the daemon stops");
    let mut events = events(&node);
    for _ in 0..3 {
        node.start_with(&VXLAN).kill();
    }
    assert_eq!(writes(&mut events), [""; 0]);
    assert_eq!(found(&mut node), all());
}

#[test]
fn p06_a_node_that_moves_behind_a_router_and_back_always_has_a_route() {
    let mut node = node();
    let _daemon = node.start_with(&VXLAN);
    let before = found(&mut node);
    let mut monitor = node.monitor();
    node.list(&list(&[entry(1), behind(2), behind(3)]));
    monitor.wait_for_new("10.0.2.0/24");
    monitor.wait_for_new("fd00:2::/64");
    let away: Vec<String> = monitor.writes();
    node.list(&list(&[entry(1), entry(2), behind(3)]));
    wait_for(&mut node, "back", &before);
    let back: Vec<String> = monitor.writes();
    for writes in [away, back] {
        assert!(writes.iter().all(|write| !write.starts_with('-')), "{writes:?}");
    }
}

#[test]
fn p05_who_is_gone_is_forgotten_and_with_another_mode_the_tunnel_goes() {
    let mut node = node();
    let daemon = node.start_with(&VXLAN);
    node.list(&list(&[entry(1), entry(2)]));
    let alone: BTreeSet<String> = all()
        .into_iter()
        .filter(|line| {
            !line.contains("neighbour") && !line.contains("entry") && !line.contains("onlink")
        })
        .collect();
    wait_for(&mut node, "gone", &alone);
    assert_eq!(daemon.stop(), Some(0));
    node.list(&list(&[entry(1), entry(2), behind(3)]));
    let _daemon = node.start();
    assert_eq!(found(&mut node), set(&DIRECT));
    let off_link = ["10.0.3.0/24 off-link", "fd00:3::/64 off-link"];
    let ok = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 ok", "fd00:2::/64 ok"];
    node.wait_for_status(&[&ok[..], &off_link].concat());
}

/// A vxlan as flannel makes it.
fn flannel(name: &str, id: u32) -> Message {
    let vxlan = Vxlan { id, local: Some(ip("10.100.0.1")), port: 8472, learning: false };
    let (namespace, lower, mac, mtu) = (None, None, None, None);
    NewLink { name, kind: Kind::Vxlan(vxlan), namespace, lower, mac, mtu, up: true }.create()
}

#[test]
fn p25_cleanup_removes_our_devices_and_no_others() {
    let mut node = node();
    node.rtnl.request(&flannel("flannel.2", 2)).unwrap();
    let theirs = index(&mut node, "flannel.2");
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    node.rtnl
        .request_all(&[
            fdb::set(theirs, mac, ip("10.101.0.9")),
            neighbour::set_permanent(theirs, ip("10.0.9.0"), mac),
        ])
        .unwrap();
    node.start_with(&VXLAN).kill();
    assert_eq!(found(&mut node), all());
    let state_dir = node.folder.path().join("state");
    let (said, code) = node.call(&["cleanup", "--state-dir", state_dir.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    for name in DEVICES {
        assert!(said.contains(&format!("ip link del {name}")), "{said}");
    }
    assert_eq!(found(&mut node), BTreeSet::new());
    assert_eq!(index(&mut node, "flannel.2"), theirs);
    assert_eq!(node.rtnl.forwarding_entries(theirs).unwrap().len(), 1);
    assert!(node.rtnl.neighbours(theirs).unwrap().iter().any(|one| one.mac == Some(mac)));
}

#[test]
fn flannels_device_is_named_as_the_obstacle_and_not_touched() {
    let mut node = node();
    node.rtnl.request(&flannel("flannel.1", 1)).unwrap();
    let _daemon = node.start_with(&VXLAN);
    let of_v6 = |line: &String| line.contains("cbr0-vxlan6") || line.contains("uplink0");
    let without_v4: BTreeSet<String> = all().into_iter().filter(of_v6).collect();
    assert_eq!(found(&mut node), without_v4);
    let others = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 ok", "fd00:2::/64 ok"];
    let missing = ["10.0.3.0/24 missing(the tunnel has no device)", "fd00:3::/64 ok"];
    node.wait_for_status(&[&others[..], &missing].concat());
    node.wait_for_words(&["check"], "ip link del flannel.1");
    let theirs = index(&mut node, "flannel.1");
    node.rtnl.request(&link::delete(theirs)).unwrap();
    wait_for(&mut node, "flannel is gone", &all());
}

#[test]
fn an_end_that_the_source_tells_counts() {
    let told =
        behind(3).replace(r#""podCIDRs""#, r#""vteps": {"v4": "c6:00:00:00:00:03"}, "podCIDRs""#);
    let mut node = Node::new(&list(&[entry(1), entry(2), told]));
    let _daemon = node.start_with(&VXLAN);
    let expected: BTreeSet<String> = all()
        .into_iter()
        .map(|line| line.replace("0e:cb:0a:65:00:03", "c6:00:00:00:00:03"))
        // It has no end between IPv6 addresses.
        .filter(|line| !(line.starts_with("fd00:3") || line.contains("0e:77:1a")))
        .collect();
    assert_eq!(found(&mut node), expected);
}

#[test]
fn pods_packets_fit_into_the_tunnel() {
    let node = node();
    let path = node.folder.path().join("net.d/10-cbr0.conflist");
    let conflist = ["--conflist", path.to_str().unwrap()];
    let mtu = || {
        let text = std::fs::read_to_string(&path).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["plugins"][0]["mtu"].clone()
    };
    for (options, expected) in [(&VXLAN[..], 1430), (&[], 1500)] {
        let daemon = node.start_with(&[options, &conflist].concat());
        // It is written before the daemon looks at the signal.
        assert_eq!(daemon.stop(), Some(0));
        assert_eq!(mtu(), expected);
    }
}

#[test]
fn with_fail_the_daemon_ends_before_its_first_change_and_later_makes_it_a_problem() {
    let mut node = node();
    let mut events = events(&node);
    let daemon = node.spawn_with(&["--off-link", "fail"]);
    daemon.wait_for("node3 (10.101.0.3)");
    assert_eq!(daemon.wait(), Some(1));
    assert_eq!(writes(&mut events), [""; 0]);
    assert_eq!(found(&mut node), BTreeSet::new());

    node.list(&list(&[entry(1), entry(2)]));
    let daemon = node.start_with(&["--off-link", "fail"]);
    assert_eq!(found(&mut node), set(&DIRECT));
    node.list(&list(&[entry(1), entry(2), behind(3)]));
    node.wait_for_words(&["check"], "--off-link is \"fail\"");
    assert_eq!(found(&mut node), set(&DIRECT));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn p24_what_diff_tells_is_what_the_daemon_does_and_nothing_is_written() {
    let mut node = node();
    let mut events = events(&node);
    let (said, code) = node.diff_with(&VXLAN);
    let expected = "\
ip link add cbr0-vxlan address 0e:cb:0a:64:00:01 mtu 1450 up type vxlan id 1 local 10.100.0.1 dstport 8472 nolearning
ip link add cbr0-vxlan6 address 0e:30:dc:31:c8:08 mtu 1430 up type vxlan id 1 local fd00:100::1 dstport 8472 nolearning
ip addr add 10.0.1.0/32 dev cbr0-vxlan
ip addr add fd00:1::/128 dev cbr0-vxlan6 nodad
ip neigh replace 10.0.3.0 lladdr 0e:cb:0a:65:00:03 dev cbr0-vxlan nud permanent
bridge fdb replace 0e:cb:0a:65:00:03 dev cbr0-vxlan dst 10.101.0.3 self permanent
ip neigh replace fe80::c77:1aff:fef1:453a lladdr 0e:77:1a:f1:45:3a dev cbr0-vxlan6 nud permanent
bridge fdb replace 0e:77:1a:f1:45:3a dev cbr0-vxlan6 dst fd00:101::3 self permanent
ip route add 10.0.2.0/24 via 10.100.0.2 dev uplink0 proto 214
ip route add 10.0.3.0/24 via 10.0.3.0 dev cbr0-vxlan onlink proto 214
ip -6 route add fd00:2::/64 via fd00:100::2 dev uplink0 proto 214 metric 1024
ip -6 route add fd00:3::/64 via fe80::c77:1aff:fef1:453a dev cbr0-vxlan6 onlink proto 214 metric 1024
ip route add unreachable 10.0.0.0/14 proto 214 metric 8192
ip route add unreachable 10.0.1.0/24 proto 214 metric 4096
ip -6 route add unreachable fd00:1::/64 proto 214 metric 4096
";
    assert_eq!((said.as_str(), code), (expected, Some(1)));
    assert_eq!(writes(&mut events), [""; 0]);

    node.start_with(&VXLAN).kill();
    assert_eq!(found(&mut node), all());
    assert_eq!(node.diff_with(&VXLAN), (String::new(), Some(0)));
    let without = "\
ip route del 10.0.3.0/24 via 10.0.3.0 dev cbr0-vxlan onlink proto 214
ip -6 route del fd00:3::/64 via fe80::c77:1aff:fef1:453a dev cbr0-vxlan6 onlink proto 214 metric 1024
ip link del cbr0-vxlan
ip link del cbr0-vxlan6
";
    assert_eq!(node.diff_with(&[]), (without.to_owned(), Some(1)));
}
