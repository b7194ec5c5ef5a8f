//! Leases that expire, and subnets that are lost.

use std::thread::sleep;

use cbr0_tests::daemon::text;
use cbr0_tests::{LabError, Outcome};

use crate::fixture::{Lab, SHORT, range_of, tells};

/// One subnet for all who have none.
const ELSEWHERE: &str =
    r#"{"Network": "10.0.0.0/14", "SubnetMin": "10.3.7.0", "SubnetMax": "10.3.7.0"}"#;

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
fn p14_a_node_whose_subnet_was_taken_is_degraded_and_keeps_its_routes() -> Outcome {
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
fn p13_a_reservation_stays_one() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    // A key without a lease, by an administrator who wants this node to have that subnet.
    lab.put("subnets/10.2.3.0-24", r#"{"PublicIP": "10.100.0.2", "BackendType": "host-gw"}"#)?;
    let first = lab.start(1)?;
    let status = lab.wait_for_rows(1, &["node1 own"])?;
    assert_eq!(range_of(&status, "node1"), "10.2.3.0/24");
    let is_reserved = || {
        let key = lab.key("subnets/10.2.3.0-24")?;
        assert_eq!(key["version"], 2, "it says who it is now: {key:#}");
        assert!(key["lease"].is_null(), "{key:#}");
        Ok::<_, LabError>(())
    };
    is_reserved()?;
    // Nothing that lasts as long as a lease would, and no restart, changes that.
    first.kill();
    let _first = lab.start_mortal(1)?;
    lab.wait_for_reading(1)?;
    sleep(3 * SHORT);
    is_reserved()?;
    Ok(())
}

#[test]
fn p14_a_lease_that_was_revoked_is_taken_again() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let _daemons = [lab.start(1)?, lab.start(2)?];
    let range = range_of(&lab.wait_for_rows(1, &["node1 own", "node2 ok"])?, "node2");
    let mut deletions = lab.deletions(1)?;
    let key = format!("subnets/{}", range.replace('/', "-"));
    let lease = lab.key(&key)?["lease"].as_u64().unwrap();
    // Whoever looks for any subnet finds another one from now on.
    lab.put("config", ELSEWHERE)?;
    assert_ne!(range, "10.3.7.0/24");
    lab.etcd.ctl(&["lease", "revoke", &format!("{lease:x}")])?;
    lab.wait(2, "a second taking", |_| lab.log(2).matches("took the subnet").count() == 2)?;
    assert_ne!(lab.key(&key)?["lease"].as_u64().unwrap(), lease);
    let status = lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    assert_eq!(range_of(&status, "node2"), range);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn p17_renewals_are_no_events_for_others() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let _first = lab.start(1)?;
    let _second = lab.start_mortal(2)?;
    let range = range_of(&lab.wait_for_rows(1, &["node1 own", "node2 ok"])?, "node2");
    let key = format!("subnets/{}", range.replace('/', "-"));
    let (before, revision) = (lab.key(&key)?, lab.etcd.revision()?);
    // A day of a lease of a day is as many renewals as this. The lease would have ended long before.
    sleep(3 * SHORT);
    assert_eq!(lab.key(&key)?, before);
    assert_eq!(lab.etcd.revision()?, revision, "whoever watches hears of each revision");
    assert_eq!(lab.log(2).matches("took the subnet").count(), 1);
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
