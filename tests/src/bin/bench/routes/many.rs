//! One node and thousands of claims: the first sync, a restart, repairs.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use cbr0_tests::error::Context;
use cbr0_tests::process;
use cbr0_tests::require::Part;
use cbr0_tests::{LabError, Result};
use kernel::route::{self, Route, TABLE_MAIN};

use super::alone::Alone;
use super::daemon::{PATIENCE, PROTOCOL, forget};
use super::{IP_BATCH, bird, milliseconds};
use crate::record::Unit;
use crate::subject::{Case, Lane, Sample};
use crate::suite::{FLOOR, OURS};

/// The protocol of the route that somebody else makes.
const STATIC: u8 = 4;

/// What is measured of a restart.
pub(crate) const READY: &str = "ready";
pub(crate) const WRITTEN: &str = "routes written (their number)";
/// What is measured of all else here.
pub(crate) const DONE: &str = "done";

/// How titles begin.
pub(crate) const FIRST_SYNC: &str = "first sync of";
pub(crate) const RESTART: &str = "restart with";
pub(crate) const ONE_DELETED: &str = "one deleted, and back, of";
pub(crate) const FLUSHED: &str = "all flushed, and back:";

/// All of it, with so many claims.
pub(crate) fn cases(claims: u32) -> Vec<Case> {
    vec![
        case(format!("{FIRST_SYNC} {claims} claims"), move || first_sync(claims)),
        case(format!("{RESTART} {claims} routes in place"), move || restart(claims)),
        case(format!("{ONE_DELETED} {claims} routes"), move || one_deleted(claims)),
        case(format!("{FLUSHED} {claims} routes"), move || all_flushed(claims)),
        case(format!("uplink down and up with {claims} routes"), move || uplink_flapped(claims)),
        case(format!("another's route among {claims}, told and gone"), move || foreign(claims)),
    ]
}

fn case(title: String, prepare: impl FnOnce() -> Result<Vec<Lane>> + 'static) -> Case {
    Case { title, unit: Unit::Milliseconds, prepare: Box::new(prepare) }
}

fn lane(suite: &str, turn: impl FnMut() -> Result<Vec<Sample>> + 'static) -> Lane {
    Lane { suite: suite.to_owned(), turn: Box::new(turn) }
}

fn done(begun: Instant, end: Instant) -> Vec<Sample> {
    vec![Sample { what: DONE, value: milliseconds(begun, end) }]
}

/// From the start of a node that knows nothing.
fn first_sync(claims: u32) -> Result<Vec<Lane>> {
    let mut bare = Alone::build(claims)?;
    let floor = lane(FLOOR, move || {
        let begun = Instant::now();
        bare.store.read()?;
        bare.add_all(&mut bare.node.rtnl()?)?;
        let end = bare.all_there()?;
        bare.flush()?;
        Ok(done(begun, end))
    });
    let mut lanes = vec![floor];
    lanes.extend(by_ip(claims, Alone::flush)?);
    let alone = Alone::build(claims)?;
    lanes.push(lane(OURS, move || {
        let begun = Instant::now();
        let daemon = alone.start()?;
        let end = alone.all_there()?;
        daemon.stop()?;
        alone.flush()?;
        forget(&alone.node)?;
        Ok(done(begun, end))
    }));
    Ok(lanes)
}

/// `ip -batch` makes the routes; what is done before is not timed.
fn by_ip(claims: u32, before: impl Fn(&Alone) -> Result<()> + 'static) -> Result<Option<Lane>> {
    let Some(ip) = Part::Ip.find() else { return Ok(None) };
    let alone = Alone::build(claims)?;
    let file = batch_file(&alone)?;
    Ok(Some(lane(IP_BATCH, move || {
        before(&alone)?;
        let begun = Instant::now();
        let mut command = Command::new(&ip);
        command.arg("-batch").arg(&file);
        let finished = alone.node.netns().run(|| process::run(command, b"", PATIENCE))??;
        if !finished.status.success() {
            return Err(LabError::Wrong(format!("ip -batch: {}", finished.stderr)));
        }
        Ok(done(begun, alone.all_there()?))
    })))
}

fn batch_file(alone: &Alone) -> Result<PathBuf> {
    let file = alone.node.folder().join("batch");
    let mut text = String::new();
    for claim in &alone.claims {
        let (range, gateway) = (claim.range, claim.gateway);
        let _ = writeln!(text, "route add {range} via {gateway} proto {PROTOCOL}");
    }
    fs::write(&file, text).context(|| format!("write {}", file.display()))?;
    Ok(file)
}

