//! P30: whatever happens in whatever order, the kernel's routes are those that a simple model says.
//!
//! The real daemon runs on a thread in a throw-away network namespace, told by a source in memory.
//! Steps are drawn at random; after each one the kernel is compared with [`reference`], which knows
//! nothing of the daemon's code. A failure prints its seed; `CBR0_SEED` replays it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, reason = "the seed, shown with a failure")]

mod driver;
mod reference;
mod source;
mod step;
mod world;

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// All interleavings together, and the threads that share them: mostly they wait for the daemon.
const CASES: u32 = 2_000;
const THREADS: u32 = 8;

/// P30.
#[test]
fn p30_random_interleavings_end_as_the_model_says() {
    let seed = seed();
    println!("CBR0_SEED={seed}");
    thread::scope(|scope| {
        let parts: Vec<_> = (0..THREADS)
            .map(|part| scope.spawn(move || run(seed.wrapping_add(u64::from(part)))))
            .collect();
        let failures: Vec<String> =
            parts.into_iter().filter_map(|part| part.join().unwrap().err()).collect();
        assert!(failures.is_empty(), "CBR0_SEED={seed}\n{}", failures.join("\n"));
    });
}

fn seed() -> u64 {
    match std::env::var("CBR0_SEED") {
        Ok(text) => text.parse().expect("CBR0_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

fn words(steps: &[step::Step]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    steps.join("\n")
}

/// One thread's share; what it fails with has been made as short as it can be.
fn run(seed: u64) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: CASES / THREADS,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let patience = Cell::new(driver::PATIENCE);
    let result = TestRunner::new_with_rng(config, rng).run(&step::steps(), |steps| {
        let result = driver::run(&steps, patience.get());
        if result.is_err() {
            // To make a failure short, many cases fail.
            patience.set(driver::SHORT_PATIENCE);
        }
        result.map_err(proptest::test_runner::TestCaseError::fail)
    });
    result.map_err(|failure| match failure {
        TestError::Fail(reason, steps) => format!("{reason}\nafter {}", words(&steps)),
        TestError::Abort(reason) => reason.to_string(),
    })
}
