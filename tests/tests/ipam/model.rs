//! Random sequences of everything that can happen to a network's reservations, against a plain
//! model of what must come of it.
//!
//! Every run has another seed, which it prints; `CBR0_SEED` sets it. Each sequence has the seed
//! after the one before it, so that the seed of one that failed, set, makes it the first.

mod sequence;
mod shape;
mod state;

use std::env;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cbr0_tests::error::Context;
use cbr0_tests::strace::Strace;
use cbr0_tests::{LabError, Outcome, Result};
use serde_json::json;

use crate::fixture::{Holder, Lab, Network, Request, reference};
use sequence::{Sequence, Tools};
use shape::Shape;

const SEQUENCES: u64 = 10_000;

#[test]
fn whatever_happens_no_address_is_given_twice_lost_or_leaked() -> Outcome {
    let Some(tools) = tools()? else { return Ok(()) };
    let seed = seed()?;
    let next = AtomicU64::new(0);
    let worker = || {
        let shapes = Shape::all();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SEQUENCES {
                return Ok(());
            }
            run(&tools, &shapes, seed.wrapping_add(number)).inspect_err(|_| {
                next.store(SEQUENCES, Ordering::Relaxed);
            })?;
        }
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    let done: Vec<Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        let died = |_| Err(LabError::Wrong("a worker thread died".to_owned()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(died)).collect()
    });
    Ok(done.into_iter().collect::<Result<()>>()?)
}

fn run(tools: &Tools, shapes: &[Shape], seed: u64) -> Result<()> {
    let mut sequence = Sequence::new(tools, shapes, seed)?;
    sequence.run().map_err(|error| {
        let log = sequence.log.join("\n");
        LabError::Wrong(format!("{error}\nin the sequence with CBR0_SEED={seed}:\n{log}"))
    })
}

/// The first sequence's seed, told past the capture of the test harness.
fn seed() -> Result<u64> {
    let seed = match env::var("CBR0_SEED") {
        Ok(text) => text.parse().map_err(|error| {
            LabError::Wrong(format!("CBR0_SEED={text:?} is no number: {error}"))
        })?,
        Err(_) => fastrand::u64(..),
    };
    let line = format!("ipam::model: {SEQUENCES} sequences from CBR0_SEED={seed}\n");
    std::io::stderr().write_all(line.as_bytes()).context(|| "write the seed".to_owned())?;
    Ok(seed)
}

fn tools() -> Result<Option<Tools>> {
    let Some(lab) = Lab::new()? else { return Ok(None) };
    let (Some(reference), Some(strace)) = (reference()?, Strace::find()?) else { return Ok(None) };
    let network = Network::new(&json!({"subnet": "10.1.2.0/29"}))?;
    let holder = Holder::eth0("a");
    let of = |request: Request| {
        let (answer, syscalls) = strace.syscalls(network.call(&lab.ours, &request), &lab.host)?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
        Ok::<_, LabError>(syscalls)
    };
    let (of_add, of_del) = (of(Request::add(&holder))?, of(Request::del(&holder))?);
    Ok(Some(Tools { lab, reference, strace, of_add, of_del }))
}
