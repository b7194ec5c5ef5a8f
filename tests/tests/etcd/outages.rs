//! What can happen to etcd: no route to a living node is lost by it, and status tells.

use cbr0_tests::Outcome;
use serde_json::Value;

use crate::fixture::{Daemon, Lab, tells, text};

const WELL: [&str; 3] = ["node1 own", "node2 ok", "node3 ok"];

/// Three nodes that know each other.
fn three(lab: &Lab) -> Result<[Daemon; 3], cbr0_tests::LabError> {
    let daemons = [lab.start(1)?, lab.start(2)?, lab.start(3)?];
    lab.wait_for_rows(1, &WELL)?;
    Ok(daemons)
}

fn is_away(status: &Value) -> bool {
    !text(&status["sourceError"]).is_empty() && text(&status["sourceErrorSince"]).ends_with('Z')
}

fn is_back(status: &Value) -> bool {
    status["sourceError"].is_null() && text(&status["notes"][0]).contains("read anew")
}

#[test]
fn stopped_restarted_and_compacted() -> Outcome {
    let Some(mut lab) = Lab::new(3)? else { return Ok(()) };
    let _daemons = three(&lab)?;
    let mut deletions = lab.deletions(1)?;
    lab.etcd.stop();
    lab.wait(1, "etcd away", is_away)?;
    lab.etcd.run()?;
    lab.wait(1, "etcd back", is_back)?;
    lab.wait_for_rows(1, &WELL)?;
    // Compacted past what the daemons have seen: they cannot go on from there.
    lab.etcd.stop();
    lab.wait(1, "etcd away", is_away)?;
    lab.etcd.run()?;
    for _ in 0..20 {
        lab.put("other", "x")?;
    }
    let answer: Value = serde_json::from_str(&lab.etcd.ctl(&["get", "x", "-w", "json"])?).unwrap();
    lab.etcd.ctl(&["compact", &answer["header"]["revision"].to_string()])?;
    lab.wait(1, "etcd back", is_back)?;
    lab.wait_for_rows(1, &WELL)?;
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn emptied() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let [_first, _second, third] = three(&lab)?;
    let routes = lab.routes(1)?;
    let mut deletions = lab.deletions(1)?;
    third.kill();
    lab.etcd.ctl(&["del", "--prefix", "/"])?;
    // The living take their subnets again, and who cannot is held.
    lab.wait(1, "missing config", |status| tells(status, "there is no key"))?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok", "node3 held"])?;
    assert_eq!(lab.routes(1)?, routes);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn restored_from_an_older_backup() -> Outcome {
    let Some(mut lab) = Lab::new(3)? else { return Ok(()) };
    let backup = lab.etcd.save()?;
    let [_first, _second, third] = three(&lab)?;
    let routes = lab.routes(1)?;
    let mut deletions = lab.deletions(1)?;
    third.kill();
    lab.etcd.restore(&backup)?;
    lab.wait(1, "another history", |status| tells(status, "etcd "))?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok", "node3 held"])?;
    assert_eq!(lab.routes(1)?, routes);
    // The doubt ends with the last node that is held for it.
    let _third = lab.start(3)?;
    lab.wait_for_rows(1, &WELL)?;
    lab.wait(1, "no doubt", |status| !tells(status, "etcd "))?;
    assert_eq!(lab.routes(1)?, routes);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn a_boot_without_etcd_has_the_last_table() -> Outcome {
    let Some(mut lab) = Lab::new(3)? else { return Ok(()) };
    let [first, _second, _third] = three(&lab)?;
    let routes = lab.routes(1)?;
    first.kill();
    lab.etcd.stop();
    // As a reboot does: no routes, nothing in /run.
    let mut rtnl = lab.node(1).rtnl()?;
    for route in rtnl.routes(kernel::route::TABLE_MAIN)? {
        if route.protocol == 214 {
            rtnl.request(&kernel::route::delete(&route))?;
        }
    }
    for name in ["route-syncer.json", "last-good.json", "synced.json"] {
        std::fs::remove_file(lab.node(1).folder().join(name)).unwrap();
    }
    let _first = lab.start(1)?;
    lab.wait_for_rows(1, &WELL)?;
    assert_eq!(lab.routes(1)?, routes);
    Ok(())
}
