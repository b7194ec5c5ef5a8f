//! What a sync does to the kernel: the host's settings, the masquerade rules, the routes.

use std::time::Instant;

use kernel::Rtnl;
use tracing::{debug, info, warn};

use super::Reconciler;
use super::meter::place;
use crate::apply::apply;
use crate::claims::Judged;
use crate::difference::Change;
use crate::error::Error;
use crate::host::Situation;
use crate::masquerade::{Outcome, Scope};
use crate::observed::Observed;
use crate::source::Node;

/// How many changes were made.
pub(super) struct Made {
    /// Of those that were asked for, how many were tried now.
    pub(super) tried: usize,
    /// How many of these the kernel took.
    pub(super) succeeded: usize,
}

impl Reconciler {
    /// Exempts the ranges from masquerading, before there are routes to them. Returns whether
    /// routes to new ranges may be made, and what went wrong.
    pub(super) fn exempt(&mut self, judged: &[Judged]) -> (bool, Option<String>) {
        if !self.informed {
            // Nobody knows yet which Pods are ours: what the last daemon left is better.
            return (true, None);
        }
        let held = self.roster.held.iter().map(|held| &held.node);
        let nodes: Vec<&Node> = self.roster.listed.iter().chain(held).collect();
        let scope = Scope::new(&self.cluster_cidrs(), judged, &nodes);
        if self.in_place.as_ref() == Some(&scope) {
            return (true, None);
        }
        self.in_place = None;
        match self.masquerade.sync(&scope) {
            Outcome::InPlace { written } => {
                if written {
                    info!("wrote the masquerade rules");
                }
                self.in_place = Some(scope);
                (true, None)
            }
            Outcome::Stale(problem) => {
                let text = "the masquerade rules cannot be changed, new routes have to wait";
                (false, Some(format!("{text}: {problem}")))
            }
            Outcome::Absent(problem) => {
                (true, Some(format!("what leaves the cluster is not masqueraded: {problem}")))
            }
        }
    }

    /// Sets and checks the host's settings. Returns what went wrong.
    pub(super) fn settle_host(&mut self, judged: &[Judged], observed: &Observed) -> Vec<String> {
        self.host.keep(&Situation::of(judged, observed), observed)
    }

    /// Makes what changes may be made now. Returns whether there were any.
    pub(super) fn apply(
        &mut self,
        rtnl: &mut Rtnl,
        observed: &Observed,
        may_add: bool,
        now: Instant,
    ) -> Result<bool, Error> {
        let mut changes = self.difference(observed).changes;
        changes.retain(|change| may_add || !matches!(change, Change::Add(_)));
        Ok(self.make(rtnl, changes, now)?.tried > 0)
    }

    /// Whether what is changed was as it should be before: nothing is new of the source, nor of the
    /// links, whose going takes routes along.
    fn makes_repairs(&self) -> bool {
        self.announced && self.reasons.told.is_none() && !self.reasons.link
    }

    /// Makes those of the changes that are not tried too often, and for which nobody fights us.
    pub(super) fn make(
        &mut self,
        rtnl: &mut Rtnl,
        mut changes: Vec<Change>,
        now: Instant,
    ) -> Result<Made, Error> {
        let are_repairs = self.makes_repairs();
        changes.retain(|change| {
            let destination = change.route().destination;
            self.backoff.may_try(destination, now)
                && (!are_repairs || self.fights.may_repair(destination, now))
        });
        let (mut made, began) = ([0; 3], Instant::now());
        let answers = apply(rtnl, &changes)?;
        for (change, answer) in changes.iter().zip(answers) {
            let destination = change.route().destination;
            match answer {
                Ok(()) => {
                    debug!("made: {change:?}");
                    made[place(change)] += 1;
                    if are_repairs {
                        self.fights.repaired(destination);
                    }
                }
                Err(problem) => {
                    if self.backoff.failed(destination, problem.to_string(), now) {
                        warn!("{problem}; it is tried again");
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.count_changes(made, began);
        }
        if made != [0; 3] {
            info!("routes: {} added, {} replaced, {} removed", made[0], made[1], made[2]);
        }
        Ok(Made { tried: changes.len(), succeeded: made.iter().sum::<u64>() as usize })
    }
}
