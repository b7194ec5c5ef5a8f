//! The results, as they are written to a file and read again for the plot.

use std::fs;
use std::path::Path;
use std::thread;

use cbr0_tests::{LabError, Result};
use serde::{Deserialize, Serialize};

use crate::statistics::Summary;
use crate::subject::{Setting, Subject};

/// One run of the bench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of cbr0.
    pub(crate) version: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// How many CPUs there were.
    pub(crate) cpus: usize,
    /// The load of the machine in the minute before.
    pub(crate) load: String,
    /// How often each was called, at most.
    pub(crate) runs: usize,
    /// What was measured.
    pub(crate) subjects: Vec<SubjectRecord>,
}

/// Results of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectRecord {
    /// Its name.
    pub(crate) name: String,
    /// One line about it.
    pub(crate) about: String,
    /// What was timed.
    pub(crate) cases: Vec<CaseRecord>,
    /// What was counted.
    pub(crate) costs: Vec<Cost>,
}

/// Results of one comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CaseRecord {
    /// What was done, and under which circumstances.
    pub(crate) title: String,
    /// What the values are.
    pub(crate) unit: Unit,
    /// Grouped by what was measured.
    pub(crate) rows: Vec<Row>,
}

/// What one suite did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was measured, such as a verb.
    pub(crate) what: String,
    /// Of whom.
    pub(crate) suite: String,
    /// The values.
    pub(crate) summary: Summary,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Time.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Time.
    #[serde(rename = "µs")]
    Microseconds,
    /// Throughput.
    #[serde(rename = "Gbit/s")]
    GigabitsPerSecond,
    /// Throughput.
    #[serde(rename = "Mbit/s")]
    MegabitsPerSecond,
    /// Memory.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Each row names its own.
    #[serde(rename = "as named")]
    Named,
}

impl Unit {
    /// Those that a plot has, in its order.
    pub(crate) const ALL: [Unit; 4] =
        [Unit::Milliseconds, Unit::Microseconds, Unit::GigabitsPerSecond, Unit::MegabitsPerSecond];

    /// As it is written behind a number.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "µs",
            Unit::GigabitsPerSecond => "Gbit/s",
            Unit::MegabitsPerSecond => "Mbit/s",
            Unit::Mebibytes => "MiB",
            Unit::Named => "as named",
        }
    }
}

/// What a call costs whatever the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// What was done.
    pub(crate) title: String,
    /// The verb.
    pub(crate) verb: String,
    /// By whom.
    pub(crate) suite: String,
    /// Requests sent to the kernel by netlink; some carry several messages.
    pub(crate) requests: usize,
    /// System calls that name a file, but for executions.
    pub(crate) files: usize,
    /// System calls, all.
    pub(crate) syscalls: usize,
    /// Programs executed, the plugin itself among them.
    pub(crate) programs: usize,
    /// Peak of the resident memory, in KiB: the largest of the processes.
    pub(crate) memory: Option<u64>,
    /// Size of the plugin's binary, in bytes.
    pub(crate) binary: u64,
}

impl Record {
    /// No results yet.
    pub(crate) fn new(setting: &Setting) -> Self {
        Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: first_word("/proc/sys/kernel/osrelease"),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            load: first_word("/proc/loadavg"),
            runs: setting.runs,
            subjects: Vec::new(),
        }
    }

    /// Without the comparisons whose title has not these words in it.
    #[must_use]
    pub(crate) fn only(mut self, words: &str) -> Self {
        for subject in &mut self.subjects {
            subject.cases.retain(|case| case.title.contains(words));
        }
        self
    }

    /// As it is written to a file.
    pub(crate) fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| LabError::Wrong(format!("write the results: {error}")))?;
        Ok(text + "\n")
    }

    /// From such a file.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| LabError::Wrong(format!("no results of this bench: {error}")))
    }
}

impl SubjectRecord {
    /// No results yet.
    pub(crate) fn new(subject: &dyn Subject) -> Self {
        SubjectRecord {
            name: subject.name().to_owned(),
            about: subject.about().to_owned(),
            cases: Vec::new(),
            costs: Vec::new(),
        }
    }
}

impl CaseRecord {
    /// The median of what a suite did.
    pub(crate) fn median(&self, what: &str, suite: &str) -> Option<f64> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.what == what && row.suite == suite)?;
        Some(row.summary.median)
    }
}

fn first_word(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_chosen_by_words_of_their_titles() {
        let case = |title: &str| CaseRecord {
            title: title.to_owned(),
            unit: Unit::Milliseconds,
            rows: Vec::new(),
        };
        let subject = |name: &str, cases| SubjectRecord {
            name: name.to_owned(),
            about: String::new(),
            cases,
            costs: Vec::new(),
        };
        let record = Record {
            version: String::new(),
            kernel: String::new(),
            cpus: 1,
            load: String::new(),
            runs: 1,
            subjects: vec![
                subject("one", vec![case("one, alone"), case("one, twice")]),
                subject("two", vec![case("two, alone"), case("two, twice")]),
            ],
        };
        let titles = |record: &Record| {
            let cases = record.subjects.iter().flat_map(|subject| &subject.cases);
            cases.map(|case| case.title.clone()).collect::<Vec<_>>()
        };
        assert_eq!(titles(&record.clone().only("alone")), ["one, alone", "two, alone"]);
        assert_eq!(titles(&record.only("three")), [""; 0]);
    }
}
