//! What is counted of a sync, and what it hands out to those who ask.

use std::time::Instant;

use super::Reconciler;
use crate::difference::Change;
use crate::serve::meters::{Cause, Meters};
use crate::serve::snapshot::{Snapshot, Snapshots};

/// Why there is a sync: what has happened since the last one.
#[derive(Default)]
pub(super) struct Reasons {
    /// When the source told something new.
    pub(super) told: Option<Instant>,
    /// Whether a link or an address changed.
    pub(super) link: bool,
    /// Whether it was time for a reading.
    pub(super) periodic: bool,
}

impl Reconciler {
    /// What is counted.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Where the state after each sync is handed out.
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.subscribe()
    }

    /// Counts changes that were made, of which this many were each kind: added, replaced, removed.
    pub(super) fn count_changes(&self, made: [u64; 3], began: Instant) {
        self.meters.applied(began.elapsed());
        // Without anything new of the source, and after the first sync, they are repairs.
        if self.reasons.told.is_some() || !self.announced {
            return;
        }
        let [added, replaced, removed] = made;
        let lost = match &self.reasons {
            Reasons { link: true, .. } => Cause::Link,
            Reasons { periodic: true, .. } => Cause::Periodic,
            _ => Cause::Deleted,
        };
        self.meters.repaired(lost, added);
        self.meters.repaired(Cause::Replaced, replaced + removed);
    }

    /// Ends a sync: hands out the state, and forgets the reasons.
    pub(super) fn hand_out(&mut self) {
        let reasons = std::mem::take(&mut self.reasons);
        if let Some(told) = reasons.told {
            self.meters.caught_up(told.elapsed());
        }
        let snapshot = Snapshot {
            synced: self.announced,
            listed: self.listed,
            source_broken: self.source_error.as_ref().map(|trouble| trouble.at),
            report: self.said.clone(),
            fought: self.fights.destinations().collect(),
        };
        self.snapshots.send_if_modified(|last| {
            let is_news = *last != snapshot;
            *last = snapshot;
            is_news
        });
    }
}

/// The place of a change among those counted.
pub(super) fn place(change: &Change) -> usize {
    match change {
        Change::Add(_) => 0,
        Change::Replace(_) => 1,
        Change::Delete(_) => 2,
    }
}
