//! How a sync went, for people: what is new to the log, everything to the status file.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::Reconciler;
use crate::difference::Difference;
use crate::error::Error;
use crate::status::{RangeRow, Report, Row, State, range_rows};

impl Reconciler {
    /// Says what is new to the log, and everything to the status file.
    pub(super) fn say(
        &mut self,
        mut problems: Vec<String>,
        routes: Vec<Row>,
        left: &Difference,
    ) -> Result<(), Error> {
        problems.extend(self.told.problems.iter().cloned());
        problems.extend(self.fights.words());
        let report = Report {
            node: self.settings.node.clone(),
            protocol: self.settings.protocol,
            source_error: self.source_error.as_ref().map(|trouble| trouble.words.clone()),
            source_error_since: self.source_error.as_ref().map(|trouble| trouble.since.clone()),
            notes: self.notes(),
            problems,
            routes,
            host_settings: self.host.settings().to_vec(),
            conflist: self.settings.conflist.clone(),
            unreachable: range_rows(&self.desired, left, &self.backoff),
        };
        for (destination, foreign) in left.shadowed.difference(&self.said_shadowed) {
            info!(
                "a route of protocol {} to {destination} stands by with metric {}: ours is used",
                foreign.protocol, foreign.metric
            );
        }
        self.said_shadowed.clone_from(&left.shadowed);
        if self.said.as_deref() != Some(&report) {
            let text = serde_json::to_string_pretty(&report).map_err(Error::Render)?;
            self.run_dir.write_status(&(text + "\n"))?;
            log_news(self.said.as_deref(), &report);
            self.said = Some(Arc::new(report));
        }
        Ok(())
    }

    /// What the source says, and which ranges of the cluster are left alone.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.told.notes.clone();
        notes.extend(self.desired.obstacles.iter().map(|(range, obstacle)| {
            format!("{range}, the cluster's, is not made unreachable for unknown nodes: {obstacle}")
        }));
        notes
    }
}

fn log_news(before: Option<&Report>, now: &Report) {
    let is_new = |problem: &&String| !before.is_some_and(|old| old.problems.contains(problem));
    for problem in now.problems.iter().filter(is_new) {
        error!("{problem}");
    }
    let said: HashSet<_> = before.iter().flat_map(|report| &report.routes).map(gist).collect();
    let said_of_ranges: HashSet<_> =
        before.iter().flat_map(|report| &report.unreachable).map(RangeRow::words).collect();
    let is_new = |row: &&RangeRow| !row.state.is_ok() && !said_of_ranges.contains(&row.words());
    for row in now.unreachable.iter().filter(is_new) {
        warn!("{}", row.words());
    }
    for row in now.routes.iter().filter(|row| !said.contains(&gist(row))) {
        if row.state.is_ok() {
            debug!("{}", row.words());
        } else {
            warn!("{}", row.words());
        }
    }
}

/// What the words of a row are made of. Of thousands of rows few are new, and only those need words.
fn gist(row: &Row) -> (&str, &str, State, &str, Option<&str>) {
    let Row { pod_cidr, node, state, detail, held_since, .. } = row;
    (pod_cidr, node, *state, detail, held_since.as_deref())
}
