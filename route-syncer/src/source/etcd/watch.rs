//! Hearing of changes in etcd, from the revision of the reading on.

use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchStream};
use tokio::time::{Instant, timeout_at};

use super::client::{Etcd, stored};
use super::contents::Contents;
use super::error::EtcdError;

/// A burst of changes ends with so much silence, or when it has lasted so long: many nodes that join
/// at once are one change of the picture, or few.
const SILENCE: Duration = Duration::from_millis(5);
const LONGEST_BURST: Duration = Duration::from_millis(50);

/// The changes below the prefix, none left out.
pub(super) struct Watch {
    stream: WatchStream,
}

impl Watch {
    /// Watches what comes after `contents`.
    pub(super) async fn open(etcd: &Etcd, contents: &Contents) -> Result<Self, EtcdError> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(contents.revision + 1)
            .with_progress_notify();
        let mut client = etcd.client.watch_client();
        let stream = etcd.ask(client.watch(etcd.layout.prefix.clone(), Some(options))).await?;
        Ok(Self { stream })
    }

    /// Waits for changes and puts them into `contents`. Returns whether there were any: etcd also
    /// tells, now and then, that there were none. Cancel-safe.
    ///
    /// # Errors
    /// Changes may be missed from here on: everything must be read anew.
    pub(super) async fn next(
        &mut self,
        etcd: &Etcd,
        contents: &mut Contents,
    ) -> Result<bool, EtcdError> {
        let message = self.stream.message().await.map_err(|error| etcd.explain(&error))?;
        let message = message.ok_or_else(|| EtcdError::Watch("etcd closed it".to_owned()))?;
        if message.compact_revision() > 0 {
            let first = message.compact_revision();
            let missed =
                format!("what came after {} was compacted, up to {first}", contents.revision);
            return Err(EtcdError::Watch(missed));
        }
        if message.canceled() {
            return Err(EtcdError::Watch(message.cancel_reason().to_owned()));
        }
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let stored = (event.event_type() == EventType::Put).then(|| stored(kv));
            contents.set(&etcd.layout, kv.key(), kv.mod_revision(), stored);
        }
        if let Some(header) = message.header() {
            contents.revision = contents.revision.max(header.revision());
        }
        Ok(!message.events().is_empty())
    }

    /// Takes what belongs to the same burst as a change that was just heard of.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub(super) async fn rest_of_burst(
        &mut self,
        etcd: &Etcd,
        contents: &mut Contents,
    ) -> Result<(), EtcdError> {
        let end = Instant::now() + LONGEST_BURST;
        while let Ok(heard) =
            timeout_at(end.min(Instant::now() + SILENCE), self.next(etcd, contents)).await
        {
            heard?;
        }
        Ok(())
    }

    /// Takes all that comes within this time.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub(super) async fn gather(
        &mut self,
        etcd: &Etcd,
        contents: &mut Contents,
        time: Duration,
    ) -> Result<(), EtcdError> {
        let end = Instant::now() + time;
        while let Ok(heard) = timeout_at(end, self.next(etcd, contents)).await {
            heard?;
        }
        Ok(())
    }
}
