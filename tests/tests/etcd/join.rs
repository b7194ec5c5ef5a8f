//! Nodes that join.

use std::collections::BTreeSet;

use cbr0_tests::Outcome;
use cbr0_tests::daemon::{Daemon, text};

use crate::fixture::{Lab, range_of, tells};

const NODES: usize = 50;

/// All 50 have what they should: subnets of their own, and routes to each other's.
fn wait_for_mesh(lab: &Lab) -> Result<(), cbr0_tests::LabError> {
    let mut ranges = BTreeSet::new();
    for number in 1..=NODES {
        let status = lab.wait(number, "full mesh", |status| {
            let rows = status["routes"].as_array();
            rows.is_some_and(|rows| {
                let is_well = |state: &str| state == "ok" || state == "own";
                rows.len() == NODES && rows.iter().all(|row| is_well(&text(&row["state"])))
            })
        })?;
        ranges.insert(range_of(&status, &format!("node{number}")));
        assert_eq!(lab.routes(number)?.len(), NODES - 1);
    }
    assert_eq!(ranges.len(), NODES);
    Ok(())
}

/// Nobody ended, nobody complained, and each took a subnet once: `writes` is all that others
/// wrote into the new etcd.
fn assert_calm(lab: &Lab, daemons: &mut [Daemon], writes: i64) -> Outcome {
    assert!(daemons.iter_mut().all(Daemon::is_running));
    assert_eq!(lab.etcd.revision()?, 1 + writes + NODES as i64, "one write a node");
    for number in 1..=NODES {
        let log = lab.log(number);
        assert_eq!(log.matches("took the subnet").count(), 1, "{log}");
        let complaints = log.lines().filter(|line| line.contains("ERROR")).count();
        // That there is no network yet, by the source and by the daemon.
        assert!(complaints <= 2, "node {number}:\n{log}");
    }
    Ok(())
}

fn start_all(lab: &Lab) -> Result<Vec<Daemon>, cbr0_tests::LabError> {
    (1..=NODES).map(|number| lab.start(number)).collect()
}

#[test]
fn p12_fifty_nodes_at_once_on_an_empty_etcd_have_a_full_mesh() -> Outcome {
    let Some(lab) = Lab::new(NODES as u8)? else { return Ok(()) };
    let mut daemons = start_all(&lab)?;
    wait_for_mesh(&lab)?;
    assert_calm(&lab, &mut daemons, 1)
}

/// They all wait for the same key and are told of it at once, and each needs the one subnet that
/// the others leave: so they get in each other's way as much as can be.
#[test]
fn p12_fifty_nodes_that_race_for_fifty_subnets_have_one_each() -> Outcome {
    let Some(lab) = Lab::without_config(NODES as u8)? else { return Ok(()) };
    let mut daemons = start_all(&lab)?;
    for number in 1..=NODES {
        lab.wait(number, "remedy", |status| {
            tells(status, "etcdctl put /coreos.com/network/config")
        })?;
    }
    let tight = r#"{"Network": "10.0.0.0/14", "SubnetMin": "10.0.1.0", "SubnetMax": "10.0.50.0"}"#;
    lab.put("config", tight)?;
    wait_for_mesh(&lab)?;
    assert_calm(&lab, &mut daemons, 1)
}

#[test]
fn an_exhausted_range_is_told_and_taken_when_there_is_room() -> Outcome {
    let Some(lab) = Lab::without_config(2)? else { return Ok(()) };
    let config = |max| {
        format!(r#"{{"Network": "10.0.0.0/14", "SubnetMin": "10.0.1.0", "SubnetMax": "{max}"}}"#)
    };
    lab.put("config", &config("10.0.1.0"))?;
    let _first = lab.start(1)?;
    lab.wait_for_rows(1, &["node1 own"])?;
    let _second = lab.start(2)?;
    lab.wait(2, "remedy", |status| tells(status, "all 1 subnets of 10.0.0.0/14 are leased"))?;
    lab.put("config", &config("10.0.2.0"))?;
    let status = lab.wait_for_rows(2, &["node1 ok", "node2 own"])?;
    assert_eq!(range_of(&status, "node2"), "10.0.2.0/24");
    Ok(())
}

#[test]
fn both_families() -> Outcome {
    let Some(lab) = Lab::without_config(2)? else { return Ok(()) };
    lab.put(
        "config",
        r#"{"Network": "10.0.0.0/14", "EnableIPv6": true, "IPv6Network": "fd00:1::/48"}"#,
    )?;
    let _daemons = [lab.start(1)?, lab.start(2)?];
    lab.wait_for_rows(1, &["node1 own", "node1 own", "node2 ok", "node2 ok"])?;
    lab.wait_for_rows(2, &["node1 ok", "node1 ok", "node2 own", "node2 own"])?;
    assert!(lab.routes(1)?.iter().any(|route| route.ends_with("via fd00:100::3")));
    Ok(())
}

#[test]
fn p15_another_machine_with_a_living_nodes_address_does_not_start() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let _first = lab.start(1)?;
    lab.wait_for_rows(1, &["node1 own"])?;
    let second = lab.start_with(2, &["--node-address", "10.100.0.2"])?;
    assert!(!second.wait()?.success());
    let log = lab.log(2);
    assert!(log.contains("node1 (10.100.0.2") && log.contains("forget node1"), "{log}");
    Ok(())
}

#[test]
fn a_dead_member_of_etcd_is_passed_over() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    let dead = "http://10.100.0.1:1,http://10.100.0.1:2";
    let _daemon = lab.start_with(1, &["--etcd-endpoints", dead])?;
    let status = lab.wait_for_rows(1, &["node1 own"])?;
    assert!(status["sourceError"].is_null(), "{status:#}");
    Ok(())
}
