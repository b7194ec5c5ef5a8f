//! Hearing of changes in etcd, from the revision of the reading on.

use etcd_client::{EventType, WatchOptions, WatchStream};

use super::client::{Etcd, EtcdError, stored};
use super::contents::Contents;

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
            contents.set(&etcd.layout, kv.key(), stored);
        }
        if let Some(header) = message.header() {
            contents.revision = contents.revision.max(header.revision());
        }
        Ok(!message.events().is_empty())
    }
}
