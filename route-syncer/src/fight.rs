//! Fights: somebody removes or changes our route to a destination again and again, and we put it
//! back each time. At first that is right. Who goes on is no accident, and cannot be won against by
//! being faster: the repairs become slow, and people are told.
//!
//! What counts is how often a destination was repaired, each for itself. Where many were repaired at
//! once, as after a flush, nobody fights over each of them. The clock is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use crate::backoff::Retry;

/// So many repairs within [`WINDOW`] are made at once; with the next one it is a fight.
const PATIENCE: usize = 5;
/// Repairs count for so long. A route that was left alone for so long is at peace.
const WINDOW: Duration = Duration::from_secs(60);
/// When more were repaired in one round, something has happened to all of them.
const MANY: usize = 64;
/// How long stragglers of that may still come.
const CALM: Duration = Duration::from_secs(1);

/// The destinations that were repaired of late.
#[derive(Debug, Default)]
pub struct Fights {
    rounds: BTreeMap<IpNetwork, Rounds>,
    /// What was repaired in this round, be it more than once.
    repaired: BTreeSet<IpNetwork>,
    /// When many were repaired at once.
    flooded: Option<Instant>,
}

/// The repairs of one destination.
#[derive(Debug, Default)]
struct Rounds {
    /// When the last ones were made, the oldest first; never empty once noted.
    made: VecDeque<Instant>,
    /// When the next one may be made; none if there is no fight.
    hold: Option<Retry>,
    /// Whether a repair is held back now.
    is_waiting: bool,
    /// Who else made a route there of late (`RTPROT_*`).
    rival: Option<u8>,
}

impl Fights {
    /// Whether the destination may be repaired now. If not, it is [`due`](Self::due) later.
    pub fn may_repair(&mut self, destination: IpNetwork, now: Instant) -> bool {
        let Some(rounds) = self.rounds.get_mut(&destination) else { return true };
        rounds.is_waiting = rounds.hold.is_some_and(|hold| hold.due() > now);
        !rounds.is_waiting
    }

    /// Notes a repair.
    pub fn repaired(&mut self, destination: IpNetwork) {
        self.repaired.insert(destination);
    }

    /// Ends a round, and counts what was repaired in it.
    pub fn end(&mut self, now: Instant) {
        let repaired = std::mem::take(&mut self.repaired);
        if repaired.len() > MANY {
            self.flooded = Some(now);
        }
        if self.flooded.is_some_and(|at| now.saturating_duration_since(at) < CALM) {
            return;
        }
        for destination in repaired {
            self.rounds.entry(destination).or_default().count(now);
        }
    }

    /// Notes that somebody else made a route to the destination.
    pub fn met(&mut self, destination: IpNetwork, protocol: u8) {
        if let Some(rounds) = self.rounds.get_mut(&destination) {
            rounds.rival = Some(protocol);
        }
    }

    /// Begins a look at all: forgets what is over, and which repairs are held back: those that still are needed are asked
    /// about anew.
    pub fn begin(&mut self, now: Instant) {
        self.rounds.retain(|_, rounds| !rounds.is_over(now));
        self.rounds.values_mut().for_each(|rounds| rounds.is_waiting = false);
    }

    /// When the next repair that is held back may be made.
    pub fn due(&self) -> Option<Instant> {
        let waiting = self.rounds.values().filter(|rounds| rounds.is_waiting);
        waiting.filter_map(|rounds| rounds.hold).map(|hold| hold.due()).min()
    }

    /// The destinations that are fought over.
    pub fn destinations(&self) -> impl Iterator<Item = IpNetwork> {
        self.fought().map(|(destination, _)| destination)
    }

    /// The fights in words, for people.
    pub fn words(&self) -> impl Iterator<Item = String> {
        self.fought().map(|(destination, rounds)| {
            let who = match rounds.rival {
                Some(protocol) => format!(
                    "whose routes are of protocol {protocol} (`ip monitor route` shows them)"
                ),
                None => "who is not known (`ip monitor route` shows when)".to_owned(),
            };
            format!(
                "the route to {destination} is fought over: it was repaired more than {PATIENCE} \
                 times within {} s and is now repaired less and less often; stop the one who \
                 removes or changes it, {who}",
                WINDOW.as_secs()
            )
        })
    }

    fn fought(&self) -> impl Iterator<Item = (IpNetwork, &Rounds)> {
        let fought = self.rounds.iter().filter(|(_, rounds)| rounds.hold.is_some());
        fought.map(|(&destination, rounds)| (destination, rounds))
    }
}

impl Rounds {
    fn count(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self::default();
        }
        self.made.push_back(now);
        if self.made.len() > PATIENCE + 1 {
            self.made.pop_front();
        }
        self.is_waiting = false;
        if self.hold.is_some() || self.are_many(now) {
            self.hold = Some(Retry::after(self.hold, now));
        }
    }

    /// Whether the last repair has held for long enough.
    fn is_over(&self, now: Instant) -> bool {
        let long_ago = |last: &Instant| now.saturating_duration_since(*last) >= WINDOW;
        !self.is_waiting && self.made.back().is_some_and(long_ago)
    }

    /// Whether more were made within the window than is patient.
    fn are_many(&self, now: Instant) -> bool {
        let recent = |at: &&Instant| now.saturating_duration_since(**at) < WINDOW;
        self.made.iter().filter(recent).count() > PATIENCE
    }
}

#[cfg(test)]
#[path = "fight_tests.rs"]
mod tests;