/// From the start until it says that its first sync is done, and until it has done what etcd says. The
/// floor is one reading of the kernel's routes.
fn restart(claims: u32) -> Result<Vec<Lane>> {
    let bare = Alone::build(claims)?;
    bare.add_all(&mut bare.node.rtnl()?)?;
    bare.all_there()?;
    let floor = lane(FLOOR, move || {
        // All of it, with the other end of the uplink, lives as long as the lane.
        let bare = &bare;
        let begun = Instant::now();
        bare.node.rtnl()?.routes(TABLE_MAIN)?;
        Ok(vec![Sample { what: READY, value: milliseconds(begun, Instant::now()) }])
    });
    let (alone, daemon) = Alone::synced(claims)?;
    daemon.logged("the source names")?;
    daemon.stop()?;
    alone.events.so_far()?;
    let ours = lane(OURS, move || {
        let begun = Instant::now();
        let daemon = alone.start()?;
        let ready = daemon.logged("the first sync is done")?;
        let told = daemon.logged("the source names")?;
        // It ends between two syncs: that after the reading of etcd is done then.
        daemon.stop()?;
        let written = alone.events.so_far()?.len() as f64;
        Ok(vec![
            Sample { what: READY, value: milliseconds(begun, ready) },
            Sample { what: "etcd read", value: milliseconds(begun, told) },
            Sample { what: WRITTEN, value: written },
        ])
    });
    Ok(vec![floor, ours])
}

fn one_deleted(claims: u32) -> Result<Vec<Lane>> {
    let (alone, daemon) = Alone::synced(claims)?;
    let mut next = 0;
    let ours = lane(OURS, move || {
        let _running = &daemon;
        next = (next + 1) % alone.claims.len();
        let (route, mut rtnl) = (alone.routes().nth(next), alone.node.rtnl()?);
        let route = route.ok_or_else(|| LabError::Wrong("there are no claims".to_owned()))?;
        let begun = Instant::now();
        rtnl.request(&route::delete(&route))?;
        Ok(done(begun, alone.leads(&alone.claims[next])?))
    });
    Ok(std::iter::once(ours).chain(bird::repairs()?).collect())
}

/// From the beginning of the flush. The floor flushes, and adds them again.
fn all_flushed(claims: u32) -> Result<Vec<Lane>> {
    let bare = Alone::build(claims)?;
    bare.add_all(&mut bare.node.rtnl()?)?;
    bare.all_there()?;
    let floor = lane(FLOOR, move || {
        let begun = flush_by_ip(&bare)?;
        bare.add_all(&mut bare.node.rtnl()?)?;
        Ok(done(begun, bare.all_back()?))
    });
    let (alone, daemon) = Alone::synced(claims)?;
    let ours = lane(OURS, move || {
        let _running = &daemon;
        let begun = flush_by_ip(&alone)?;
        Ok(done(begun, alone.all_back()?))
    });
    Ok(vec![floor, ours])
}

/// The moment before.
fn flush_by_ip(alone: &Alone) -> Result<Instant> {
    let ip =
        Part::Ip.find().ok_or_else(|| LabError::Wrong("no ip: scripts/parts ip".to_owned()))?;
    let mut command = Command::new(ip);
    command.args(["route", "flush", "proto", &PROTOCOL.to_string()]);
    let begun = Instant::now();
    let finished = alone.node.netns().run(|| process::run(command, b"", PATIENCE))??;
    if finished.status.success() {
        return Ok(begun);
    }
    Err(LabError::Wrong(format!("ip route flush: {}", finished.stderr)))
}

/// From when the link is up again. The floor adds all routes then.
fn uplink_flapped(claims: u32) -> Result<Vec<Lane>> {
    let bare = Alone::build(claims)?;
    let floor = lane(FLOOR, move || {
        let mut rtnl = bare.node.rtnl()?;
        let begun = bare.flap()?;
        bare.add_all(&mut rtnl)?;
        Ok(done(begun, bare.all_there()?))
    });
    let (alone, daemon) = Alone::synced(claims)?;
    let ours = lane(OURS, move || {
        let _running = &daemon;
        let begun = alone.flap()?;
        Ok(done(begun, alone.all_there()?))
    });
    Ok(vec![floor, ours])
}

/// Somebody puts a route of their own in the place of ours: until it is told; and when they remove
/// it, until ours is back.
fn foreign(claims: u32) -> Result<Vec<Lane>> {
    let (alone, daemon) = Alone::synced(claims)?;
    let mut next = 0;
    Ok(vec![lane(OURS, move || {
        next = (next + 1) % alone.claims.len();
        let missing = || LabError::Wrong("there are no claims".to_owned());
        let ours = alone.routes().nth(next).ok_or_else(missing)?;
        let gateway = super::alone::claim(u32::try_from(next).unwrap_or(0), 1)?.gateway;
        let theirs = Route { protocol: STATIC, ..ours.via(gateway.into()) };
        let mut rtnl = alone.node.rtnl()?;
        let begun = Instant::now();
        rtnl.request(&route::replace(&theirs))?;
        let told = daemon.logged("conflict")?;
        let removed = Instant::now();
        rtnl.request(&route::delete(&theirs))?;
        let back = alone.leads(&alone.claims[next])?;
        Ok(vec![
            Sample { what: "told", value: milliseconds(begun, told) },
            Sample { what: "ours back", value: milliseconds(removed, back) },
        ])
    })])
}
