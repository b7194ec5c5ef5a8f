//! The daemon over HTTP: its metrics, whether it lives, and whether the routes are there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use kernel::link::set_up;
use kernel::route::{Route, add, delete};
use nix::sys::signal::Signal;

use crate::lab::{Daemon, Node, PATIENCE, cidr, entries, ip};

const ADDRESS: &str = "127.0.0.1:9218";
const LISTEN: [&str; 2] = ["--metrics-listen", ADDRESS];

fn node(list: &str) -> Node {
    let mut node = Node::new(list);
    let lo = node.rtnl.link_by_name("lo").unwrap().unwrap().index;
    node.rtnl.request(&set_up(lo)).unwrap();
    node
}

/// A node whose daemon can be asked.
pub(crate) fn started(list: &str) -> (Node, Daemon) {
    let node = node(list);
    let daemon = node.start_with(&LISTEN);
    (node, daemon)
}

fn connect(node: &Node) -> TcpStream {
    let stream = node.ns.run(|| TcpStream::connect(ADDRESS)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, method: &str, path: &str) {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: node1\r\n\r\n").unwrap();
}

fn receive(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(node: &Node, path: &str) -> (u16, String) {
    let mut stream = connect(node);
    send(&mut stream, "GET", path);
    receive(stream)
}

/// Waits until the daemon of a node has heard of all that happened, and acted on it.
pub(crate) fn wait_until_idle(node: &Node) {
    let readings = || {
        let (_, text) = get(node, "/metrics");
        let line = text.lines().find(|line| line.starts_with("cbr0_redumps_total"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let before = readings();
        let has_heard = node.ns.run(are_queues_empty).unwrap();
        // It answers when it has come to the end of what it was at.
        for _ in 0..2 {
            assert_eq!(get(node, "/livez").0, 200);
        }
        if has_heard && readings() == before {
            return;
        }
        assert!(Instant::now() < end, "it is never idle");
    }
}

/// Whether nothing waits to be read from any netlink socket of this thread's namespace.
fn are_queues_empty() -> bool {
    const RECEIVED: usize = 4;
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    sockets.lines().skip(1).all(|line| line.split_whitespace().nth(RECEIVED) == Some("0"))
}

/// Asks until the answer is this: the daemon tells nobody of each change.
fn wait_for(node: &Node, path: &str, status: u16, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (found, text) = get(node, path);
        if found == status && text.contains(words) {
            return;
        }
        assert!(Instant::now() < end, "{path}: {found} {text}, not {status} {words}");
        std::thread::yield_now();
    }
}

#[test]
fn ready_means_that_the_routes_are_there_whether_the_source_is_or_not() {
    let (mut node, daemon) = started(&entries(&[1, 2]));
    wait_for(&node, "/readyz", 200, "ok");
    let lost = node.route("10.0.2.0/24").unwrap();
    let theirs = Route::new(cidr("10.0.2.0/24")).via(ip("10.100.0.77")).dev(node.uplink);
    let theirs = Route { protocol: 4, ..theirs };
    node.rtnl.request_all(&[delete(&lost), add(&theirs)]).unwrap();
    wait_for(&node, "/readyz", 503, "10.0.2.0/24 of node2: conflict(proto 4)");
    node.rtnl.request(&delete(&theirs)).unwrap();
    wait_for(&node, "/readyz", 200, "ok");
    node.list("[");
    daemon.wait_for("the source is broken");
    wait_for(&node, "/metrics", 200, "\ncbr0_source_connected 0\n");
    wait_for(&node, "/readyz", 200, "ok");
}

#[test]
fn nobody_is_ready_before_the_first_sync() {
    let node = node("[");
    let daemon = node.spawn_with(&LISTEN);
    daemon.wait_for("the source is broken");
    wait_for(&node, "/readyz", 503, "the first sync is not done");
    wait_for(&node, "/livez", 200, "ok");
    node.list(&entries(&[1, 2]));
    wait_for(&node, "/readyz", 200, "ok");
}

#[test]
fn the_loop_proves_that_it_turns() {
    let (node, daemon) = started(&entries(&[1, 2]));
    assert_eq!(get(&node, "/livez"), (200, "ok\n".to_owned()));
    daemon.signal(Signal::SIGSTOP);
    let mut stream = connect(&node);
    send(&mut stream, "GET", "/livez");
    stream.set_nonblocking(true).unwrap();
    assert!(stream.peek(&mut [0]).is_err(), "who stands still says nothing");
    stream.set_nonblocking(false).unwrap();
    daemon.signal(Signal::SIGCONT);
    assert_eq!(receive(stream), (200, "ok\n".to_owned()));
}

#[test]
fn metrics_tell_what_is_there_and_what_was_repaired() {
    let list = r#"[
        {"name": "node1", "addresses": ["10.100.0.1"], "podCIDRs": ["10.0.1.0/24"]},
        {"name": "node2", "addresses": ["10.100.0.2", "fd00:100::2"],
         "podCIDRs": ["10.0.2.0/24", "fd00:2::/64"]},
        {"name": "node3", "addresses": ["10.100.0.3"], "podCIDRs": ["0.0.0.0/0", "10.0.1.128/25"]},
        {"name": "node4", "addresses": ["10.200.0.4"], "podCIDRs": ["10.0.4.0/24"]}]"#;
    let (mut node, _daemon) = started(list);
    for line in [
        "cbr0_routes_desired{family=\"ipv4\"} 2",
        "cbr0_routes_installed{family=\"ipv4\"} 2",
        "cbr0_routes_installed{family=\"ipv6\"} 1",
        "cbr0_route_conflicts{family=\"ipv4\"} 0",
        "cbr0_claims_refused{reason=\"default-route\"} 1",
        "cbr0_claims_refused{reason=\"own-range\"} 1",
        "cbr0_claims_off_link 1",
        "cbr0_held_nodes 0",
        "cbr0_source_connected 1",
        "cbr0_source_staleness_seconds 0.0",
        "cbr0_source_lag_seconds_count 1",
        "cbr0_netlink_overruns_total 0",
        "cbr0_synced 1",
    ] {
        wait_for(&node, "/metrics", 200, &format!("\n{line}\n"));
    }
    let lost = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&delete(&lost)).unwrap();
    wait_for(&node, "/metrics", 200, "\ncbr0_repairs_total{cause=\"deleted\"} 1\n");
    // What a link takes away comes back with it, but not its IPv6 addresses and the routes by them.
    node.set_link_up(false);
    node.set_link_up(true);
    wait_for(&node, "/metrics", 200, "\ncbr0_repairs_total{cause=\"link\"} 1\n");
    let (_, text) = get(&node, "/metrics");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn what_is_not_there_and_what_is_no_question_is_told() {
    let (node, _daemon) = started(&entries(&[1, 2]));
    let (status, text) = get(&node, "/");
    assert!(status == 404 && text.contains("/readyz"), "{status} {text}");
    let mut stream = connect(&node);
    send(&mut stream, "POST", "/metrics");
    assert_eq!(receive(stream).0, 405);
}

#[test]
fn an_address_that_is_taken_is_told_with_a_remedy() {
    let node = node(&entries(&[1, 2]));
    let taken = node.ns.run(|| std::net::TcpListener::bind(ADDRESS).unwrap()).unwrap();
    let daemon = node.spawn_with(&LISTEN);
    daemon.wait_for("another address with --metrics-listen");
    assert_eq!(daemon.wait(), Some(1));
    drop(taken);
}
