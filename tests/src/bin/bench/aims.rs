//! What the results mean for what the project aims at, in a few lines. Nothing is judged: a busy
//! machine says little about it.

mod chained;
mod routes;

use std::fmt::Write as _;

use crate::record::{CaseRecord, Record};
use crate::suite::{FLOOR, OURS, REFERENCE};

/// A ratio of medians, which should be at most, or at least, something.
struct Aim {
    what: &'static str,
    /// How the case's title ends, and what was done in it.
    case: (&'static str, &'static str),
    /// Whose median, and by whose it is divided.
    ratio: (&'static str, &'static str),
    aim: &'static str,
}

const AIMS: [Aim; 8] = [
    Aim {
        what: "ADD",
        case: ("bridge + host-local, alone", "ADD"),
        ratio: (OURS, FLOOR),
        aim: "<= 1.3",
    },
    Aim {
        what: "ADD",
        case: ("bridge + host-local, alone", "ADD"),
        ratio: (REFERENCE, OURS),
        aim: ">= 6",
    },
    Aim {
        what: "ADD with ipMasq",
        case: ("bridge + host-local, ipMasq", "ADD"),
        ratio: (REFERENCE, OURS),
        aim: ">= 15",
    },
    Aim {
        what: "ADD in dual stack",
        case: ("bridge + host-local, dual stack", "ADD"),
        ratio: (OURS, FLOOR),
        aim: "<= 1.3",
    },
    Aim {
        what: "DEL",
        case: ("bridge + host-local, alone", "DEL"),
        ratio: (REFERENCE, OURS),
        aim: ">= 8",
    },
    Aim {
        what: "32 ADDs at once",
        case: ("32 at once", "ADD"),
        ratio: (OURS, FLOOR),
        aim: "<= 1.3",
    },
    Aim {
        what: "32 ADDs at once",
        case: ("32 at once", "ADD"),
        ratio: (REFERENCE, OURS),
        aim: ">= 5",
    },
    Aim {
        what: "ADD of ptp",
        case: ("ptp + host-local, alone", "ADD"),
        ratio: (OURS, FLOOR),
        aim: "<= 1.3",
    },
];

/// Those that can be told from these results, a line each.
pub(crate) fn aims(record: &Record) -> String {
    let mut text = String::new();
    for Aim { what, case, ratio: (whose, by), aim } in AIMS {
        if let Some(ratio) = ratio(record, case, whose, by) {
            let _ = writeln!(text, "  {what}: {whose} / {by}: {ratio:.2} (aim: {aim})");
        }
    }
    text.extend(growth(record).into_iter().chain(largest(record)));
    text += &chained::lines(record);
    text += &routes::lines(record);
    cases(record).for_each(|case| text.extend(spread(case)));
    if text.is_empty() { text } else { format!("\nThe aims\n{text}") }
}

fn cases(record: &Record) -> impl Iterator<Item = &CaseRecord> {
    record.subjects.iter().flat_map(|subject| &subject.cases)
}

fn median(record: &Record, (title, what): (&str, &str), suite: &str) -> Option<f64> {
    cases(record).find(|case| case.title.ends_with(title))?.median(what, suite)
}

fn ratio(record: &Record, case: (&str, &str), whose: &str, by: &str) -> Option<f64> {
    Some(median(record, case, whose)? / median(record, case, by)?)
}

/// How much longer an ADD takes with many Pods on the node, beyond what the floor does.
fn growth(record: &Record) -> Option<String> {
    let beyond_floor = |title| ratio(record, (title, "ADD"), OURS, FLOOR);
    let grown =
        beyond_floor("1000 Pods on the node")? / beyond_floor("bridge + host-local, alone")?;
    Some(format!(
        "  ADD with 1000 Pods on the node, beyond the floor's growth: {grown:.2} (aim: <= 1.2)\n"
    ))
}

fn largest(record: &Record) -> Option<String> {
    let costs = record.subjects.iter().flat_map(|subject| &subject.costs);
    let own: Vec<_> = costs.filter(|cost| cost.suite == OURS).collect();
    let binary = own.iter().map(|cost| cost.binary).max()?;
    let memory = own.iter().filter_map(|cost| cost.memory).max()?;
    Some(format!(
        "  largest binary measured: {binary} bytes (aim: <= 1000000); peak of memory: {memory} KiB (aim: <= 4000)\n"
    ))
}

/// How far cbr0's data path is from one made by hand, beside how far two of those are apart.
fn spread(case: &CaseRecord) -> Option<String> {
    let what = &case.rows.first()?.what;
    let of = |suite| case.median(what, suite);
    let (own, by_hand, again) = (of(OURS)?, of("by hand")?, of("by hand again")?);
    let percent = |value: f64| 100.0 * (value / by_hand - 1.0);
    Some(format!(
        "  {}: cbr0 {:+.1} %, by hand again {:+.1} % (aim: within it)\n",
        case.title,
        percent(own),
        percent(again)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Row, SubjectRecord, Unit};
    use crate::statistics::Summary;

    pub(in crate::aims) fn case(title: &str, medians: &[(&str, f64)]) -> CaseRecord {
        let row = |(suite, median): &(&str, f64)| Row {
            what: "ADD".to_owned(),
            suite: (*suite).to_owned(),
            summary: Summary { count: 1, lowest: *median, median: *median, p99: *median },
        };
        let rows = medians.iter().map(row).collect();
        CaseRecord { title: title.to_owned(), unit: Unit::Milliseconds, rows }
    }

    pub(in crate::aims) fn record(cases: Vec<CaseRecord>) -> Record {
        let subject =
            SubjectRecord { name: String::new(), about: String::new(), cases, costs: vec![] };
        Record {
            version: String::new(),
            kernel: String::new(),
            cpus: 1,
            load: String::new(),
            runs: 1,
            subjects: vec![subject],
        }
    }

    #[test]
    fn ratios_are_of_medians_and_growth_is_beyond_the_floors() {
        let cases = vec![
            case("bridge + host-local, alone", &[(FLOOR, 2.0), (OURS, 2.2), (REFERENCE, 22.0)]),
            case("bridge + host-local, 1000 Pods on the node", &[(FLOOR, 4.0), (OURS, 6.6)]),
            case("TCP", &[(OURS, 9.0), ("by hand", 10.0), ("by hand again", 9.5)]),
        ];
        let text = aims(&record(cases));
        for words in [
            "ADD: cbr0 / floor: 1.10 (aim: <= 1.3)",
            "ADD: reference / cbr0: 10.00",
            "beyond the floor's growth: 1.50",
            "TCP: cbr0 -10.0 %, by hand again -5.0 %",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
