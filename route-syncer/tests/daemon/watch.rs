//! `status --watch`: it says what is new, once it is new.

use std::time::Instant;

use kernel::route::delete;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Daemon, Node, PATIENCE, entries};

/// Reads documents until one is as wished.
fn wait_for(watch: &Daemon, what: &str, is_so: impl Fn(&Value) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let line = watch.next_lines(1).remove(0);
        let found: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        if is_so(&found) {
            return;
        }
        assert!(Instant::now() < end, "not {what}: {line}");
    }
}

fn state(found: &Value, cidr: &str) -> String {
    let rows = found["routes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["podCIDR"] == cidr);
    row.map(|row| row["state"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn each_change_is_a_document_also_that_the_daemon_ends_and_starts() {
    let mut node = Node::new(&entries(&[1, 2]));
    let daemon = node.start();
    let watch = node.watch_status(&["--json"]);
    let fine = |found: &Value| found["running"] == true && state(found, "10.0.2.0/24") == "ok";
    wait_for(&watch, "running and fine", fine);
    node.list(&entries(&[1, 2, 3]));
    wait_for(&watch, "node 3 is fine", |found| state(found, "10.0.3.0/24") == "ok");
    daemon.kill();
    wait_for(&watch, "not running", |found| found["running"] == false);
    // It finds all as it was, and changes nothing.
    let daemon = node.start();
    wait_for(&watch, "running again", fine);
    daemon.kill();
    // Nobody writes this to a file.
    let lost = node.route("10.0.2.0/24").unwrap();
    node.rtnl.request(&delete(&lost)).unwrap();
    wait_for(&watch, "missing", |found| state(found, "10.0.2.0/24") == "missing");
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.wait(), Some(0));
}

#[test]
fn the_table_is_shown_again_below_where_there_is_no_terminal() {
    let node = Node::new(&entries(&[1, 2]));
    let _daemon = node.start();
    let watch = node.watch_status(&[]);
    watch.wait_for("NODE");
    watch.wait_for("10.0.2.0/24");
    node.list(&entries(&[1, 2, 3]));
    watch.wait_for("NODE");
    watch.wait_for("10.0.3.0/24");
}

#[test]
fn without_a_daemon_ever_there_is_nothing_to_watch() {
    let node = Node::new(&entries(&[1, 2]));
    let watch = node.watch_status(&[]);
    assert_eq!(watch.wait(), Some(2));
}
