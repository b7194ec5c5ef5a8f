//! How long to wait before what failed is tried again: longer each time, and no two nodes at once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(10);

/// The pause before the next try.
#[derive(Clone, Copy, Debug)]
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pause {
    /// Waits; the next time longer.
    pub async fn take(&mut self) {
        sleep(self.0 / 2 + jitter(self.0 / 2)).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

/// A random time up to `most`. The keys of a new hasher are random.
pub fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
