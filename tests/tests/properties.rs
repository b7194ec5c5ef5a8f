//! `docs/properties.md` and the tests name the same properties of the route syncer.
//!
//! A test that shows a property has its number at the head of its name (`p07_…`), and stands in the
//! table. So neither can lose one without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context as _;
use cbr0_tests::{LabError, Result};

/// How many properties there are.
const PROPERTIES: usize = 30;
/// What stands for the tests of a property that has none.
const NONE: &str = "none yet";
/// Where tests of them may stand.
const FOLDERS: [&str; 3] = ["route-syncer/src", "route-syncer/tests", "tests/tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The number at the head of a test's name, such as 7 in `p07_a_range_moves`.
fn property(name: &str) -> Option<usize> {
    let number = name.strip_prefix('p')?.split_once('_')?.0;
    number.parse().ok().filter(|_| number.len() == 2)
}

/// Adds the tests of properties in the sources below a folder.
fn collect(folder: &Path, tests: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let functions = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
            let names = functions.filter_map(|function| function.split_once('(')).map(|(n, _)| n);
            tests.extend(names.filter(|name| property(name).is_some()).map(str::to_owned));
        }
    }
    Ok(())
}

fn tests_in_the_sources() -> Result<BTreeSet<String>> {
    let mut tests = BTreeSet::new();
    for folder in FOLDERS {
        let folder = root().join(folder);
        collect(&folder, &mut tests).context(|| format!("read {}", folder.display()))?;
    }
    Ok(tests)
}

/// The rows of the table: the property's number, and the names in its last column.
fn table() -> Result<BTreeMap<usize, BTreeSet<String>>> {
    let file = root().join("docs/properties.md");
    let text = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| P")) {
        let cells: Vec<&str> = line.trim_end_matches(['|', ' ']).split('|').collect();
        let number = cells.first().and_then(|cell| cell.trim().parse().ok());
        let number = number.ok_or_else(|| LabError::Wrong(format!("no number in: | P{line}")))?;
        let tests = cells.last().unwrap_or(&"").trim();
        let names: BTreeSet<String> =
            tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!names.is_empty() || tests == NONE, "P{number} has no test: {tests:?}");
        rows.insert(number, names);
    }
    Ok(rows)
}

#[test]
fn every_property_is_in_the_table_with_its_tests() -> Result<()> {
    let rows = table()?;
    let numbers: Vec<usize> = rows.keys().copied().collect();
    assert_eq!(numbers, (1..=PROPERTIES).collect::<Vec<_>>());
    for (number, names) in &rows {
        for name in names {
            assert_eq!(property(name), Some(*number), "{name} in the row of P{number}");
        }
    }
    let told: BTreeSet<String> = rows.into_values().flatten().collect();
    let there = tests_in_the_sources()?;
    let difference: Vec<&String> = told.symmetric_difference(&there).collect();
    assert!(
        difference.is_empty(),
        "in docs/properties.md or in the sources, not both: {difference:?}"
    );
    Ok(())
}
