//! The list of nodes changes, and the routes follow.

use std::fs;

use kernel::route::{self, Route};

use crate::lab::{Node, PROTOCOL, cidr, entries, entry, ip, moved};

const TWO: [&str; 2] = ["10.0.2.0/24 via 10.100.0.2", "fd00:2::/64 via fd00:100::2"];

#[test]
fn nodes_appear_move_and_go() {
    let mut node = Node::new(&entries(&[1, 2]));
    let _daemon = node.start();
    assert_eq!(node.routes(), TWO);

    node.list(&entries(&[1, 2, 3]));
    let with_three = ["10.0.3.0/24 via 10.100.0.3", "fd00:3::/64 via fd00:100::3"];
    node.wait_for_routes(&[TWO[0], with_three[0], TWO[1], with_three[1]]);

    node.list(&format!("[{}, {}, {}]", entry(1), entry(2), moved(3, 9)));
    let with_nine = ["10.0.3.0/24 via 10.100.0.9", "fd00:3::/64 via fd00:100::9"];
    node.wait_for_routes(&[TWO[0], with_nine[0], TWO[1], with_nine[1]]);

    node.list(&entries(&[1, 2]));
    node.wait_for_routes(&TWO);
}

#[test]
fn p06_a_moved_node_is_one_replace_and_nothing_else_is_written() {
    let node = Node::new(&entries(&[1, 2, 3]));
    let _daemon = node.start();
    let mut monitor = node.monitor();
    node.list(&format!("[{}, {}, {}]", entry(1), moved(2, 9), entry(3)));
    monitor.wait_for_new("10.0.2.0/24");
    monitor.wait_for_new("fd00:2::/64");
    // Had there been more to write, it would come before what the next edit brings.
    node.list(&format!("[{}, {}, {}, {}]", entry(1), moved(2, 9), entry(3), entry(4)));
    monitor.wait_for_new("fd00:4::/64");
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft"); // the exemptions
    assert_eq!(writes, ["+10.0.2.0/24", "+fd00:2::/64", "+10.0.4.0/24", "+fd00:4::/64"]);
}

#[test]
fn p07_a_pod_range_that_changes_hands_is_one_replace() {
    let node = Node::new(&entries(&[1, 2]));
    let _daemon = node.start();
    let mut monitor = node.monitor();
    let heir = entry(3).replace("10.0.3.0", "10.0.2.0").replace("fd00:3:", "fd00:2:");
    node.list(&format!("[{}, {heir}]", entry(1)));
    monitor.wait_for_new("fd00:2::/64");
    node.list(&format!("[{}, {heir}, {}]", entry(1), entry(4)));
    monitor.wait_for_new("fd00:4::/64");
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft");
    assert_eq!(writes, ["+10.0.2.0/24", "+fd00:2::/64", "+10.0.4.0/24", "+fd00:4::/64"]);
}

#[test]
fn every_way_to_edit_is_seen() {
    let mut node = Node::new(&entries(&[1, 2]));
    let _daemon = node.start();
    // In place.
    fs::write(node.nodes_file(), entries(&[1])).unwrap();
    node.wait_for_routes(&[]);
    // Deleted: changes nothing. Made again.
    fs::remove_file(node.nodes_file()).unwrap();
    fs::write(node.nodes_file(), entries(&[1, 2])).unwrap();
    node.wait_for_routes(&TWO);
    // Renamed into place.
    node.list(&entries(&[1]));
    node.wait_for_routes(&[]);
}

