//! Somebody or something changes the kernel's state.

use kernel::MacAddress;
use kernel::link::Bridge;
use kernel::netlink::Message;
use kernel::nft::{Family, Nft, Table};
use kernel::route::{self, Route};
use nix::libc;

use crate::health::{started, wait_until_idle};
use crate::lab::{Daemon, Node, PROTOCOL, cidr, entries, ip};

const STATIC: u8 = 4;
const TWO: [&str; 2] = ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"];
const OWN: [&str; 2] = ["10.0.1.0/24 own", "fd00:1::/64 own"];

fn foreign(node: &Node, destination: &str, gateway: &str) -> Route {
    Route { protocol: STATIC, ..Route::new(cidr(destination)).via(ip(gateway)).dev(node.uplink) }
}

/// A node with a daemon that is done with its start: amid a sync it would see without any event what
/// is changed.
fn idle() -> (Node, Daemon) {
    let (node, daemon) = started(&entries(&[1, 2]));
    wait_until_idle(&node);
    (node, daemon)
}

#[test]
fn p08_a_deleted_route_is_back() {
    let (mut node, _daemon) = idle();
    for destination in ["10.0.2.0/24", "fd00:2::/64"] {
        let lost = node.route(destination).unwrap();
        let mut monitor = node.monitor();
        node.rtnl.request(&route::delete(&lost)).unwrap();
        monitor.wait_for_new(destination);
        assert_eq!(node.routes(), TWO);
    }
}

#[test]
fn p08_routes_lost_with_a_link_are_back_with_it() {
    let (mut node, _daemon) = idle();
    node.set_link_up(false);
    node.wait_for_routes(&[]);
    // IPv6 addresses go with the link, too.
    node.wait_for_status(&[OWN[0], OWN[1], "10.0.2.0/24 off-link", "fd00:2::/64 off-link"]);
    node.set_link_up(true);
    node.rtnl.request(&kernel::address::add(node.uplink, cidr("fd00:100::1/64"), false)).unwrap();
    node.wait_for_routes(&TWO);
}

#[test]
fn p08_routes_lost_with_an_address_are_back_with_it() {
    let (mut node, _daemon) = idle();
    node.delete_addresses();
    node.wait_for_status(&[OWN[0], OWN[1], "10.0.2.0/24 off-link", "fd00:2::/64 off-link"]);
    // The kernel drops the IPv4 route with the last address, and keeps the IPv6 one: so do we.
    assert_eq!(node.routes(), TWO[1..]);
    node.add_addresses();
    node.wait_for_routes(&TWO);
}

#[test]
fn p08_a_link_that_is_made_anew_is_found_by_its_addresses() {
    let (mut node, _daemon) = idle();
    node.delete_link();
    let mac = MacAddress([2, 0, 0, 0, 0, 2]);
    node.rtnl.request(&Bridge { name: "other0", mac, mtu: None }.create()).unwrap();
    let before = node.uplink;
    node.uplink = node.rtnl.link_by_name("other0").unwrap().unwrap().index;
    assert_ne!(node.uplink, before);
    node.add_addresses();
    node.wait_for_routes(&TWO);
    assert_eq!(node.route("10.0.2.0/24").unwrap().link, Some(node.uplink));
}

#[test]
fn p02_a_foreign_route_is_reported_and_never_touched() {
    for (destination, gateway) in [("10.0.2.0/24", "10.100.0.77"), ("fd00:2::/64", "fd00:100::77")]
    {
        let mut node = Node::new(&entries(&[1, 2]));
        let theirs = foreign(&node, destination, gateway);
        node.rtnl.request(&route::add(&theirs)).unwrap();
        let before = node.route(destination).unwrap();
        let _daemon = node.start();
        let state = |cidr: &str| {
            let state = if cidr == destination { "conflict(proto 4)" } else { "ok" };
            format!("{cidr} {state}")
        };
        let (v4, v6) = (state("10.0.2.0/24"), state("fd00:2::/64"));
        node.wait_for_status(&[OWN[0], OWN[1], &v4, &v6]);
        assert_eq!(node.route(destination).unwrap(), before);
        assert_eq!(node.routes().len(), 1);
        assert_eq!(node.status(&[]).status.code(), Some(1));

        // When it goes, ours comes.
        node.rtnl.request(&route::delete(&before)).unwrap();
        node.wait_for_routes(&TWO);
    }
}

