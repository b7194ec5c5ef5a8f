//! What takes a minute: changes that go on, nothing to do, and memory.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::Result;
use cbr0_tests::route_events::Seen;

use super::alone::{Alone, claim, late};
use super::daemon::{Daemon, PATIENCE, Used};
use super::milliseconds;
use super::store::Claim;
use crate::record::Unit;
use crate::subject::{Case, Lane, Sample};
use crate::suite::OURS;

/// How titles begin.
pub(crate) const IDLE: &str = "nothing for";
pub(crate) const MEMORY_FEW: &str = "memory with 50 ";
pub(crate) const MEMORY_MANY: &str = "memory with 5000 ";
pub(crate) const MEMORY_MOST: &str = "memory with 10000 ";
/// What is measured.
pub(crate) const WAKES: &str = "wake-ups";
/// What is measured.
pub(crate) const RESIDENT: &str = "resident";

/// Changes a second.
const RATE: u32 = 200;

/// How much of it there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// The claims of whom changes and rests.
    pub(crate) claims: u32,
    /// How long changes go on.
    pub(crate) churn: Duration,
    /// How long nothing is done.
    pub(crate) idle: Duration,
    /// The claims of those whose memory is told.
    pub(crate) memory: [u32; 3],
}

/// All of it.
pub(crate) fn cases(extent: Extent) -> Vec<Case> {
    let Extent { claims, churn, idle, memory } = extent;
    let case = |title, unit, turn: Turn| {
        let lane = || Lane { suite: OURS.to_owned(), turn };
        Case { title, unit, prepare: Box::new(move || Ok(vec![lane()])) }
    };
    let length = idle.as_secs_f64();
    let mut cases = vec![
        case(
            format!("{RATE} changes a second of {claims} claims"),
            Unit::Named,
            Box::new(move || churned(claims, churn)),
        ),
        case(
            format!("{IDLE} {length} s with {claims} claims"),
            Unit::Named,
            Box::new(move || idled(claims, idle)),
        ),
    ];
    cases.extend(memory.map(|claims| {
        case(
            format!("memory with {claims} claims"),
            Unit::Mebibytes,
            Box::new(move || measure_memory(claims)),
        )
    }));
    cases
}

type Turn = Box<dyn FnMut() -> Result<Vec<Sample>>>;

fn read(alone: &Alone) -> Result<Daemon> {
    let daemon = alone.start()?;
    alone.all_there()?;
    daemon.logged("the source names")?;
    Ok(daemon)
}

/// One claim after the other moves to another gateway.
fn churned(claims: u32, length: Duration) -> Result<Vec<Sample>> {
    let mut alone = Alone::build(claims)?;
    let daemon = read(&alone)?;
    let before = daemon.used()?;
    let begun = Instant::now();
    let moved = move_claims(&mut alone, length)?;
    let (lags, written) = lags(&alone, &moved)?;
    let (took, changes) = (milliseconds(begun, Instant::now()), lags.len() as f64);
    let Used { cpu, .. } = daemon.used()?;
    let mut samples: Vec<_> =
        lags.into_iter().map(|value| Sample { what: "lag (ms)", value }).collect();
    samples.push(Sample { what: "CPU (%)", value: 100.0 * (cpu - before.cpu) / took });
    samples.push(Sample { what: "route messages a change", value: written as f64 / changes });
    Ok(samples)
}

/// The moves, each with the moment before it was written.
fn move_claims(alone: &mut Alone, length: Duration) -> Result<Vec<(Claim, Instant)>> {
    let pause = Duration::from_secs(1) / RATE;
    let count = u32::try_from(length.as_millis() / pause.as_millis()).unwrap_or(u32::MAX);
    let begun = Instant::now();
    let claims = u32::try_from(alone.claims.len()).unwrap_or(u32::MAX);
    let mut moved = Vec::new();
    for number in 0..count {
        thread::sleep((begun + pause * number).saturating_duration_since(Instant::now()));
        let there_and_back = usize::from(number / claims % 2 == 0);
        let to = claim(number % claims, there_and_back)?;
        moved.push((to, Instant::now()));
        alone.store.claim(&[to])?;
    }
    Ok(moved)
}

/// How long each took, in milliseconds, and how many route messages there were.
fn lags(alone: &Alone, moved: &[(Claim, Instant)]) -> Result<(Vec<f64>, usize)> {
    let key = |claim: &Claim| (claim.range, Some(claim.gateway.into()));
    let mut waiting: HashMap<_, _> = moved.iter().map(|(claim, at)| (key(claim), *at)).collect();
    let (mut lags, mut written) = (Vec::new(), 0);
    let last = alone.events.wait(PATIENCE, |seen: &Seen| {
        written += 1;
        if let Some(at) = waiting.remove(&(seen.destination, seen.gateway)) {
            lags.push(milliseconds(at, seen.at));
        }
        waiting.is_empty()
    })?;
    last.map(|_| (lags, written)).ok_or_else(|| late("the last change"))
}

/// Nothing changes.
fn idled(claims: u32, length: Duration) -> Result<Vec<Sample>> {
    let mut alone = Alone::build(claims)?;
    let daemon = read(&alone)?;
    // What the start left to do is done by then.
    thread::sleep(length / 10);
    let (before, heard) = (daemon.used()?, alone.store.messages()?);
    thread::sleep(length);
    let (after, told) = (daemon.used()?, alone.store.messages()?);
    Ok(vec![
        Sample { what: "CPU (ms)", value: after.cpu - before.cpu },
        Sample { what: WAKES, value: after.wakes - before.wakes },
        Sample { what: "messages to etcd", value: told - heard },
    ])
}

fn measure_memory(claims: u32) -> Result<Vec<Sample>> {
    let alone = Alone::build(claims)?;
    let daemon = read(&alone)?;
    // It ends no sync before it has written down how it went.
    let [now, most] = daemon.memory()?;
    Ok(vec![Sample { what: RESIDENT, value: now }, Sample { what: "peak", value: most }])
}
