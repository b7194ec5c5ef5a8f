//! Measuring a case: the lanes take turns.

use std::time::{Duration, Instant};

use cbr0_tests::Result;

use crate::progress::Progress;
use crate::record::{CaseRecord, Row};
use crate::removal;
use crate::statistics::Summary;
use crate::subject::{Case, Lane, Sample};
use crate::watch::{self, Watch};

/// A lane whose turn takes longer than this has fewer of them, so that it does not take more time
/// than the turns of this length would.
const LONG_TURN: Duration = Duration::from_millis(100);
/// But no fewer than these, unless fewer were asked for.
const FEW: usize = 10;

/// Measures a case from its preparation to its end.
///
/// # Errors
/// The first of a lane's.
pub(crate) fn measure(subject: &str, case: Case, runs: usize) -> Result<CaseRecord> {
    let mut progress = Progress::begin(format!("{subject}: {}", case.title));
    progress.say("preparing");
    let title = format!("{subject}: {}", case.title);
    let prepared = {
        let _watch = Watch::over(format!("{title}: preparing"), watch::PREPARATION);
        (case.prepare)()?
    };
    let mut lanes = Vec::new();
    for lane in prepared {
        lanes.push(Measured::warm_up(&title, lane, runs)?);
    }
    let count = lanes.len();
    for round in 0..runs {
        progress.say(&format!("round {} of {runs}", round + 1));
        // Who comes after whom changes, since the one before may have left the kernel work.
        for place in 0..count {
            let lane = (round + place) % count;
            lanes[lane].turn(round, runs)?;
        }
    }
    progress.say("removing");
    let rows = rows(&lanes);
    drop(lanes);
    removal::wait()?;
    progress.end();
    Ok(CaseRecord { title: case.title, unit: case.unit, rows })
}

/// Measures a case by one turn of each lane, which comes without any to warm up.
///
/// # Errors
/// The first of a lane's.
pub(crate) fn measure_once(subject: &str, case: Case) -> Result<CaseRecord> {
    let title = format!("{subject}: {}", case.title);
    let mut progress = Progress::begin(title.clone());
    progress.say("one turn");
    let mut lanes = Vec::new();
    {
        let _watch = Watch::over(title, watch::LONG_TURN);
        for mut lane in (case.prepare)()? {
            let taken = vec![(lane.turn)()?];
            lanes.push(Measured { name: String::new(), lane, turns: 1, taken });
        }
    }
    let rows = rows(&lanes);
    drop(lanes);
    removal::wait()?;
    progress.end();
    Ok(CaseRecord { title: case.title, unit: case.unit, rows })
}

/// A lane, and what its turns gave.
struct Measured {
    /// What it is called where it hangs.
    name: String,
    lane: Lane,
    /// How many turns it gets.
    turns: usize,
    taken: Vec<Vec<Sample>>,
}

impl Measured {
    /// The first turn makes what all share, and its results are nobody's; the second tells how long
    /// a turn is.
    fn warm_up(title: &str, lane: Lane, runs: usize) -> Result<Measured> {
        let name = format!("{title}: a turn of {}", lane.suite);
        let mut measured = Measured { name, lane, turns: 0, taken: Vec::new() };
        measured.take()?;
        let begun = Instant::now();
        measured.take()?;
        measured.turns = turns(begun.elapsed(), runs);
        Ok(measured)
    }

    /// Takes its turn, if it has one in this round: they are spread evenly.
    fn turn(&mut self, round: usize, rounds: usize) -> Result<()> {
        if round * self.turns / rounds < (round + 1) * self.turns / rounds {
            let samples = self.take()?;
            self.taken.push(samples);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<Sample>> {
        let _watch = Watch::over(self.name.clone(), watch::TURN);
        (self.lane.turn)()
    }

    fn values(&self, what: &str) -> Vec<f64> {
        let samples = self.taken.iter().flatten().filter(|sample| sample.what == what);
        samples.map(|sample| sample.value).collect()
    }
}

fn turns(length: Duration, runs: usize) -> usize {
    let share = LONG_TURN.as_secs_f64() / length.as_secs_f64().max(f64::MIN_POSITIVE);
    let affordable = (runs as f64 * share.min(1.0)) as usize;
    affordable.max(FEW).min(runs)
}

/// What was measured comes in the order in which a lane names it, and there the lanes in theirs.
fn rows(lanes: &[Measured]) -> Vec<Row> {
    let mut whats: Vec<&'static str> = Vec::new();
    for sample in lanes.iter().filter_map(|lane| lane.taken.first()).flatten() {
        if !whats.contains(&sample.what) {
            whats.push(sample.what);
        }
    }
    let row = |what: &'static str, lane: &Measured| {
        let summary = Summary::of(&lane.values(what))?;
        Some(Row { what: what.to_owned(), suite: lane.lane.suite.clone(), summary })
    };
    let row = &row;
    whats.iter().flat_map(|what| lanes.iter().filter_map(move |lane| row(what, lane))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_is_taken_less_often() {
        assert_eq!(turns(Duration::from_millis(3), 200), 200);
        assert_eq!(turns(Duration::from_millis(400), 200), 50);
        assert_eq!(turns(Duration::from_secs(60), 200), FEW);
        assert_eq!(turns(Duration::from_secs(60), 3), 3);
    }

    #[test]
    fn turns_are_spread_and_of_their_number() -> Result<()> {
        let lane = || Lane { suite: String::new(), turn: Box::new(|| Ok(Vec::new())) };
        for turns in 1..=7 {
            let mut measured =
                Measured { name: String::new(), lane: lane(), turns, taken: Vec::new() };
            (0..7).try_for_each(|round| measured.turn(round, 7))?;
            assert_eq!(measured.taken.len(), turns);
        }
        Ok(())
    }
}
