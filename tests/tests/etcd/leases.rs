//! Leases that expire, and subnets that are lost.

use cbr0_tests::Outcome;
use serde_json::Value;

use crate::fixture::{Lab, range_of, tells, text};

#[test]
fn a_node_that_was_away_has_its_subnet_again_and_was_held_meanwhile() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let _first = lab.start(1)?;
    let second = lab.start_mortal(2)?;
    let before = range_of(&lab.wait_for_rows(1, &["node1 own", "node2 ok"])?, "node2");
    let routes = lab.routes(1)?;
    let mut deletions = lab.deletions(1)?;
    second.kill();
    let status = lab.wait_for_rows(1, &["node1 own", "node2 held"])?;
    let held = status["routes"].as_array().unwrap().iter().find(|row| row["state"] == "held");
    assert!(text(&held.unwrap()["heldSince"]).ends_with('Z'), "{status:#}");
    assert_eq!(lab.routes(1)?, routes);
    let _second = lab.start(2)?;
    let status = lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    assert_eq!(range_of(&status, "node2"), before);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn who_is_held_is_still_held_after_a_restart() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let first = lab.start(1)?;
    let second = lab.start_mortal(2)?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    second.kill();
    let before = lab.wait_for_rows(1, &["node1 own", "node2 held"])?;
    let mut deletions = lab.deletions(1)?;
    first.kill();
    let _first = lab.start(1)?;
    lab.wait_for_reading(1)?;
    let after = lab.wait_for_rows(1, &["node1 own", "node2 held"])?;
    assert_eq!(after["routes"], before["routes"]);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn a_node_whose_subnet_was_taken_is_degraded_and_keeps_its_routes() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let _first = lab.start(1)?;
    let second = lab.start_mortal(2)?;
    let range = range_of(&lab.wait_for_rows(2, &["node1 ok", "node2 own"])?, "node2");
    second.kill();
    lab.wait_for_rows(1, &["node1 own", "node2 held"])?;
    let routes = lab.routes(2)?;
    let key = format!("subnets/{}", range.replace('/', "-"));
    lab.put(&key, r#"{"PublicIP": "10.100.0.4", "BackendType": "host-gw"}"#)?;
    lab.wait_for_rows(1, &["node1 own", "10.100.0.4 ok"])?;
    let mut deletions = lab.deletions(2)?;
    let _second = lab.start(2)?;
    let status = lab.wait(2, "degraded", |status| tells(status, "was leased to 10.100.0.4"))?;
    assert_eq!(range_of(&status, "node2"), range);
    assert_eq!(lab.routes(2)?, routes);
    assert_eq!(deletions.count()?, 0);
    // When the other one has gone, it is as before.
    lab.etcd.ctl(&["del", &format!("/coreos.com/network/{key}")])?;
    let status = lab.wait(2, "well", |status| !tells(status, "was leased"))?;
    assert_eq!(range_of(&status, "node2"), range);
    Ok(())
}

#[test]
fn a_reservation_stays_one() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    // A key without a lease, by an administrator who wants this node to have that subnet.
    lab.put("subnets/10.2.3.0-24", r#"{"PublicIP": "10.100.0.2", "BackendType": "host-gw"}"#)?;
    let _first = lab.start(1)?;
    let status = lab.wait_for_rows(1, &["node1 own"])?;
    assert_eq!(range_of(&status, "node1"), "10.2.3.0/24");
    let key = "/coreos.com/network/subnets/10.2.3.0-24";
    let answer: Value = serde_json::from_str(&lab.etcd.ctl(&["get", key, "-w", "json"])?).unwrap();
    assert_eq!(answer["kvs"][0]["version"], 2, "it says who it is now: {answer:#}");
    assert!(answer["kvs"][0]["lease"].is_null(), "{answer:#}");
    Ok(())
}

#[test]
fn a_restart_writes_nothing() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    let first = lab.start_with(1, &[])?;
    lab.wait_for_rows(1, &["node1 own"])?;
    let revision = || lab.etcd.ctl(&["get", "x", "-w", "json"]);
    let before = revision()?;
    first.kill();
    let _first = lab.start_with(1, &[])?;
    lab.wait_for_reading(1)?;
    assert_eq!(revision()?, before);
    Ok(())
}
