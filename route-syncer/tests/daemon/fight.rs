//! Somebody removes a route of ours whenever it is there.

use std::time::{Duration, Instant};

use kernel::link::set_up;
use kernel::route::{self, Route};

use crate::lab::{Node, PROTOCOL, cidr, entries, ip};

const TARGET: &str = "10.0.2.0/24";
const OTHER: &str = "10.0.3.0/24";
/// How often they look.
const ROUNDS: usize = 40;
const PACE: Duration = Duration::from_millis(100);

/// Removes the route every [`PACE`], so often. Returns how often it was made again.
fn fight(node: &mut Node, spoil: impl Fn(&mut Node)) -> usize {
    let mut monitor = node.monitor();
    let made = format!("+{TARGET}");
    let mut count = 0;
    for _ in 0..ROUNDS {
        spoil(node);
        monitor.listen(Instant::now() + PACE);
        count += monitor.writes().iter().filter(|write| **write == made).count();
    }
    count
}

fn delete(node: &mut Node) {
    // It fails while the route is not there.
    if let Some(route) = node.route(TARGET) {
        node.rtnl.request(&route::delete(&route)).unwrap();
    }
}

#[test]
fn p28_who_deletes_a_route_every_100_ms_is_not_answered_each_time() {
    let mut node = Node::new(&entries(&[1, 2, 3]));
    let lo = node.rtnl.link_by_name("lo").unwrap().unwrap().index;
    node.rtnl.request(&set_up(lo)).unwrap();
    let daemon = node.start();
    // Six at once, and waits that double: in as many rounds as there are there are fewer than half.
    let made = fight(&mut node, delete);
    assert!((6..ROUNDS / 2).contains(&made), "{made} repairs in {ROUNDS} rounds");

    // People are told, by name; and others' repairs go on.
    daemon.wait_for("the route to 10.0.2.0/24 is fought over");
    let (shown, code) = node.call(&["status"]);
    assert!(shown.contains("the route to 10.0.2.0/24 is fought over"), "{shown}");
    assert_eq!(code, Some(1));
    let mut monitor = node.monitor();
    let lost = node.route(OTHER).unwrap();
    node.rtnl.request(&route::delete(&lost)).unwrap();
    monitor.wait_for_new(OTHER);

    // Left alone it comes back.
    node.wait_for_routes(&[
        "10.0.2.0/24 via 10.100.0.2",
        "10.0.3.0/24 via 10.100.0.3",
        "fd00:2::/64 via fd00:100::2",
        "fd00:3::/64 via fd00:100::3",
    ]);
}

#[test]
fn p28_who_replaces_a_route_every_100_ms_is_not_answered_each_time() {
    let mut node = Node::new(&entries(&[1, 2]));
    let daemon = node.start();
    let made = fight(&mut node, |node| {
        let wrong = Route::new(cidr(TARGET)).via(ip("10.100.0.77")).dev(node.uplink);
        node.rtnl.request(&route::replace(&Route { protocol: PROTOCOL, ..wrong })).unwrap();
    });
    // Theirs are among those that are counted: one for each of ours, since to replace a route by
    // itself makes no event.
    assert!((12..ROUNDS).contains(&made), "{made} events in {ROUNDS} rounds");
    daemon.wait_for("the route to 10.0.2.0/24 is fought over");
    node.wait_for_routes(&["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"]);
}
