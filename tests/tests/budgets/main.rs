//! What a verb costs, counted, is what `docs/costs.md` says: netlink requests, file operations and
//! processes exactly, system calls at most, sizes of binaries at most.
//!
//! Times depend on the machine and what else it does; these numbers do not. A change that raises
//! one has to say there what for.

mod bench;
mod cases;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cbr0_tests::counts::Counts;
use cbr0_tests::error::Context;
use cbr0_tests::pod::Pod;
use cbr0_tests::{Outcome, Result, bins, require};

use crate::bench::Bench;
use crate::cases::{ALONE, CHAINED, Case};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/costs.md");

/// The rows of the tables of the document that have this many cells, without their heads.
fn rows(cells: usize) -> Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(DOCUMENT).context(|| format!("read {DOCUMENT}"))?;
    let row = |line: &str| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(line.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    let rows = text.lines().filter_map(row).filter(|row| row.len() == cells);
    Ok(rows.filter(|row| row.last().is_some_and(|cell| cell.parse::<u64>().is_ok())).collect())
}

/// A row of the table as it would be right, with this number of system calls.
fn row_of(case: &Case, verb: &str, counts: &Counts, syscalls: usize) -> Vec<String> {
    let Counts { requests, files, processes, .. } = counts;
    let numbers = [*requests, *files, *processes, syscalls].map(|number| number.to_string());
    [case.plugin, case.with, verb].map(str::to_owned).into_iter().chain(numbers).collect()
}

#[test]
fn every_verb_costs_what_the_document_says() -> Outcome {
    assert_documented(&ALONE)
}

#[test]
fn so_does_every_verb_of_the_chained_plugins() -> Outcome {
    assert_documented(&CHAINED)
}

/// Asserts it for these, which are all that the document has of their plugins.
fn assert_documented(cases: &'static [Case]) -> Outcome {
    let mut documented = rows(7)?;
    documented.retain(|row| cases.iter().any(|case| case.plugin == row[0]));
    let (mut expected, mut report) = (0, String::new());
    for case in cases {
        let Some(bench) = Bench::new(case)? else { return Ok(()) };
        for (verb, counts) in bench.costs()? {
            expected += 1;
            let found =
                documented.iter().find(|row| row[..3] == row_of(case, verb, &counts, 0)[..3]);
            let most = found.and_then(|row| row.last()?.parse().ok()).unwrap_or(0);
            let is_right = found == Some(&row_of(case, verb, &counts, most))
                && counts.syscalls <= most
                && counts.programs == 0;
            if !is_right {
                let row = row_of(case, verb, &counts, counts.syscalls).join(" | ");
                let programs = counts.programs;
                writeln!(report, "| {row} | (and {programs} other programs)")?;
            }
        }
    }
    assert!(report.is_empty(), "not as docs/costs.md says, but:\n{report}");
    assert_eq!(documented.len(), expected, "rows of docs/costs.md that nothing is measured for");
    Ok(())
}

#[test]
fn no_other_plugin_has_a_budget() -> Outcome {
    let known = |name: &str| ALONE.iter().chain(&CHAINED).any(|case| case.plugin == name);
    let unknown: Vec<_> = rows(7)?.into_iter().filter(|row| !known(&row[0])).collect();
    assert_eq!(unknown, [[""; 0]; 0], "rows of docs/costs.md that nothing is measured for");
    Ok(())
}

#[test]
fn the_cost_does_not_grow_with_the_containers_on_the_host() -> Outcome {
    let Some(bench) = Bench::new(&ALONE[1])? else { return Ok(()) };
    let pods =
        (0..20).map(|number| Pod::create(&format!("pod{number}"))).collect::<Result<Vec<_>>>()?;
    let add = |pod: &Pod| Ok(Counts { syscalls: 0, ..bench.add(pod)? });
    let costs = pods.iter().map(add).collect::<Result<Vec<_>>>()?;
    assert!(costs.windows(2).all(|pair| pair[0] == pair[1]), "{costs:?}");
    Ok(())
}

/// Of the binaries that are delivered; others are as large as their debug information.
#[test]
fn the_binaries_are_as_small_as_the_document_says() -> Outcome {
    if !require::release()? {
        return Ok(());
    }
    let documented = rows(2)?;
    let largest = documented.iter().find(|row| row[0] == "a plugin's binary, bytes");
    let most: u64 = largest.and_then(|row| row[1].parse().ok()).unwrap_or(0);
    let folder = bins::plugin_dir()?;
    for (name, size) in plugins(&folder)? {
        assert!(size <= most, "{name} has {size} bytes; docs/costs.md allows {most}");
    }
    Ok(())
}

/// The names and sizes of the plugins in a folder: of what answers as one.
fn plugins(folder: &Path) -> Result<Vec<(String, u64)>> {
    let what = || format!("look at {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).context(what)? {
        let entry = entry.context(what)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_other = ["route-syncer", "demo", "bench", "floor"].contains(&name.as_str());
        let meta = entry.metadata().context(what)?;
        if meta.is_file() && !is_other && !name.starts_with('.') {
            found.push((name, meta.len()));
        }
    }
    assert!(found.len() > 5, "{} has only {found:?}", folder.display());
    Ok(found)
}
