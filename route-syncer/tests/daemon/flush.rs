//! Routes that go all at once.

use kernel::route::{Route, TABLE_MAIN, add, delete};
use nix::libc;
use nix::sys::signal::Signal;

use crate::health::{started, wait_until_idle};
use crate::lab::{Node, PROTOCOL, cidr, entries};

const ALL: [&str; 4] = [
    "10.0.2.0/24 via 10.100.0.2",
    "10.0.3.0/24 via 10.100.0.3",
    "fd00:2::/64 via fd00:100::2",
    "fd00:3::/64 via fd00:100::3",
];

/// Deletes the routes of the main table for which this holds.
fn flush(node: &mut Node, goes: impl Fn(&Route) -> bool) {
    let routes = node.rtnl.routes(TABLE_MAIN).unwrap();
    let deletions: Vec<_> = routes.iter().filter(|route| goes(route)).map(delete).collect();
    assert!(!deletions.is_empty());
    node.rtnl.request_all(&deletions).unwrap();
}

/// P8, `ip route flush proto 214`.
#[test]
fn p08_all_of_ours_are_back_after_they_were_flushed() {
    let mut node = Node::new(&entries(&[1, 2, 3]));
    let _daemon = node.start();
    let dead_ends = node.dead_ends();
    let dead_ends: Vec<&str> = dead_ends.iter().map(String::as_str).collect();
    // The first time, what the daemon's own start brought may wake it, too.
    for _ in 0..3 {
        flush(&mut node, |route| route.protocol == PROTOCOL);
        node.wait_for_routes(&ALL);
        node.wait_for_dead_ends(&dead_ends);
    }
}

/// P8, `ip route flush table main`: nothing leads to any gateway then, until the underlay's routes are
/// there again.
#[test]
fn p08_all_of_ours_are_back_once_the_underlay_is() {
    let mut node = Node::new(&entries(&[1, 2, 3]));
    let _daemon = node.start();
    let is_underlay = |route: &&Route| {
        [cidr("10.100.0.0/24"), cidr("fd00:100::/64")].contains(&route.destination)
    };
    let all = node.rtnl.routes(TABLE_MAIN).unwrap();
    let underlay: Vec<Route> = all.iter().filter(is_underlay).copied().collect();
    assert_eq!(underlay.len(), 2);
    // In the order in which the kernel tells them the way to the gateways goes first.
    flush(&mut node, |_| true);
    node.rtnl.request_all(&underlay.iter().map(add).collect::<Vec<_>>()).unwrap();
    node.wait_for_routes(&ALL);
}

/// P9: more has happened than the socket holds, while the daemon could not listen.
#[test]
fn p09_a_daemon_that_was_stopped_while_much_happened_catches_up() {
    let (mut node, daemon) = started(&entries(&[1, 2, 3]));
    // What it was in the middle of it would go on with, and see the routes gone without any event.
    wait_until_idle(&node);
    daemon.signal(Signal::SIGSTOP);
    let noise = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + (number << 8));
        let destination = ipnetwork::IpNetwork::new(address.into(), 24).unwrap();
        Route { scope: libc::RT_SCOPE_LINK, ..Route::new(destination).dev(node.uplink) }
    };
    let noise: Vec<Route> = (0..20_000).map(noise).collect();
    node.rtnl.request_all(&noise.iter().map(add).collect::<Vec<_>>()).unwrap();
    node.rtnl.request_all(&noise.iter().map(delete).collect::<Vec<_>>()).unwrap();
    // What is beyond the socket's end is not told.
    flush(&mut node, |route| route.protocol == PROTOCOL);
    assert_eq!(node.routes(), [""; 0]);
    daemon.signal(Signal::SIGCONT);
    node.wait_for_routes(&ALL);
}
