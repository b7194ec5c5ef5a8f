//! Chance, so that not all nodes do the same at the same time.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A random time up to `most`.
pub(super) fn jitter(most: Duration) -> Duration {
    most.mul_f64(f64::from(random() as u32) / f64::from(u32::MAX))
}

/// A random number: the keys of a new hasher are random.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
