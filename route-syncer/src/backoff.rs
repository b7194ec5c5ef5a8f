//! What failed, and when it may be tried again: each destination for itself, so that one route
//! that cannot be made delays no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// When something that failed is tried again: the wait doubles with each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    wait: Duration,
    due: Instant,
}

impl Retry {
    /// After one more failure.
    pub fn after(before: Option<Self>, now: Instant) -> Self {
        let wait = before.map_or(FIRST_WAIT, |before| (before.wait * 2).min(LONGEST_WAIT));
        Self { wait, due: now + wait }
    }

    /// When it is due.
    pub fn due(&self) -> Instant {
        self.due
    }
}

/// The destinations whose last change failed.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: BTreeMap<IpNetwork, Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    retry: Retry,
}

impl Backoff {
    /// Whether a change to this destination may be tried now.
    pub fn may_try(&self, destination: IpNetwork, now: Instant) -> bool {
        self.failures.get(&destination).is_none_or(|failure| failure.retry.due <= now)
    }

    /// Notes a failure. Returns whether the reason is new.
    pub fn failed(&mut self, destination: IpNetwork, reason: String, now: Instant) -> bool {
        let before = self.failures.get(&destination);
        let new = before.is_none_or(|failure| failure.reason != reason);
        let retry = Retry::after(before.map(|failure| failure.retry), now);
        self.failures.insert(destination, Failure { reason, retry });
        new
    }

    /// Forgets the failures of all destinations but these, which still need a change.
    pub fn keep_only(&mut self, destinations: &BTreeSet<IpNetwork>) {
        self.failures.retain(|destination, _| destinations.contains(destination));
    }

    /// Lets everything be tried at once: something changed that may have been the cause.
    pub fn hurry(&mut self, now: Instant) {
        for failure in self.failures.values_mut() {
            failure.retry.due = now;
        }
    }

    /// When the next destination may be tried again.
    pub fn due(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.retry.due).min()
    }

    /// Why the last change of this destination failed.
    pub fn reason(&self, destination: IpNetwork) -> Option<&str> {
        self.failures.get(&destination).map(|failure| failure.reason.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn destination() -> IpNetwork {
        "10.0.2.0/24".parse().unwrap()
    }

    #[test]
    fn waits_double_from_a_tenth_of_a_second_to_half_a_minute() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.may_try(destination(), now));
        let mut waits = Vec::new();
        for _ in 0..11 {
            backoff.failed(destination(), "no".into(), now);
            assert!(!backoff.may_try(destination(), now));
            waits.push((backoff.due().unwrap() - now).as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[8..], [25_600, 30_000, 30_000]);
        assert!(backoff.may_try(destination(), now + LONGEST_WAIT));
    }

    #[test]
    fn one_failure_does_not_delay_others() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.failed(destination(), "no".into(), now);
        assert!(backoff.may_try("10.0.3.0/24".parse().unwrap(), now));
    }

    #[test]
    fn a_reason_is_news_once() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.failed(destination(), "no".into(), now));
        assert!(!backoff.failed(destination(), "no".into(), now));
        assert!(backoff.failed(destination(), "other".into(), now));
        assert_eq!(backoff.reason(destination()), Some("other"));
    }

    #[test]
    fn what_needs_no_change_any_more_is_forgotten() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.failed(destination(), "no".into(), now);
        backoff.keep_only(&BTreeSet::from([destination()]));
        assert!(!backoff.may_try(destination(), now));
        backoff.hurry(now);
        assert!(backoff.may_try(destination(), now));
        backoff.keep_only(&BTreeSet::new());
        assert_eq!(backoff.due(), None);
    }
}
