//! What Node objects say becomes routes.

use std::fs;

use cbr0_tests::Outcome;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fixture::{Lab, NODES, TOKENS, notes};

#[test]
fn nodes_become_routes_of_both_families_and_a_deleted_one_goes() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let _daemon = lab.start(1)?;
    lab.wait_for_rows(&["node1 own", "node2 ok", "node3 ok"])?;
    let expected = [
        "10.0.2.0/24 via 10.100.0.3",
        "10.0.3.0/24 via 10.100.0.4",
        "fd00:0:0:2::/64 via fd00:100::3",
        "fd00:0:0:3::/64 via fd00:100::4",
    ];
    assert_eq!(lab.routes()?, expected);
    // Dead or alive, a Node that is there has its Pods.
    lab.beat(2, false, 1)?;
    lab.create("node9", &[] as &[&str], &["10.100.0.10"])?;
    lab.wait(1, "note", |status| notes(status, "1 Nodes have no Pod range yet"))?;
    assert_eq!(lab.routes()?, expected);
    lab.delete(2)?;
    lab.wait_for_rows(&["node1 own", "node3 ok"])?;
    assert_eq!(lab.routes()?, [expected[1], expected[3]]);
    Ok(())
}

#[test]
fn p21_a_node_made_anew_with_another_range_takes_its_old_routes_along() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&["node1 own", "node2 ok", "node3 ok"])?;
    // Event by event, while the daemon listens.
    lab.delete(2)?;
    lab.create("node2", &["10.0.7.0/24"], &["10.100.0.3"])?;
    const THIRD: [&str; 2] = ["10.0.3.0/24 via 10.100.0.4", "fd00:0:0:3::/64 via fd00:100::4"];
    let has = |range| {
        let second = format!("{range} via 10.100.0.3");
        lab.wait_for_routes(&[second.as_str(), THIRD[0], THIRD[1]])
    };
    has("10.0.7.0/24")?;
    // As one change, with a new UID: the daemon has heard of none of it when it looks.
    daemon.signal(Signal::SIGSTOP)?;
    lab.delete(2)?;
    lab.create("node2", &["10.0.8.0/24"], &["10.100.0.3"])?;
    daemon.signal(Signal::SIGCONT)?;
    has("10.0.8.0/24")?;
    // Nor when it was not there.
    drop(daemon);
    lab.delete(2)?;
    lab.create("node2", &["10.0.9.0/24"], &["10.100.0.3"])?;
    let _daemon = lab.start(1)?;
    has("10.0.9.0/24")?;
    Ok(())
}

#[test]
fn a_node_with_several_links_is_reached_by_the_one_that_its_annotation_names() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    let list = lab.node(1).folder().join("cbr0.conflist");
    let more = ["--mtu", "1300", "--conflist", &list.to_string_lossy()];
    let _daemon = lab.start_as(1, TOKENS[0], &more)?;
    // Its kubelet tells an address that is on none of our links, and it has one that is.
    lab.create("node2", &["10.0.2.0/24"], &["10.200.0.3"])?;
    lab.wait_for_rows(&["node1 own", "node2 off-link"])?;
    let annotations = json!({"metadata": {"annotations": {"cbr0/addresses": "10.100.0.3"}}});
    lab.server.ask("PATCH", &format!("{NODES}/node2"), &annotations)?;
    lab.wait_for_routes(&["10.0.2.0/24 via 10.100.0.3"])?;
    let list: Value = serde_json::from_str(&fs::read_to_string(list).unwrap()).unwrap();
    assert_eq!(list["plugins"][0]["mtu"], 1300);
    Ok(())
}
