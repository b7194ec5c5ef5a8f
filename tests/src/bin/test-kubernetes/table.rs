//! What was tried, and how it ended.

use std::fmt;
use std::time::Duration;

/// How one thing ended.
pub(crate) enum End {
    Passed,
    Failed,
    /// Not tried, for this reason.
    Skipped(String),
}

/// One thing that was tried.
struct Row {
    scenario: u8,
    what: String,
    end: End,
    took: Duration,
}

/// Everything that was tried, in its order.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, scenario: u8, what: &str, end: End, took: Duration) {
        self.0.push(Row { scenario, what: what.to_owned(), end, took });
    }

    /// Whether nothing failed.
    pub(crate) fn holds(&self) -> bool {
        !self.0.iter().any(|row| matches!(row.end, End::Failed))
    }
}

/// In the format of Markdown.
impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "| scenario | what | | seconds |\n| --- | --- | --- | --- |")?;
        for Row { scenario, what, end, took } in &self.0 {
            let end = match end {
                End::Passed => "pass".to_owned(),
                End::Failed => "**fail**".to_owned(),
                End::Skipped(why) => format!("skipped: {why}"),
            };
            writeln!(out, "| {scenario} | {what} | {end} | {:.1} |", took.as_secs_f64())?;
        }
        let count = |wanted: fn(&End) -> bool| self.0.iter().filter(|row| wanted(&row.end)).count();
        write!(
            out,
            "\n{} passed, {} failed, {} skipped",
            count(|end| matches!(end, End::Passed)),
            count(|end| matches!(end, End::Failed)),
            count(|end| matches!(end, End::Skipped(_)))
        )
    }
}
