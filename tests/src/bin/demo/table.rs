//! The matrix as people read it: a row for each caller, and in the columns whom it called and the
//! source address that was seen there.

use std::collections::BTreeMap;
use std::fmt;

use crate::matrix::{Call, Kind, Matrix, Row};

/// More Pods than these make lines too long for a terminal: they share a column then.
const OWN_COLUMNS: usize = 8;

impl fmt::Display for Matrix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ipv4 in [true, false] {
            let rows = self.rows.iter().filter(|row| row.own.is_ipv4() == ipv4);
            let rows: Vec<_> = rows.collect();
            if !rows.is_empty() {
                write_family(out, &rows)?;
                writeln!(out)?;
            }
        }
        for row in &self.rows {
            for Call { called, broken, .. } in &row.calls {
                if let Some(why) = broken {
                    writeln!(out, "BROKEN {} -> {called}: {why}", row.caller)?;
                }
            }
        }
        Ok(())
    }
}

fn write_family(out: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    // Every Pod is called, and a Pod calls everybody but itself: two rows name them all.
    let mut pods: Vec<&str> = Vec::new();
    for call in rows.iter().flat_map(|row| &row.calls).filter(|call| call.kind == Kind::Pod) {
        if !pods.contains(&call.called.as_str()) {
            pods.push(&call.called);
        }
    }
    pods.sort_unstable();
    let grid = pods.len() <= OWN_COLUMNS;
    let mut heading = vec!["seen as, by".to_owned()];
    heading.extend(if grid {
        pods.iter().map(|&pod| pod.into()).collect()
    } else {
        vec!["Pods".to_owned()]
    });
    heading.extend(["nodes", "outside"].map(str::to_owned));
    let mut lines = vec![heading];
    for row in rows {
        let mut line = vec![row.caller.clone()];
        if grid {
            line.extend(pods.iter().map(|pod| cell(row, pod)));
        } else {
            line.push(summary(row, Kind::Pod));
        }
        line.extend([Kind::Node, Kind::Outside].map(|kind| summary(row, kind)));
        lines.push(line);
    }
    write_table(out, &lines)
}

/// What one party saw of the caller.
fn cell(row: &Row, called: &str) -> String {
    row.calls.iter().find(|call| call.called == called).map_or_else(|| "-".into(), seen)
}

/// What all parties of a kind saw of the caller, and how many of them.
fn summary(row: &Row, kind: Kind) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for call in row.calls.iter().filter(|call| call.kind == kind) {
        *counts.entry(seen(call)).or_default() += 1;
    }
    let words = counts
        .into_iter()
        .map(|(seen, times)| if times > 1 { format!("{times} x {seen}") } else { seen });
    words.collect::<Vec<_>>().join(", ")
}

fn seen(call: &Call) -> String {
    let address = call.seen.map(|address| address.to_string());
    match (address, &call.broken) {
        (Some(address), None) => address,
        (Some(address), Some(_)) => format!("BROKEN {address}"),
        (None, _) => "BROKEN".to_owned(),
    }
}

/// A table as text.
pub(crate) fn text(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut text, lines);
    text
}

/// As wide as the widest cell of each column asks for.
fn write_table(out: &mut impl fmt::Write, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let widest = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
