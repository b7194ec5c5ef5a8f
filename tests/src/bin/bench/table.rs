//! The results as people read them.

use std::fmt::Write as _;

use crate::record::{CaseRecord, Cost, Record, Row};
use crate::suite::{FLOOR, OURS};

/// Where and how it was measured.
pub(crate) fn heading(record: &Record) -> String {
    let Record { version, kernel, cpus, load, runs, .. } = record;
    format!(
        "cbr0 {version} on Linux {kernel}, {cpus} CPUs, load {load}; at most {runs} turns each, \
         interleaved.\n\"/ floor\" and \"/ cbr0\" are medians as multiples of the floor's and of cbr0's.\n"
    )
}

/// One comparison.
pub(crate) fn case(subject: &str, case: &CaseRecord) -> String {
    let mut lines = vec![words(&["", "by", "n", "lowest", "median", "p99", "/ floor", "/ cbr0"])];
    let mut last = "";
    for row in &case.rows {
        let what = if row.what == last { "" } else { &row.what };
        last = &row.what;
        lines.push(line(what, row, case));
    }
    format!("\n{subject}: {} ({})\n{}", case.title, case.unit.symbol(), aligned(&lines, 2))
}

fn line(what: &str, row: &Row, case: &CaseRecord) -> Vec<String> {
    let summary = &row.summary;
    let of = |suite: &str| match case.median(&row.what, suite) {
        Some(median) if median > 0.0 => format!("{:.2}", summary.median / median),
        _ => "-".to_owned(),
    };
    vec![
        what.to_owned(),
        row.suite.clone(),
        summary.count.to_string(),
        number(summary.lowest),
        number(summary.median),
        number(summary.p99),
        of(FLOOR),
        of(OURS),
    ]
}

/// What was counted.
pub(crate) fn costs(subject: &str, costs: &[Cost]) -> String {
    if costs.is_empty() {
        return String::new();
    }
    let heading =
        ["", "verb", "by", "requests", "files", "syscalls", "programs", "peak KiB", "binary KiB"];
    let mut lines = vec![words(&heading)];
    let mut last = "";
    for cost in costs {
        let title = if cost.title == last { "" } else { &cost.title };
        last = &cost.title;
        let counts = [cost.requests, cost.files, cost.syscalls, cost.programs];
        let mut line = words(&[title, &cost.verb, &cost.suite]);
        line.extend(counts.map(|count| count.to_string()));
        line.push(cost.memory.map_or_else(|| "-".to_owned(), |memory| memory.to_string()));
        line.push(cost.binary.div_ceil(1024).to_string());
        lines.push(line);
    }
    format!("\n{subject}: what a call costs\n{}", aligned(&lines, 3))
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// As wide as the widest cell of each column asks for; the first `texts` columns are text, and all
/// others numbers.
fn aligned(lines: &[Vec<String>], texts: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let cell = |line: &Vec<String>, column: usize| line.get(column).cloned().unwrap_or_default();
    let widest =
        |column| lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for line in lines {
        let cells = widths.iter().enumerate().map(|(column, &width)| {
            let cell = cell(line, column);
            if column < texts { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Unit;
    use crate::statistics::Summary;

    #[test]
    fn a_case_shows_ratios_of_medians() {
        let row = |suite: &str, median| Row {
            what: "ADD".to_owned(),
            suite: suite.to_owned(),
            summary: Summary { count: 5, lowest: 0.5, median, p99: 123.4 },
        };
        let rows = vec![row(FLOOR, 1.0), row(OURS, 1.3), row("other", 13.0)];
        let table =
            case("bridge", &CaseRecord { title: "plain".into(), unit: Unit::Milliseconds, rows });
        let expected = "
bridge: plain (ms)
       by     n  lowest  median  p99  / floor  / cbr0
  ADD  floor  5    0.50    1.00  123     1.00    0.77
       cbr0   5    0.50    1.30  123     1.30    1.00
       other  5    0.50    13.0  123    13.00   10.00
";
        assert_eq!(table, expected);
    }
}