#[test]
fn p02_a_foreign_replace_of_a_route_of_ours_is_a_conflict() {
    let (mut node, _daemon) = idle();
    let theirs = foreign(&node, "10.0.2.0/24", "10.100.0.77");
    node.rtnl.request(&route::replace(&theirs)).unwrap();
    node.wait_for_status(&[OWN[0], OWN[1], "10.0.2.0/24 conflict(proto 4)", "fd00:2::/64 ok"]);
    assert_eq!(node.route("10.0.2.0/24").unwrap().gateway, theirs.gateway);
}

#[test]
fn a_wrong_route_with_our_protocol_is_put_right() {
    let (mut node, _daemon) = idle();
    let wrong = Route { protocol: PROTOCOL, ..foreign(&node, "10.0.2.0/24", "10.100.0.77") };
    node.rtnl.request(&route::replace(&wrong)).unwrap();
    node.wait_for_routes(&TWO);
    let stray = Route { protocol: PROTOCOL, ..foreign(&node, "10.0.77.0/24", "10.100.0.77") };
    node.rtnl.request(&route::add(&stray)).unwrap();
    node.wait_for_routes(&TWO);
}

#[test]
fn p04_an_ipv6_route_never_has_a_second_next_hop() {
    let (mut node, _daemon) = idle();
    // Without EXCL and REPLACE the kernel adds a next hop to the route that is there.
    let header = [libc::AF_INET6 as u8, 64, 0, 0, 254, STATIC, 0, 1, 0, 0, 0, 0];
    let octets = |text: &str| match ip(text) {
        std::net::IpAddr::V6(v6) => v6.octets(),
        std::net::IpAddr::V4(_) => unreachable!(),
    };
    let append = Message::new("append", libc::RTM_NEWROUTE, libc::NLM_F_CREATE as u16, &header)
        .put(libc::RTA_DST, &octets("fd00:2::"))
        .put(libc::RTA_GATEWAY, &octets("fd00:100::77"))
        .put_u32(libc::RTA_OIF, node.uplink);
    let mut monitor = node.monitor();
    node.rtnl.request(&append).unwrap();
    monitor.wait_for_new("fd00:2::/64");
    node.wait_for_routes(&TWO);
}

#[test]
fn a_new_route_waits_for_its_exemption_from_masquerading() {
    const OWNER: u32 = 2; // NFT_TABLE_F_OWNER: nobody but this socket may change the table
    let mut node = Node::new(&entries(&[1, 2]));
    let request = |kind: i32, flags: u16| {
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
        Message::new("table", kind, flags, &[libc::NFPROTO_INET as u8, 0, 0, 0])
            .put_text(1, "cbr0_cluster")
    };
    let owned = request(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE as u16).put_u32_be(2, OWNER);
    let mut owner = Nft::open_in(&node.ns).unwrap();
    owner.commit(&[owned]).unwrap();
    let daemon = node.spawn();
    daemon.wait_for("new routes have to wait");
    assert_eq!(node.routes(), [""; 0]);
    assert_eq!(node.status(&[]).status.code(), Some(1));

    // The table goes with its owner; the next try finds the way free.
    drop(owner);
    node.wait_for_routes(&TWO);
    daemon.wait_for("wrote the masquerade rules");
}

#[test]
fn a_lost_masquerade_table_is_back_with_the_next_sync() {
    let (mut node, _daemon) = idle();
    let table = Table { family: Family::Inet, name: "cbr0_cluster" };
    let mut nft = Nft::open_in(&node.ns).unwrap();
    nft.commit(&[table.delete()]).unwrap();
    node.list(&entries(&[1, 2, 3]));
    let all = [TWO[0], "10.0.3.0/24 via 10.100.0.3", TWO[1], "fd00:3::/64 via fd00:100::3"];
    node.wait_for_routes(&all);
    assert_eq!(nft.chains(&table).unwrap(), ["postrouting"]);
}

#[test]
fn p09_a_burst_that_overflows_the_events_is_caught_up_with() {
    let (mut node, _daemon) = idle();
    let lost = node.route("10.0.2.0/24").unwrap();
    let noise: Vec<Route> = (0..20_000u32)
        .map(|number| {
            let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + (number << 8));
            let destination = ipnetwork::IpNetwork::new(address.into(), 24).unwrap();
            Route { protocol: STATIC, ..Route::new(destination).dev(node.uplink) }
        })
        .collect();
    let add: Vec<Message> = noise.iter().map(|r| route::add(&Route { scope: 253, ..*r })).collect();
    node.rtnl.request_all(&add).unwrap();
    node.rtnl.request(&route::delete(&lost)).unwrap();
    node.wait_for_routes(&TWO);
}
