//! What the host is set to: set or checked by the daemon, told, and repaired by event.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kernel::netlink::{Protocol, Socket};
use kernel::nft::{Chain, Expression, Family, Hook, Nft, Table, Verdict};
use kernel::sysctl;
use serde_json::Value;

use crate::lab::{Node, entries, wait_readable};

/// Less than the minute after which everything is read anyway.
const SOON: Duration = Duration::from_secs(30);
const MASQUERADE: Table<'static> = Table { family: Family::Inet, name: "cbr0_cluster" };
const FILTER: Table<'static> = Table { family: Family::Ip, name: "filter" };
const FORWARD: Chain<'static> = Chain { table: FILTER, name: "FORWARD" };
const OURS: Chain<'static> = Chain { table: FILTER, name: "CBR0-FORWARD" };
const FORWARDING: &str = "net/ipv4/ip_forward";

/// Waits until it is so, by the events of nf_tables (group 7) or of settings (groups 24 and 25).
fn wait(node: &Node, protocol: Protocol, what: &str, mut is_so: impl FnMut() -> bool) {
    let groups: &[u32] = if protocol == Protocol::Netfilter { &[7] } else { &[24, 25] };
    let mut events = node.ns.run(|| Socket::open(protocol).unwrap()).unwrap();
    groups.iter().for_each(|group| events.subscribe(*group).unwrap());
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "not {what}");
        wait_readable(&events, end);
        let _ = events.events().unwrap();
    }
}

fn nft(node: &Node) -> Nft {
    Nft::open_in(&node.ns).unwrap()
}

/// The host drops what it does not know, by a rule at the end.
fn close(node: &Node) {
    let drop = [Expression::Counter, Expression::Act(Verdict::Drop)];
    let changes = [FILTER.add(), FORWARD.add_at(Hook::Forward), FORWARD.append(&drop, "")];
    nft(node).commit(&changes).unwrap();
}

/// The host's settings in the status: the state, and words.
fn settings(node: &Node) -> BTreeMap<String, (String, String)> {
    let shown: Value = serde_json::from_slice(&node.status(&["--json"]).stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let settings = shown["hostSettings"].as_array().unwrap().iter();
    settings.map(|it| (text(&it["name"]), (text(&it["state"]), text(&it["words"])))).collect()
}

fn forwarding(node: &Node) -> String {
    node.ns.run(|| sysctl::get(FORWARDING).unwrap()).unwrap()
}

#[test]
fn the_masquerade_rules_are_back_when_they_were_flushed() {
    let node = Node::new(&entries(&[1, 2]));
    let _daemon = node.start();
    let chain = Chain { table: MASQUERADE, name: "postrouting" };
    let rules = nft(&node).rules(&MASQUERADE).unwrap().len();
    assert_eq!(rules, 4);
    let others = Table { family: Family::Inet, name: "theirs" };
    for changes in
        [vec![MASQUERADE.delete()], vec![chain.flush()], vec![others.add(), chain.flush()]]
    {
        nft(&node).commit(&changes).unwrap();
        let is_back = || nft(&node).rules(&MASQUERADE).unwrap().len() == rules;
        wait(&node, Protocol::Netfilter, "masqueraded", is_back);
    }
}

#[test]
fn pods_are_let_through_once_something_drops_and_again_when_that_was_undone() {
    let node = Node::new(&entries(&[1, 2]));
    let _daemon = node.start();
    assert_eq!(settings(&node)["forward-accept"].0, "ok");
    close(&node);
    let is_open = || {
        nft(&node).rules_of(&OURS).unwrap().len() == 2
            && nft(&node).rules_of(&FORWARD).unwrap().len() == 2
    };
    wait(&node, Protocol::Netfilter, "open", is_open);
    node.wait_for_words(&["status", "--json"], "rules are in chain CBR0-FORWARD");
    let jump = nft(&node).rules_of(&FORWARD).unwrap()[0].handle;
    for change in [OURS.flush(), FORWARD.delete_rule(jump)] {
        nft(&node).commit(&[change]).unwrap();
        wait(&node, Protocol::Netfilter, "open again", is_open);
    }
}

#[test]
fn forwarding_is_on_again_when_it_was_turned_off() {
    let node = Node::new(&entries(&[1, 2]));
    node.ns.run(|| sysctl::set(FORWARDING, "0").unwrap()).unwrap();
    let _daemon = node.start();
    assert_eq!(forwarding(&node), "1");
    let (state, words) = settings(&node)["forwarding"].clone();
    assert!(state == "set" && words.contains("net.ipv4.ip_forward"), "{state} {words}");
    node.ns.run(|| sysctl::set(FORWARDING, "0").unwrap()).unwrap();
    wait(&node, Protocol::Route, "forwarding", || forwarding(&node) == "1");
}

#[test]
fn what_is_to_be_skipped_is_left_alone_and_told() {
    let node = Node::new(&entries(&[1, 2]));
    node.ns.run(|| sysctl::set(FORWARDING, "0").unwrap()).unwrap();
    close(&node);
    let daemon = node.start_with(&["--skip-host-setting", "forwarding,forward-accept"]);
    let found = settings(&node);
    assert_eq!(found.len(), 6, "{found:?}");
    for (name, (state, words)) in &found {
        let is_skipped = ["forwarding", "forward-accept"].contains(&name.as_str());
        assert_eq!(state, if is_skipped { "skipped" } else { "ok" }, "{name}: {words}");
    }
    assert_eq!(forwarding(&node), "0");
    assert_eq!(nft(&node).rules_of(&FORWARD).unwrap().len(), 1);
    assert_eq!(node.call(&["check"]), ("nothing is wrong\n".to_owned(), Some(0)));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn kube_proxy_and_a_bridge_that_shows_it_nothing_are_told() {
    let node = Node::new(&entries(&[1, 2]));
    node.ns
        .run(|| match sysctl::set("net/bridge/bridge-nf-call-iptables", "0") {
            Err(error) if error.is_absent() => {}
            set => drop(set.unwrap()),
        })
        .unwrap();
    let kube_proxy = Table { family: Family::Ip, name: "kube-proxy" };
    nft(&node).commit(&[kube_proxy.add()]).unwrap();
    let _daemon = node.start();
    let (state, words) = settings(&node)["br-netfilter"].clone();
    assert!(state == "lacking" && words.contains("modprobe br_netfilter"), "{state} {words}");
    assert_eq!(node.status(&[]).status.code(), Some(1));
    let (said, code) = node.call(&["check"]);
    assert!(said.contains("host setting br-netfilter: kube-proxy is here"), "{said}");
    assert_eq!(code, Some(1));
}
