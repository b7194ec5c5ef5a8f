//! What can happen to etcd: no route to a living node is lost by it, and status tells.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use cbr0_tests::Outcome;
use cbr0_tests::daemon::{Daemon, text};
use kernel::route::{Route, add, delete};
use nix::libc;
use serde_json::Value;

use crate::fixture::{Lab, PREFIX, ROUTER, is_away, range_of, tells};

/// Time-outs of which an outage in a test can be several; all are a second at most.
const HASTY: [&str; 6] = ["--etcd-timeout", "500ms", "--etcd-ping", "1s", "--etcd-retry", "500ms"];
/// Three times the longest of them. It is no wait for anything: it is what the outage lasts, at least.
const OUTAGE: Duration = Duration::from_secs(3);

const NETWORK: &str = r#"{"Network": "10.0.0.0/14"}"#;

const WELL: [&str; 3] = ["node1 own", "node2 ok", "node3 ok"];

/// Three nodes that know each other.
fn three(lab: &Lab) -> Result<[Daemon; 3], cbr0_tests::LabError> {
    let daemons = [lab.start(1)?, lab.start(2)?, lab.start(3)?];
    lab.wait_for_rows(1, &WELL)?;
    Ok(daemons)
}

fn is_back(status: &Value) -> bool {
    status["sourceError"].is_null() && text(&status["notes"][0]).contains("read anew")
}