#[test]
fn a_broken_file_changes_nothing_and_is_shown() {
    let mut node = Node::new(&entries(&[1, 2]));
    let daemon = node.start();
    let mut monitor = node.monitor();
    for broken in ["", "[", "{}", r#"[{"name": "node1"}]"#, "[{\"name\": \"x\",\n\"address\": 7}]"]
    {
        node.list(broken);
        daemon.wait_for("the source is broken");
    }
    fs::remove_file(node.nodes_file()).unwrap();
    daemon.wait_for("No such file");
    assert_eq!(node.routes(), TWO);
    assert_eq!(node.status(&[]).status.code(), Some(1));

    // A change behind them comes through, and it is the only one.
    node.list(&entries(&[1, 2, 3]));
    monitor.wait_for_new("fd00:3::/64");
    let mut writes = monitor.writes();
    writes.retain(|write| write != "nft");
    assert_eq!(writes, ["+10.0.3.0/24", "+fd00:3::/64"]);
    let rows = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 ok", "fd00:2::/64 ok"];
    node.wait_for_status(&[&rows[..], &["10.0.3.0/24 ok", "fd00:3::/64 ok"]].concat());
    assert_eq!(node.status(&[]).status.code(), Some(0));
}

#[test]
fn a_file_that_is_broken_at_the_start_changes_nothing_either() {
    let mut node = Node::new(&entries(&[1, 2]));
    node.start().kill();
    let stray = Route { protocol: PROTOCOL, scope: 253, ..Route::new(cidr("10.0.77.0/24")) };
    node.rtnl.request(&route::add(&stray.dev(node.uplink))).unwrap();
    node.list("[");
    let _daemon = node.start();
    // What is remembered is repaired, and without a list nothing is removed, however odd.
    let mut monitor = node.monitor();
    let lost = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&route::delete(&lost)).unwrap();
    monitor.wait_for_new("10.0.2.0/24");
    assert_eq!(node.routes(), [TWO[0], "10.0.77.0/24 via nothing", TWO[1]]);
    node.list(&entries(&[1, 2]));
    node.wait_for_routes(&TWO);
}

#[test]
fn a_broken_file_without_any_memory_narrows_no_masquerading() {
    let mut node = Node::new(&entries(&[1, 2]));
    node.start().kill();
    fs::remove_dir_all(node.run_dir()).unwrap();
    node.list("[");
    let mut monitor = node.monitor();
    let daemon = node.spawn();
    daemon.wait_for("the source is broken");
    let lost = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&route::delete(&lost)).unwrap();
    monitor.wait_for_new("10.0.2.0/24");
    assert_eq!(monitor.writes(), ["-10.0.2.0/24", "+10.0.2.0/24"]);
}

#[test]
fn a_large_shrink_is_held_and_an_empty_list_too() {
    let mut node = Node::new(&entries(&[1, 2, 3, 4, 5]));
    let daemon = node.start();
    let before = node.routes();
    assert_eq!(before.len(), 8);
    for list in [entries(&[1]), "[]".into()] {
        node.list(&list);
        daemon.wait_for("held");
        assert_eq!(node.routes(), before);
    }
    node.list(&entries(&[1, 2]));
    let rows = ["10.0.1.0/24 own", "fd00:1::/64 own", "10.0.2.0/24 ok", "fd00:2::/64 ok"];
    let held = ["10.0.3.0/24 held", "fd00:3::/64 held", "10.0.4.0/24 held", "fd00:4::/64 held"];
    let last = ["10.0.5.0/24 held", "fd00:5::/64 held"];
    node.wait_for_status(&[&rows[..], &held, &last].concat());
    assert_eq!(node.routes(), before);
    assert_eq!(node.status(&[]).status.code(), Some(1));

    // A restart holds them as well, even without its memory.
    daemon.kill();
    fs::remove_dir_all(node.run_dir()).unwrap();
    let daemon = node.start();
    assert_eq!(node.routes(), before);
    assert_eq!(daemon.stop(), Some(0));

    // In steps of at most half they go.
    let _daemon = node.start();
    node.list(&entries(&[1, 2, 3]));
    let three = ["10.0.3.0/24 via 10.100.0.3", "fd00:3::/64 via fd00:100::3"];
    node.wait_for_routes(&[TWO[0], three[0], TWO[1], three[1]]);
    node.list(&entries(&[1]));
    node.wait_for_routes(&[]);
}

#[test]
fn a_node_that_is_not_listed_still_reaches_the_others() {
    let mut node = Node::new(&entries(&[2]));
    let daemon = node.spawn();
    daemon.wait_for("does not name this node");
    daemon.wait_for("the first sync is done");
    assert_eq!(node.routes(), TWO);
    let route = node.route("10.0.2.0/24").unwrap();
    assert_eq!((route.gateway, route.link), (Some(ip("10.100.0.2")), Some(node.uplink)));
    assert_eq!((route.priority, route.destination), (0, cidr("10.0.2.0/24")));
}
