//! The plot: a line for each thing measured, and on it a dot for each of those compared, at its
//! median, on a logarithmic axis. Plain SVG.

use std::fmt::Write as _;

use crate::record::{CaseRecord, Record, Row, Unit};

const WIDTH: f64 = 860.0;
/// What stands left of the axes, and right of them.
const LABELS: f64 = 330.0;
const MARGIN: f64 = 20.0;
const LINE: f64 = 22.0;
const COLOURS: [&str; 6] = ["#7f7f7f", "#d62728", "#1f77b4", "#17becf", "#9467bd", "#8c564b"];

/// All results of a record.
pub(crate) fn svg(record: &Record) -> String {
    let lines = lines(record);
    let suites = suites(&lines);
    let mut plot = Plot { svg: String::new(), y: MARGIN, suites };
    plot.legend();
    for unit in Unit::ALL {
        let block: Vec<_> = lines.iter().filter(|line| line.unit == unit).collect();
        plot.block(&block, unit);
    }
    let Record { version, kernel, cpus, runs, .. } = record;
    plot.text(
        MARGIN,
        &format!(
            "cbr0 {version}, Linux {kernel}, {cpus} CPUs; medians of at most {runs} interleaved runs"
        ),
        "start",
    );
    plot.finish()
}

/// One thing measured, and the medians of those compared.
struct Line<'a> {
    label: String,
    unit: Unit,
    rows: Vec<&'a Row>,
}

fn lines(record: &Record) -> Vec<Line<'_>> {
    let of_case = |case: &'_ CaseRecord| {
        let mut whats: Vec<&str> = case.rows.iter().map(|row| row.what.as_str()).collect();
        whats.dedup();
        whats.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let cases = record.subjects.iter().flat_map(|subject| &subject.cases);
    cases
        .flat_map(|case| {
            of_case(case).into_iter().map(move |what| Line {
                label: format!("{}: {what}", case.title),
                unit: case.unit,
                rows: case.rows.iter().filter(|row| row.what == what).collect(),
            })
        })
        .collect()
}

/// In the order in which they appear.
fn suites<'a>(lines: &[Line<'a>]) -> Vec<&'a str> {
    let mut suites = Vec::new();
    for row in lines.iter().flat_map(|line| &line.rows) {
        if !suites.contains(&row.suite.as_str()) {
            suites.push(row.suite.as_str());
        }
    }
    suites
}

struct Plot<'a> {
    svg: String,
    /// How far down it has come.
    y: f64,
    suites: Vec<&'a str>,
}

impl Plot<'_> {
    fn legend(&mut self) {
        let mut x = MARGIN;
        for suite in self.suites.clone() {
            self.dot(x, suite);
            self.text(x + 10.0, suite, "start");
            x += 40.0 + 7.0 * suite.chars().count() as f64;
        }
        self.y += LINE;
    }

    /// Lines of one unit, and their axis.
    fn block(&mut self, lines: &[&Line<'_>], unit: Unit) {
        let Some(axis) = Axis::over(lines) else { return };
        let top = self.y - LINE / 2.0;
        for line in lines {
            self.text(LABELS - 12.0, &line.label, "end");
            self.rule((LABELS, self.y), (WIDTH - MARGIN, self.y));
            // The first is on top where they coincide.
            for row in line.rows.iter().rev() {
                self.dot(axis.x(row.summary.median), &row.suite);
            }
            self.y += LINE;
        }
        for decade in axis.low..=axis.high {
            let value = 10f64.powi(decade);
            let x = axis.x(value);
            self.rule((x, top), (x, self.y - LINE / 2.0));
            self.text(x, &format!("{value} {}", unit.symbol()), "middle");
        }
        self.y += 1.5 * LINE;
    }

    fn dot(&mut self, x: f64, suite: &str) {
        let place = self.suites.iter().position(|known| *known == suite).unwrap_or_default();
        let colour = COLOURS[place % COLOURS.len()];
        let y = self.y;
        let _ = writeln!(self.svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5" fill="{colour}"/>"#);
    }

    fn rule(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let ends = format!(r#"x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}""#);
        let _ = writeln!(self.svg, r##"<line {ends} stroke="#ddd"/>"##);
    }

    fn text(&mut self, x: f64, text: &str, anchor: &str) {
        let y = self.y + 4.0;
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    fn finish(self) -> String {
        let height = self.y + MARGIN;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{}</svg>
"#,
            self.svg
        )
    }
}

/// A logarithmic axis from one power of ten to another.
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    /// `None` if there is nothing to show.
    fn over(lines: &[&Line<'_>]) -> Option<Axis> {
        let medians = lines.iter().flat_map(|line| &line.rows).map(|row| row.summary.median);
        let powers: Vec<f64> = medians.filter(|median| *median > 0.0).map(f64::log10).collect();
        let low = powers.iter().copied().reduce(f64::min)?.floor() as i32;
        let high = powers.iter().copied().reduce(f64::max)?.ceil() as i32;
        Some(Axis { low, high: high.max(low + 1) })
    }

    fn x(&self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let share = (value.log10().max(low) - low) / (high - low);
        LABELS + share * (WIDTH - MARGIN - LABELS)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statistics::Summary;

    #[test]
    fn an_axis_goes_from_power_to_power() {
        let row = |median| Row {
            what: "ADD".to_owned(),
            suite: "a".to_owned(),
            summary: Summary { count: 1, lowest: median, median, p99: median },
        };
        let (fast, slow) = (row(0.5), row(30.0));
        let line =
            Line { label: String::new(), unit: Unit::Milliseconds, rows: vec![&fast, &slow] };
        let axis = Axis::over(&[&line]).unwrap();
        assert_eq!((axis.low, axis.high), (-1, 2));
        assert_eq!(axis.x(0.1).round(), LABELS);
        assert_eq!(axis.x(100.0).round(), WIDTH - MARGIN);
    }
}
