//! P30 on a real etcd: whatever happens to the cluster, to etcd, to the kernel and to the daemon, in
//! whatever order, the kernel's routes are those that a simple model says.
//!
//! The model of `route-syncer/tests/model` knows what lists of nodes come to. This one knows what
//! the keys in etcd do: who is held, who has left, and who is known while etcd is away. So they
//! share no more than how a route is written down.
//!
//! Every run has another seed, which it prints; `CBR0_SEED` sets it. Each interleaving has the seed
//! after the one before it, so that the seed of one that failed, set, makes it the first.

mod reference;
mod run;
mod step;
mod world;

use std::env;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cbr0_tests::error::Context as _;
use cbr0_tests::{LabError, Outcome, Result};

use self::run::Run;

const INTERLEAVINGS: u64 = 50;
/// They mostly wait.
const THREADS: usize = 4;

#[test]
fn p30_random_interleavings_end_as_the_model_says_on_etcd() -> Outcome {
    let seed = seed()?;
    let next = AtomicU64::new(0);
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= INTERLEAVINGS {
                return Ok(());
            }
            one(seed.wrapping_add(number)).inspect_err(|_| {
                next.store(INTERLEAVINGS, Ordering::Relaxed);
            })?;
        }
    };
    let done: Vec<Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    Ok(done.into_iter().collect::<Result<()>>()?)
}

/// Runs one, where that can be.
fn one(seed: u64) -> Result<()> {
    let Some(mut run) = Run::new()? else { return Ok(()) };
    let steps = step::steps(&mut fastrand::Rng::with_seed(seed));
    run.all(&steps).map_err(|error| {
        let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
        let steps = steps.join("\n");
        LabError::Wrong(format!("{error}\nin the interleaving with CBR0_SEED={seed}:\n{steps}"))
    })
}

fn seed() -> Result<u64> {
    let seed = match env::var("CBR0_SEED") {
        Ok(text) => {
            text.parse().map_err(|_| LabError::Wrong(format!("CBR0_SEED={text} is no number")))?
        }
        Err(_) => fastrand::u64(..),
    };
    // Past the capture of output: who looks at a test that hangs must know it.
    writeln!(std::io::stderr(), "CBR0_SEED={seed}").context(|| "print the seed".to_owned())?;
    Ok(seed)
}
