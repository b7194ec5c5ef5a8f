//! The signs of life by which a lease is kept.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::client::Etcd;
use super::error::EtcdError;

/// The longest time between two signs of life.
const LONGEST: Duration = Duration::from_secs(300);

/// The signs of life of a lease.
pub(super) struct Beat {
    next: Option<Instant>,
    interval: Duration,
    /// How long a sign counts.
    ttl: Duration,
}

impl Beat {
    /// The first one is due at once.
    pub(super) async fn start(etcd: &Etcd, lease: i64) -> Result<Self, EtcdError> {
        if lease == 0 {
            return Ok(Self { next: None, interval: Duration::MAX, ttl: Duration::MAX });
        }
        let ttl = etcd.granted(lease).await?.ok_or(EtcdError::LeaseGone)?;
        Ok(Self { next: Some(Instant::now()), interval: (ttl / 3).min(LONGEST), ttl })
    }

    /// Waits until the next one is due.
    pub(super) async fn due(&self) {
        match self.next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Gives one.
    pub(super) async fn keep(&mut self, etcd: &Etcd, lease: i64) -> Result<(), EtcdError> {
        etcd.keep_alive(lease).await?;
        etcd.term.renew(self.ttl);
        self.next = Some(Instant::now() + self.interval);
        Ok(())
    }
}
