//! The daemon stops, is killed, and starts again: the routes stand.

use kernel::sysctl;

use crate::lab::{Node, entries};

const ALL: [&str; 4] = [
    "10.0.2.0/24 via 10.100.0.2",
    "10.0.3.0/24 via 10.100.0.3",
    "fd00:2::/64 via fd00:100::2",
    "fd00:3::/64 via fd00:100::3",
];

#[test]
fn p03_a_restart_writes_nothing() {
    let mut node = Node::new(&entries(&[1, 2, 3]));
    let daemon = node.start();
    assert_eq!(node.routes(), ALL);
    let mut monitor = node.monitor();
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(node.routes(), ALL);
    for _ in 0..3 {
        node.start().kill();
    }
    assert_eq!(node.start().stop(), Some(0));
    assert_eq!(monitor.writes(), [""; 0]);
    assert_eq!(node.routes(), ALL);
}

#[test]
fn p05_what_happened_meanwhile_is_put_right_at_the_start_and_nothing_else_touched() {
    let mut node = Node::new(&entries(&[1, 2, 3]));
    node.start().kill();
    node.list(&entries(&[1, 3, 4]));
    let mut monitor = node.monitor();
    let _daemon = node.start();
    let expected = [ALL[1], "10.0.4.0/24 via 10.100.0.4", ALL[3], "fd00:4::/64 via fd00:100::4"];
    assert_eq!(node.routes(), expected);
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft");
    writes.sort();
    assert_eq!(writes, ["+10.0.4.0/24", "+fd00:4::/64", "-10.0.2.0/24", "-fd00:2::/64"]);
}

/// P4: it is killed behind each of its writes in turn.
#[test]
fn p04_killed_amid_its_writes_and_started_again_it_converges() {
    let lists = [entries(&[1, 2, 3]), entries(&[1, 3, 4])];
    let four = ["10.0.4.0/24 via 10.100.0.4", "fd00:4::/64 via fd00:100::4"];
    let routes = [ALL, [ALL[1], four[0], ALL[3], four[1]]];
    let mut node = Node::new(&lists[0]);
    node.start().kill();
    let dead_ends = node.dead_ends();
    // From list to list two routes are made and two removed.
    for written in 0..=4 {
        for (list, routes) in lists.iter().zip(&routes).rev() {
            node.list(list);
            let mut monitor = node.monitor();
            let daemon = node.spawn();
            monitor.wait_for_count(written);
            daemon.kill();
            node.start().kill();
            assert_eq!(node.routes(), routes, "killed after {written} writes");
            assert_eq!(node.dead_ends(), dead_ends);
        }
    }
}

#[test]
fn forwarding_is_turned_on_and_stays_on() {
    let node = Node::new(&entries(&[1, 2]));
    let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    node.ns.run(|| keys.map(|key| sysctl::set(key, "0").unwrap())).unwrap();
    let daemon = node.start();
    let values = || node.ns.run(|| keys.map(|key| sysctl::get(key).unwrap())).unwrap();
    assert_eq!(values(), ["1", "1"]);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(values(), ["1", "1"]);
}

#[test]
fn a_second_daemon_on_the_same_folder_refuses_to_start() {
    let node = Node::new(&entries(&[1, 2]));
    let first = node.start();
    let second = node.spawn();
    second.wait_for("another route-syncer runs");
    assert_eq!(second.wait(), Some(1));
    assert_eq!(first.stop(), Some(0));
}

#[test]
fn plugins_are_told_after_the_first_sync() {
    let node = Node::new("[");
    let synced = node.run_dir().join("synced.json");
    let is_synced = || cni_conf::sync_status::is_synced_since_boot(&synced).unwrap();
    let daemon = node.spawn();
    daemon.wait_for("the source is broken");
    assert!(!is_synced());
    node.list(&entries(&[1, 2]));
    daemon.wait_for("the first sync is done");
    assert!(is_synced());
    let before = std::fs::read(&synced).unwrap();
    daemon.kill();
    node.start().kill();
    assert_eq!(std::fs::read(&synced).unwrap(), before);
}

#[test]
fn status_tells_whether_a_daemon_runs() {
    let mut node = Node::new(&entries(&[1, 2]));
    let output = node.status(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no route-syncer has run"));

    let daemon = node.start();
    let output = node.status(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let expected = "\
NODE   POD CIDR     VIA          DEVICE   STATE
node1  10.0.1.0/24  unreachable  -        own
node1  fd00:1::/64  unreachable  -        own
node2  10.0.2.0/24  10.100.0.2   uplink0  ok
node2  fd00:2::/64  fd00:100::2  uplink0  ok
*      10.0.0.0/14  unreachable  -        ok
";
    assert_eq!(table, expected);

    daemon.kill();
    let output = node.status(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("not running"));

    // The states are those of the kernel, not the daemon's last word.
    let lost = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&kernel::route::delete(&lost)).unwrap();
    let rows = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 missing", "fd00:2::/64 ok"];
    node.wait_for_status(&rows);
}
