//! What the daemon may do while it runs.

use crate::lab::{Node, entries};

/// `CAP_NET_ADMIN`, as a mask.
const NET_ADMIN: u64 = 1 << 12;

/// The five sets of capabilities of each of a process's threads.
fn sets(pid: u32) -> Vec<(String, u64)> {
    let mut sets = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for line in text.lines().filter(|line| line.starts_with("Cap")) {
            let (name, mask) = line.split_once(':').unwrap();
            sets.push((name.to_owned(), u64::from_str_radix(mask.trim(), 16).unwrap()));
        }
    }
    sets
}

#[test]
fn a_running_daemon_has_one_capability_and_can_get_no_other() {
    let mut node = Node::new(&entries(&[1, 2]));
    let daemon = node.start();
    let sets = sets(daemon.pid());
    assert!(sets.len() >= 10, "the loop and the monitor: {sets:?}");
    for (name, mask) in &sets {
        let expected = match name.as_str() {
            "CapPrm" | "CapEff" | "CapBnd" => NET_ADMIN,
            _ => 0,
        };
        assert_eq!(*mask, expected, "{name} in {sets:?}");
    }
    // It is enough.
    node.list(&entries(&[1, 2, 3]));
    node.wait_for_routes(&[
        "10.0.2.0/24 via 10.100.0.2",
        "10.0.3.0/24 via 10.100.0.3",
        "fd00:2::/64 via fd00:100::2",
        "fd00:3::/64 via fd00:100::3",
    ]);
}
