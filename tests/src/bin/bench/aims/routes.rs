//! Those of the route syncer.

use std::fmt::Write as _;

use super::cases;
use crate::record::{CaseRecord, Record, Row};
use crate::routes::{cluster, fleet, long, many};
use crate::suite::{FLOOR, OURS};

/// What is told of one measurement of ours.
type Told = fn(&CaseRecord, &str) -> Option<f64>;

/// How a case's title begins, what was measured, what of it is told, and the aim.
const AIMS: [(&str, &str, (&str, Told), &str); 10] = [
    (fleet::JOINS, cluster::JOIN, ("ms (p99)", p99), "< 100"),
    (many::FIRST_SYNC, many::DONE, ("x the floor", ratio), "<= 1.5"),
    (many::RESTART, many::READY, ("ms (p99)", p99), "< 300"),
    (many::RESTART, many::WRITTEN, ("(median)", median), "0"),
    (many::ONE_DELETED, many::DONE, ("ms (p99)", p99), "< 20"),
    (many::FLUSHED, many::DONE, ("x the floor", ratio), "<= 1.5"),
    (long::IDLE, long::WAKES, ("in all", median), "keepalives and safety readings alone"),
    (long::MEMORY_FEW, long::RESIDENT, ("MiB", median), "< 20"),
    (long::MEMORY_MANY, long::RESIDENT, ("MiB", median), "< 30"),
    (long::MEMORY_MOST, long::RESIDENT, ("MiB", median), "< 40"),
];

/// A line each.
pub(super) fn lines(record: &Record) -> String {
    let mut text = String::new();
    for (title, what, (unit, told), aim) in AIMS {
        for case in cases(record).filter(|case| case.title.starts_with(title)) {
            if let Some(value) = told(case, what) {
                let title = &case.title;
                let _ = writeln!(text, "  {title}: {what}: {value:.2} {unit} (aim: {aim})");
            }
        }
    }
    text
}

fn ours<'a>(case: &'a CaseRecord, what: &str) -> Option<&'a Row> {
    case.rows.iter().find(|row| row.what == what && row.suite == OURS)
}

fn p99(case: &CaseRecord, what: &str) -> Option<f64> {
    ours(case, what).map(|row| row.summary.p99)
}

fn median(case: &CaseRecord, what: &str) -> Option<f64> {
    case.median(what, OURS)
}

fn ratio(case: &CaseRecord, what: &str) -> Option<f64> {
    Some(median(case, what)? / case.median(what, FLOOR)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aims::tests::{case, record};

    #[test]
    fn each_aim_is_told_as_it_was_set() {
        let named = |title: &str, what: &str, medians: &[(&str, f64)]| {
            let mut case = case(title, medians);
            case.rows.iter_mut().for_each(|row| row.what = what.to_owned());
            case
        };
        let text = lines(&record(vec![
            named("a node joins and leaves: 49 others", "join", &[(FLOOR, 5.0), (OURS, 40.0)]),
            named("first sync of 5000 claims", "done", &[(FLOOR, 500.0), (OURS, 600.0)]),
            named("memory with 50 claims", "resident", &[(OURS, 4.5)]),
            named("memory with 5000 claims", "resident", &[(OURS, 14.5)]),
        ]));
        let expected = "  a node joins and leaves: 49 others: join: 40.00 ms (p99) (aim: < 100)
  first sync of 5000 claims: done: 1.20 x the floor (aim: <= 1.5)
  memory with 50 claims: resident: 4.50 MiB (aim: < 20)
  memory with 5000 claims: resident: 14.50 MiB (aim: < 30)
";
        assert_eq!(text, expected);
    }
}
