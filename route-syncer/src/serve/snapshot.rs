//! What the reconciler hands out after each sync, so that nobody who asks has to ask the kernel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use tokio::sync::watch;

use crate::status::{Report, Row, State};

/// The state of the daemon after its last sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the first sync is done: it is known what the routes should be.
    pub synced: bool,
    /// Whether the source has told a complete list in this life.
    pub listed: bool,
    /// Since when the source cannot be read; none if it can.
    pub source_broken: Option<Instant>,
    /// What `status` shows; none before the first sync.
    pub report: Option<Arc<Report>>,
    /// The destinations whose routes somebody removes or changes again and again.
    pub fought: Vec<IpNetwork>,
}

/// Where the latest snapshot is.
pub type Snapshots = watch::Receiver<Snapshot>;

/// Routes of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many there should be.
    pub desired: i64,
    /// How many there are of these.
    pub installed: i64,
    /// How many of these are in conflict with somebody else's.
    pub conflicts: i64,
}

impl Snapshot {
    /// Why the node is not ready: its routes are not there, as far as that is known. None if they
    /// are. A source that is away is no reason: what it told last stays.
    pub fn unready(&self) -> Option<String> {
        if !self.synced {
            return Some("the first sync is not done".to_owned());
        }
        let lacking = |row: &&Row| matches!(row.state, State::Missing | State::Conflict);
        let words: Vec<String> = self.rows().filter(lacking).map(Row::words).collect();
        (!words.is_empty()).then(|| words.join("\n"))
    }

    /// The routes of a family.
    pub fn count(&self, ipv6: bool) -> Count {
        let mut count = Count::default();
        for row in self.rows().filter(|row| row.pod_cidr.contains(':') == ipv6) {
            let (desired, installed) = match row.state {
                State::Ok | State::Held => (true, true),
                State::Missing | State::Conflict => (true, false),
                State::Own => (row.unreachable, row.unreachable),
                State::OffLink | State::Refused => (false, false),
            };
            count.desired += i64::from(desired);
            count.installed += i64::from(installed);
            count.conflicts += i64::from(row.state == State::Conflict);
        }
        count
    }

    /// How many claims are in this state.
    pub fn claims(&self, state: State) -> i64 {
        self.rows().filter(|row| row.state == state).count() as i64
    }

    /// How many nodes are held.
    pub fn held_nodes(&self) -> i64 {
        let held = self.rows().filter(|row| row.held_since.is_some());
        held.map(|row| row.node.as_str()).collect::<std::collections::BTreeSet<_>>().len() as i64
    }

    /// How many claims are refused, by the reason.
    pub fn refused(&self) -> BTreeMap<&str, i64> {
        let mut refused = BTreeMap::new();
        for reason in self.rows().filter_map(|row| row.reason.as_deref()) {
            *refused.entry(reason).or_default() += 1;
        }
        refused
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.report.iter().flat_map(|report| &report.routes)
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
