//! What can happen to the API server and to the way there: no route to a living node is lost by it,
//! and what has changed meanwhile is known afterwards.

use std::fs;

use cbr0_tests::require::{self, Part};
use cbr0_tests::{Outcome, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Lab, NODES, TOKENS, notes};

const NFT_TABLE: &str = "table inet cut { chain out { type filter hook output priority 0; }; }";
const WELL: [&str; 3] = ["node1 own", "node2 ok", "node3 ok"];

/// Lets packets of the API server to node 1 vanish, or those of them that `which` means.
fn cut(lab: &Lab, which: &str) -> Result<()> {
    let nft = Part::Nft.find().unwrap();
    lab.at_server(&nft, &["add", NFT_TABLE])?;
    let rule = format!("add rule inet cut out ip daddr 10.100.0.2 tcp sport 6443 {which} drop");
    lab.at_server(&nft, &[&rule])
}

fn mend(lab: &Lab) -> Result<()> {
    lab.at_server(&Part::Nft.find().unwrap(), &["delete", "table", "inet", "cut"])
}

/// Lets an API server that nobody is connected to make these changes, and forget that it did.
fn change_unheard(lab: &mut Lab, change: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    lab.server.stop();
    lab.server.run()?;
    change(lab)?;
    let answer = lab.server.etcd.ctl(&["get", "x", "-w", "json"])?;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    lab.server.etcd.ctl(&["compact", &answer["header"]["revision"].to_string()])?;
    lab.server.stop();
    lab.server.run()
}

#[test]
fn p23_the_api_server_goes_and_comes_back() -> Outcome {
    let Some(mut lab) = Lab::new(3)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    let routes = lab.routes()?;
    let mut events = lab.listen()?;
    lab.server.stop();
    lab.wait_for_trouble("does not answer")?;
    lab.server.run()?;
    lab.wait_for_rows(&WELL)?;
    assert_eq!(events.counts()?, (0, 0));
    // A node that boots while it is away has the routes of before.
    lab.server.stop();
    drop(daemon);
    let mut rtnl = lab.node(1).rtnl()?;
    for route in rtnl.routes(kernel::route::TABLE_MAIN)? {
        if route.protocol == 214 {
            rtnl.request(&kernel::route::delete(&route))?;
        }
    }
    for name in ["route-syncer.json", "last-good.json", "synced.json"] {
        fs::remove_file(lab.node(1).folder().join(name)).unwrap();
    }
    let _daemon = lab.start(1)?;
    lab.wait_for_trouble("does not answer")?;
    lab.wait_for_routes(&routes.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(())
}

#[test]
fn p23_after_410_gone_the_nodes_are_listed_anew() -> Outcome {
    let Some(mut lab) = Lab::new(3)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    daemon.signal(Signal::SIGSTOP)?;
    change_unheard(&mut lab, |lab| {
        lab.delete(3)?;
        lab.add(4)
    })?;
    let mut events = lab.listen()?;
    daemon.signal(Signal::SIGCONT)?;
    let status = lab.wait_for_rows(&["node1 own", "node2 ok", "node4 ok"])?;
    assert!(notes(&status, "no longer knows what changed"), "{status:#}");
    // Of each family: one route less, and one more.
    assert_eq!(events.counts()?, (4, 2));
    Ok(())
}

#[test]
fn p23_a_large_shrink_after_a_gap_is_held() -> Outcome {
    let Some(mut lab) = Lab::new(6)? else { return Ok(()) };
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&["node1 own", "node2 ok", "node3 ok", "node4 ok", "node5 ok", "node6 ok"])?;
    daemon.signal(Signal::SIGSTOP)?;
    change_unheard(&mut lab, |lab| (3..=6).try_for_each(|number| lab.delete(number)))?;
    let mut events = lab.listen()?;
    daemon.signal(Signal::SIGCONT)?;
    let held = ["node3 held", "node4 held", "node5 held", "node6 held"];
    lab.wait_for_rows(&[&["node1 own", "node2 ok"], held.as_slice()].concat())?;
    assert_eq!(events.counts()?, (0, 0));
    // What the watch tells from then on is believed, and says nothing of the others.
    lab.delete(2)?;
    lab.wait_for_rows(&[&["node1 own"], held.as_slice()].concat())?;
    lab.add(3)?;
    lab.wait_for_rows(&[&["node1 own", "node3 ok"], &held[1..]].concat())?;
    Ok(())
}

#[test]
fn p23_a_connection_that_is_dead_is_noticed() -> Outcome {
    if require::part(Part::Nft)?.is_none() {
        return Ok(());
    }
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let _daemon = lab.start_as(1, TOKENS[0], &["--kube-watch-seconds", "1"])?;
    lab.wait_for_rows(&WELL)?;
    let mut events = lab.listen()?;
    cut(&lab, "")?;
    lab.add(4)?;
    lab.wait_for_trouble("does not answer")?;
    assert_eq!(events.counts()?, (0, 0));
    mend(&lab)?;
    lab.wait_for_rows(&[WELL.as_slice(), &["node4 ok"]].concat())?;
    Ok(())
}

#[test]
fn p23_a_list_that_breaks_off_is_no_list() -> Outcome {
    if require::part(Part::Nft)?.is_none() {
        return Ok(());
    }
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    // More than a page, of which ours come last by name.
    for number in 0..130 {
        lab.create(&format!("a{number}"), &[] as &[&str], &[] as &[&str])?;
    }
    let daemon = lab.start(1)?;
    lab.wait_for_rows(&WELL)?;
    let routes = lab.routes()?;
    drop(daemon);
    let size = lab.server.ask("GET", NODES, &Value::Null)?.to_string().len();
    cut(&lab, &format!("quota over {} bytes", size * 9 / 10))?;
    let mut events = lab.listen()?;
    let _daemon = lab.start_as(1, TOKENS[0], &["--kube-watch-seconds", "1"])?;
    lab.wait_for_trouble("does not answer")?;
    assert_eq!(lab.routes()?, routes);
    mend(&lab)?;
    lab.wait_for_rows(&WELL)?;
    assert_eq!(events.counts()?, (0, 0));
    Ok(())
}