/// Writes to etcd that there is one node more.
fn join(lab: &Lab, number: u8) -> Result<(), cbr0_tests::LabError> {
    let value = format!(r#"{{"PublicIP":"10.100.0.{number}","BackendType":"host-gw"}}"#);
    lab.put(&format!("subnets/10.1.{number}.0-24"), &value)
}

#[test]
fn p10_stopped_for_long_restarted_and_compacted() -> Outcome {
    let Some(mut lab) = tried_often(3)? else { return Ok(()) };
    let _daemons = [lab.start_with(1, &HASTY)?, lab.start(2)?, lab.start(3)?];
    lab.wait_for_rows(1, &WELL)?;
    let mut deletions = lab.deletions(1)?;
    lab.etcd.stop();
    lab.wait(1, "etcd away", is_away)?;
    sleep(OUTAGE);
    lab.etcd.run()?;
    lab.wait(1, "etcd back", is_back)?;
    join(&lab, 51)?;
    lab.wait_for_rows(1, &[&WELL[..], &["10.100.0.51 ok"]].concat())?;
    // Compacted past what the daemon has seen: it cannot go on from there.
    let mut router = lab.topology.router.rtnl()?;
    router.request(&add(&silence()))?;
    lab.wait(1, "etcd away", is_away)?;
    join(&lab, 52)?;
    lab.put("other", "x")?;
    lab.etcd.ctl(&["compact", &lab.etcd.revision()?.to_string()])?;
    router.request(&delete(&silence()))?;
    lab.wait(1, "etcd back", is_back)?;
    join(&lab, 53)?;
    let joined = ["10.100.0.51 ok", "10.100.0.52 ok", "10.100.0.53 ok"];
    lab.wait_for_rows(1, &[&WELL[..], &joined].concat())?;
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

#[test]
fn p10_emptied_by_mistake() -> Outcome {
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
fn p10_restored_from_an_older_backup() -> Outcome {
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
fn p10_a_boot_without_etcd_has_the_last_table() -> Outcome {
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
        // The daemon may have been killed before it wrote one of them.
        let removed = fs::remove_file(lab.node(1).folder().join(name));
        assert!(removed.is_ok() || !lab.node(1).folder().join(name).exists());
    }
    let _first = lab.start(1)?;
    lab.wait_for_rows(1, &WELL)?;
    assert_eq!(lab.routes(1)?, routes);
    Ok(())
}

/// What swallows, on the router, all that goes to node 1: connections die without a word.
fn silence() -> Route {
    let node = "10.100.0.2/32".parse().unwrap();
    Route { kind: libc::RTN_BLACKHOLE, ..Route::new(node) }
}

/// A lab for [`HASTY`] daemons: else etcd ends connections that are tried more often than it wants.
fn tried_often(nodes: u8) -> Result<Option<Lab>, cbr0_tests::LabError> {
    let often = ["--grpc-keepalive-min-time", "500ms"].map(str::to_owned).to_vec();
    let lab = Lab::at(nodes, format!("http://{ROUTER}:2379"), often)?;
    if let Some(lab) = &lab {
        lab.put("config", NETWORK)?;
    }
    Ok(lab)
}

#[test]
fn p10_a_node_that_is_cut_off_without_a_word_keeps_its_routes_and_catches_up() -> Outcome {
    let Some(lab) = tried_often(3)? else { return Ok(()) };
    let _first = lab.start_with(1, &HASTY)?;
    let _second = lab.start(2)?;
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    let routes = lab.routes(1)?;
    let mut deletions = lab.deletions(1)?;
    let mut router = lab.topology.router.rtnl()?;
    router.request(&add(&silence()))?;
    // Nothing is asked of etcd meanwhile: only the daemon's own look at the connection can tell.
    lab.wait(1, "etcd away", is_away)?;
    let _third = lab.start(3)?;
    lab.wait_for_rows(2, &["node1 ok", "node2 own", "node3 ok"])?;
    sleep(OUTAGE);
    assert_eq!(lab.routes(1)?, routes);
    router.request(&delete(&silence()))?;
    lab.wait_for_rows(1, &WELL)?;
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

/// The port of the member of etcd that the daemon of a node is connected to.
fn asked_port(lab: &Lab, number: usize) -> Result<u16, cbr0_tests::LabError> {
    let connections = || fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let connections = lab.node(number).netns().run(connections)?;
    // The columns are: number, local address, remote address, state (01 for established), …
    let mut rows = connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let asked = rows.find(|row| row[3] == "01").unwrap();
    let (_, port) = asked[2].split_once(':').unwrap();
    Ok(u16::from_str_radix(port, 16).unwrap())
}

#[test]
fn p10_when_a_member_dies_another_is_asked() -> Outcome {
    // Else a member can be added only when all have been well for five seconds.
    let young = vec!["--strict-reconfig-check=false".to_owned()];
    let Some(mut lab) = Lab::at(3, format!("http://{ROUTER}:2379"), young)? else { return Ok(()) };
    lab.put("config", r#"{"Network": "10.0.0.0/14"}"#)?;
    let mut members = [lab.etcd.add_member(1)?, lab.etcd.add_member(2)?];
    let endpoints: Vec<&str> = members.iter().map(|member| member.endpoint.as_str()).collect();
    let endpoints = format!("{},{}", lab.etcd.endpoint, endpoints.join(","));
    let options: Vec<&str> = HASTY.into_iter().chain(["--etcd-endpoints", &endpoints]).collect();
    let _daemons = [lab.start_with(1, &options)?, lab.start_with(2, &options)?];
    lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    let mut deletions = lab.deletions(1)?;
    let asked = format!(":{}", asked_port(&lab, 1)?);
    let mut all = std::iter::once(&mut lab.etcd).chain(&mut members);
    all.find(|member| member.endpoint.ends_with(&asked)).unwrap().stop();
    let _third = lab.start_with(3, &options)?;
    lab.wait_for_rows(1, &WELL)?;
    lab.wait_for_rows(2, &["node1 ok", "node2 own", "node3 ok"])?;
    assert_eq!(deletions.count()?, 0);
    Ok(())
}

/// Who puts an old copy of all keys into a new etcd puts back, too, that a node had left before it
/// came again.
#[test]
fn p10_made_anew_with_old_keys_put_back() -> Outcome {
    let Some(mut lab) = tried_often(2)? else { return Ok(()) };
    let _first = lab.start_with(1, &HASTY)?;
    let second = lab.start(2)?;
    let known = lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    second.kill();
    let range = range_of(&known, "node2");
    lab.say(2, &["leave"])?;
    lab.wait_for_rows(1, &["node1 own"])?;
    let sign = format!("left/{}", range.replace('/', "-"));
    let left = lab.etcd.ctl(&["get", "--print-value-only", &format!("{PREFIX}/{sign}")])?;
    let second = lab.start(2)?;
    let known = lab.wait_for_rows(1, &["node1 own", "node2 ok"])?;
    second.kill();
    assert_eq!(range_of(&known, "node2"), range);
    // The old etcd is to be further on than the new one, and that one than the node's return.
    let last = lab.etcd.revision()? + 1;
    for _ in 0..20 {
        lab.put("other", "x")?;
    }
    lab.put("subnets/junk", "x")?;
    lab.wait(1, "the last write", |status| tells(status, "1 leases are skipped"))?;
    let routes = lab.routes(1)?;
    let mut deletions = lab.deletions(1)?;

    let mut router = lab.topology.router.rtnl()?;
    router.request(&add(&silence()))?;
    lab.wait(1, "etcd away", is_away)?;
    lab.etcd.stop();
    fs::remove_dir_all(lab.topology.router.folder().join("etcd/data")).unwrap();
    lab.etcd.run()?;
    lab.put("config", NETWORK)?;
    while lab.etcd.revision()? < last {
        lab.put("other", "x")?;
    }
    lab.put(&sign, left.trim())?;
    router.request(&delete(&silence()))?;
    lab.wait(1, "another history", |status| tells(status, "etcd went back"))?;
    lab.wait_for_rows(1, &["node1 own", "node2 held"])?;
    assert_eq!(lab.routes(1)?, routes);
    assert_eq!(deletions.count()?, 0);
    Ok(())
}
