//! `cleanup`: what is ours goes, and nothing else.

use std::collections::BTreeSet;

use kernel::nft::{Chain, Expression, Family, Hook, Nft, Table, Verdict};
use kernel::route::{Route, TABLE_MAIN, add};
use nix::libc;

use crate::lab::{Node, PROTOCOL, cidr, entries, ip};

const THEIRS: Table<'static> = Table { family: Family::Inet, name: "theirs" };
const FILTER: Table<'static> = Table { family: Family::Ip, name: "filter" };
const FORWARD: Chain<'static> = Chain { table: FILTER, name: "FORWARD" };

/// What is in the table of iptables-nft, of which a rule may be ours: chains, and rules of FORWARD.
fn filter(node: &Node) -> (Vec<String>, usize) {
    let mut nft = Nft::open_in(&node.ns).unwrap();
    (nft.chains(&FILTER).unwrap(), nft.rules_of(&FORWARD).unwrap().len())
}

/// What others have in the main table. The kernel's own routes come and go with its addresses.
fn foreign_routes(node: &mut Node) -> Vec<Route> {
    let is_ours = |route: &Route| [PROTOCOL, libc::RTPROT_KERNEL].contains(&route.protocol);
    let all = node.rtnl.routes(TABLE_MAIN).unwrap();
    all.into_iter().filter(|route| !is_ours(route)).collect()
}

fn tables(node: &Node) -> BTreeSet<String> {
    let tables = Nft::open_in(&node.ns).unwrap().tables().unwrap();
    tables.into_iter().map(|(_, name)| name).collect()
}

fn names(node: &Node) -> BTreeSet<String> {
    let entries = std::fs::read_dir(node.run_dir()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A node on which others have something, too, and where a daemon ran.
fn node() -> Node {
    let mut node = Node::new(&entries(&[1, 2]));
    for (destination, gateway) in [("10.0.9.0/24", "10.100.0.9"), ("fd00:9::/64", "fd00:100::9")] {
        let route = Route::new(cidr(destination)).via(ip(gateway)).dev(node.uplink);
        let standing_by = Route { priority: 5000, ..route };
        node.rtnl.request_all(&[add(&route), add(&standing_by)]).unwrap();
    }
    let drop = [Expression::Act(Verdict::Drop)];
    let closed = [FILTER.add(), FORWARD.add_at(Hook::Forward), FORWARD.append(&drop, "theirs")];
    let changes = [vec![THEIRS.add()], closed.into()].concat();
    Nft::open_in(&node.ns).unwrap().commit(&changes).unwrap();
    node
}

/// P25.
#[test]
fn p25_cleanup_removes_exactly_what_is_ours() {
    let mut node = node();
    let before = foreign_routes(&mut node);
    assert_eq!(before.len(), 4);
    let state_dir = node.folder.path().join("state");
    let arguments = ["cleanup", "--state-dir", state_dir.to_str().unwrap()];
    node.start().kill();
    for (folder, name) in [(node.run_dir(), "theirs"), (state_dir.clone(), "etcd.json")] {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), "{}").unwrap();
    }
    // Dead ends that are ours by their protocol.
    let dead = |to| Route { protocol: PROTOCOL, kind: libc::RTN_BLACKHOLE, ..Route::new(cidr(to)) };
    node.rtnl.request_all(&[add(&dead("10.0.8.0/24")), add(&dead("fd00:8::/64"))]).unwrap();
    assert_eq!((node.routes().len(), node.dead_ends().len()), (2, 5));
    assert_eq!(tables(&node), set(&["cbr0_cluster", "filter", "theirs"]));
    assert_eq!(filter(&node), (vec!["FORWARD".to_owned(), "CBR0-FORWARD".to_owned()], 2));

    let (said, code) = node.call(&arguments);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "removed 7 routes of protocol 214",
        "masquerade rules",
        "chains CBR0-FORWARD",
        "/etcd.json",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!((node.routes(), node.dead_ends()), (Vec::new(), Vec::new()));
    assert_eq!(foreign_routes(&mut node), before);
    assert_eq!(tables(&node), set(&["filter", "theirs"]));
    assert_eq!(filter(&node), (vec!["FORWARD".to_owned()], 1));
    assert_eq!(names(&node), set(&["route-syncer.lock", "theirs"]));
    assert!(!state_dir.join("etcd.json").exists());

    assert_eq!(node.call(&arguments), ("nothing was removed\n".to_owned(), Some(0)));
}

#[test]
fn cleanup_refuses_while_the_daemon_runs() {
    let mut node = node();
    let daemon = node.start();
    let routes = node.routes();
    let files = names(&node);
    let state_dir = node.folder.path().join("state");
    let (said, code) = node.call(&["cleanup", "--state-dir", state_dir.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("another route-syncer runs") && said.contains("stop it"), "{said}");
    assert_eq!((node.routes(), names(&node)), (routes, files));
    assert!(tables(&node).contains("cbr0_cluster"));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn cleanup_keeps_to_the_protocol_it_is_given() {
    let mut node = node();
    node.start().kill();
    let routes = node.routes();
    let state_dir = node.folder.path().join("state");
    let (said, code) =
        node.call(&["cleanup", "--protocol", "215", "--state-dir", state_dir.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(node.routes(), routes);
}
