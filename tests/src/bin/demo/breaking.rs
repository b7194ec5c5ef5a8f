//! Breaks a node's routes, its uplink and the etcd of a kept demo, while all Pods ping each other,
//! and tells what was lost and when the routes were back.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cbr0_tests::folder::FolderEvents;
use cbr0_tests::route_events::RouteEvents;
use cbr0_tests::syncer::DEADLINE;
use cbr0_tests::{LabError, Result, topology};
use ipnetwork::IpNetwork;
use kernel::route::{self, Route, TABLE_MAIN};
use serde_json::Value;

use crate::lab::{Lab, Source};
use crate::member::{Member, PROTOCOL};
use crate::pings::{Lost, Pings};
use crate::{show, state, table};

/// How the loss of routes is heard of.
#[derive(Clone, Copy)]
enum Going {
    /// The kernel tells of so many.
    Told(usize),
    /// All go, and the kernel tells of none in IPv4.
    Silent,
    /// None may go.
    None,
}

/// One thing that was broken, and what came of it.
struct Outcome {
    what: &'static str,
    lost: Lost,
    /// From the beginning until the last route was there again; none if none was gone.
    back: Option<Duration>,
}

/// Breaks one thing after the other on the first node.
pub(crate) fn run() -> Result<ExitCode> {
    let lab = Lab::load()?;
    let [first, _, ..] = &lab.members[..] else {
        let why = "with one node alone there is nothing to break: \"demo join\" adds another";
        return Err(LabError::Wrong(why.to_owned()));
    };
    println!("Things break on {}; meanwhile all Pods ping each other.\n", first.node.name);
    let mut outcomes = vec![
        broken(&lab, first, "one route deleted", |routes| delete(first, &routes[..1]))?,
        broken(&lab, first, "all routes flushed", |routes| delete(first, routes))?,
        broken(&lab, first, "uplink deleted, made again", |_| replace_uplink(&lab, first))?,
    ];
    if lab.source == Source::Etcd {
        let stopped = |_: &[Route]| stop_etcd(&lab);
        outcomes.push(broken(&lab, first, "etcd stopped, started again", stopped)?);
    }
    println!("{}", told(&outcomes));
    Ok(if show::matrix(&lab)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Breaks something, waits until all is well again, and tells how long that took. What breaks it is
/// given the node's own routes.
fn broken(
    lab: &Lab,
    victim: &Member,
    what: &'static str,
    breaks: impl FnOnce(&[Route]) -> Result<Going>,
) -> Result<Outcome> {
    let routes = own_routes(victim)?;
    let events = RouteEvents::open([victim.node.netns()], PROTOCOL)?;
    let pings = Pings::start(&lab.pods())?;
    let begun = Instant::now();
    let going = breaks(&routes)?;
    let back = when_back(&events, &routes, going)?;
    Ok(Outcome { what, lost: pings.end()?, back: back.map(|at| at - begun) })
}

/// The routes of the node's own daemon that lead to others. Those that make ranges unreachable are on
/// no link, and do not go with one.
fn own_routes(member: &Member) -> Result<Vec<Route>> {
    let routes = member.node.rtnl()?.routes(TABLE_MAIN)?;
    let leads = |route: &Route| route.protocol == PROTOCOL && route.gateway.is_some();
    Ok(routes.into_iter().filter(leads).collect())
}

/// The moment when the last route came back.
fn when_back(events: &RouteEvents, routes: &[Route], going: Going) -> Result<Option<Instant>> {
    let all = routes.iter().map(|route| route.destination);
    let (mut to_go, mut missing): (usize, BTreeSet<IpNetwork>) = match going {
        Going::Told(count) => (count, BTreeSet::new()),
        Going::Silent => (0, all.collect()),
        Going::None => {
            let changes = events.so_far()?;
            let Some(change) = changes.first() else { return Ok(None) };
            return Err(LabError::Wrong(format!("a route changed that should not: {change:?}")));
        }
    };
    let last = events.wait(DEADLINE, |seen| {
        if seen.there {
            missing.remove(&seen.destination);
        } else {
            missing.insert(seen.destination);
            to_go = to_go.saturating_sub(1);
        }
        to_go == 0 && missing.is_empty()
    })?;
    match last {
        Some(seen) => Ok(Some(seen.at)),
        None => Err(LabError::Wrong(format!("no routes to {missing:?} after {DEADLINE:?}"))),
    }
}

fn delete(victim: &Member, routes: &[Route]) -> Result<Going> {
    let messages: Vec<_> = routes.iter().map(route::delete).collect();
    victim.node.rtnl()?.request_all(&messages)?;
    Ok(Going::Told(routes.len()))
}

/// The link gets its addresses and default routes back, as whoever manages a machine's links gives
/// them.
fn replace_uplink(lab: &Lab, victim: &Member) -> Result<Going> {
    topology::detach(&lab.switch, &victim.node.name)?;
    topology::attach_node(&lab.switch, &victim.node, victim.number)?;
    Ok(Going::Silent)
}

/// Stops etcd, and starts it on its data when all route syncers have noticed; waits until they have
/// noticed that, too.
fn stop_etcd(lab: &Lab) -> Result<Going> {
    for leader in state::leaders()? {
        leader.end_inside("etcd")?;
    }
    lab.members.iter().try_for_each(|member| wait_for_source(member, false))?;
    lab.run_etcd()?;
    lab.members.iter().try_for_each(|member| wait_for_source(member, true))?;
    Ok(Going::None)
}

/// Waits until a node's route syncer says that it can, or cannot, read its source.
fn wait_for_source(member: &Member, readable: bool) -> Result<()> {
    let file = member.node.folder().join("route-syncer.json");
    let events = FolderEvents::open(member.node.folder())?;
    let look = || {
        // It is replaced as a whole, and read again at the next event if it is not there.
        let status = fs::read_to_string(&file).ok();
        let status: Option<Value> = status.and_then(|text| serde_json::from_str(&text).ok());
        let error = status.and_then(|status| status.get("sourceError").cloned());
        Ok(error.filter(|error| error.is_null() == readable).map(drop))
    };
    events.wait(DEADLINE, look)?.ok_or_else(|| {
        let (name, word) = (&member.node.name, if readable { "in" } else { "out of" });
        LabError::Wrong(format!("{name} has not said for {DEADLINE:?} that etcd is {word} reach"))
    })
}

fn told(outcomes: &[Outcome]) -> String {
    let heading = ["broken", "pings", "lost", "longest silence", "routes back after"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for Outcome { what, lost, back } in outcomes {
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        lines.push(vec![
            (*what).to_owned(),
            lost.sent.to_string(),
            lost.lost.to_string(),
            if lost.lost == 0 { "-".to_owned() } else { milliseconds(lost.longest) },
            back.map_or("never gone".to_owned(), milliseconds),
        ]);
    }
    table::text(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_was_lost_and_when_routes_were_back() {
        let lost = Lost { sent: 600, lost: 3, longest: Duration::from_millis(21) };
        let none = Lost { sent: 900, ..Lost::default() };
        let text = told(&[
            Outcome { what: "routes", lost, back: Some(Duration::from_micros(9_250)) },
            Outcome { what: "etcd", lost: none, back: None },
        ]);
        let expected = "\
broken  pings  lost  longest silence  routes back after
routes  600    3     21.0 ms          9.2 ms
etcd    900    0     -                never gone
";
        assert_eq!(text, expected);
    }
}
