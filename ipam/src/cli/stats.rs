//! `host-local stats`: how much of each range is used.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_conf::conf::NetConf;
use serde::Serialize;

use super::arguments::Stats;
use super::table::table;
use super::{CliError, FAILURE, Outcome, conf_files, to_json};
use crate::config::{self, Config};
use crate::range_set::RangeSet;
use crate::store::{Record, Store, StoreError};

const HEADER: [&str; 7] = ["NETWORK", "SET", "RANGE", "TOTAL", "USED", "FREE", "LAST"];

/// How much of a range set is used.
#[derive(Debug, Serialize)]
struct Usage {
    network: String,
    /// The file that configures it.
    file: PathBuf,
    /// Its place among the network's sets, as in the name `last_reserved_ip.N`.
    set: usize,
    range: String,
    /// The addresses that can be given to containers.
    total: u128,
    used: u128,
    free: u128,
    #[serde(rename = "lastReserved")]
    last_reserved: Option<IpAddr>,
}

pub(super) fn run(options: &Stats) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::default();
    let mut usages = Vec::new();
    let mut was_read = false;
    let files = conf_files::files(&options.source)?;
    for file in &files {
        match of_file(file, &mut outcome) {
            Ok(found) => {
                was_read = true;
                usages.extend(found);
            }
            Err(problem) => outcome.complain(format!("{} {problem}", file.display())),
        }
    }
    if !was_read && !files.is_empty() {
        outcome.code = FAILURE;
    } else if usages.is_empty() && outcome.stderr.is_empty() {
        outcome.complain("no network has ranges of host-local; name others with --conf-dir");
    }
    outcome.stdout = if options.json { to_json(&usages)? } else { table(HEADER, &rows(&usages)) };
    Ok(outcome)
}

/// The sets of all networks in a file. Sets that come from elsewhere are mentioned.
fn of_file(file: &Path, outcome: &mut Outcome) -> Result<Vec<Usage>, String> {
    let mut usages = Vec::new();
    for conf in conf_files::read(file)? {
        let parsed = Config::parse(&conf, "").map_err(conf_files::text)?;
        let mut found = of_network(file, &conf, &parsed)?;
        if config::ranges_come_with_add(&conf).map_err(conf_files::text)? {
            // The runtime's come first, so that the numbers of these are not known.
            found.iter_mut().for_each(|usage| usage.last_reserved = None);
            outcome.complain(format!(
                "{}: network {} also gets ranges from the runtime (capability ipRanges), which \
                 are not known here; host-local ls shows what is reserved of them",
                file.display(),
                conf.name
            ));
        } else {
            parsed.require_ranges().map_err(|error| conf_files::text(error.into()))?;
        }
        usages.extend(found);
    }
    Ok(usages)
}

fn of_network(file: &Path, conf: &NetConf, config: &Config) -> Result<Vec<Usage>, String> {
    let (reserved, last) = look(&config.store, config.sets.len())
        .map_err(|error| format!("cannot be counted: {}", CliError::from(error)))?;
    let usage = |(index, set): (usize, &RangeSet)| {
        let total = set.usable();
        let used = reserved.iter().filter(|address| is_usable(set, **address)).count() as u128;
        Usage {
            network: conf.name.clone(),
            file: file.to_owned(),
            set: index,
            range: set.to_string(),
            total,
            used,
            free: total.saturating_sub(used),
            last_reserved: last.get(index).copied().flatten(),
        }
    };
    Ok(config.sets.iter().enumerate().map(usage).collect())
}

/// The addresses that are somebody's, and those last reserved of each set.
fn look(store: &Store, sets: usize) -> Result<(Vec<IpAddr>, Vec<Option<IpAddr>>), StoreError> {
    // A folder without a lock was never used, and looking must not make one.
    if !store.directory().join("lock").is_file() {
        return Ok(Default::default());
    }
    let Some(locked) = store.lock_existing()? else {
        return Ok(Default::default());
    };
    let snapshot = locked.scan()?;
    let directory = store.directory();
    let taken = snapshot
        .reservations()
        .filter(|entry| entry.record != Record::Empty && entry.path.parent() == Some(&*directory));
    let addresses = taken.filter_map(|entry| entry.address).collect();
    Ok((addresses, (0..sets).map(|set| locked.last_reserved(set)).collect()))
}

/// Whether the address counts in [`RangeSet::usable`]: it is neither a gateway nor excluded.
fn is_usable(set: &RangeSet, address: IpAddr) -> bool {
    set.range_of(address).is_some_and(|range| range.withheld_until(address).is_none())
}

fn rows(usages: &[Usage]) -> Vec<[String; 7]> {
    let row = |usage: &Usage| {
        [
            usage.network.clone(),
            usage.set.to_string(),
            usage.range.clone(),
            usage.total.to_string(),
            usage.used.to_string(),
            usage.free.to_string(),
            usage.last_reserved.map(|address| address.to_string()).unwrap_or_default(),
        ]
    };
    usages.iter().map(row).collect()
}
