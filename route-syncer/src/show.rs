//! `route-syncer status`: what the daemon said, checked against the kernel as it is now.

pub mod watch;

use std::fmt::Write;

use kernel::Rtnl;
use serde::Serialize;

use crate::error::Error;
use crate::host::{HostSetting, SettingState};
use crate::observed::Observed;
use crate::run_dir::RunDir;
use crate::status::{RangeRow, Report, Row, recheck, recheck_ranges};

/// The answer of `status`.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Whether a daemon is running.
    pub running: bool,
    /// What it says, or said last, with the states as they are now.
    #[serde(flatten)]
    pub report: Report,
}

/// Asks the folder and the kernel of the current network namespace.
///
/// # Errors
/// There is nothing to show, or the kernel cannot be read.
pub fn ask(run_dir: &RunDir) -> Result<Shown, Error> {
    let running = run_dir.is_locked()?;
    let text = run_dir.read_status()?.ok_or(Error::NoStatus)?;
    let mut report: Report = serde_json::from_str(&text).map_err(Error::Status)?;
    let observed = Rtnl::open().and_then(|mut rtnl| Observed::read(&mut rtnl))?;
    report.routes = recheck(&report, &observed);
    report.unreachable = recheck_ranges(&report, &observed);
    Ok(Shown { running, report })
}

impl Shown {
    /// Whether there is nothing to look after.
    pub fn is_ok(&self) -> bool {
        self.running
            && self.report.source_error.is_none()
            && self.report.problems.is_empty()
            && self.report.routes.iter().all(|row| row.state.is_ok())
            && self.report.unreachable.iter().all(|row| row.state.is_ok())
            && self.lacking().next().is_none()
    }

    fn lacking(&self) -> impl Iterator<Item = &HostSetting> {
        self.report.host_settings.iter().filter(|it| it.state == SettingState::Lacking)
    }

    /// The table, for people.
    pub fn table(&self) -> String {
        let header = ["NODE", "POD CIDR", "VIA", "DEVICE", "STATE"].map(str::to_owned);
        let ranges = self.report.unreachable.iter().map(range_cells);
        let rows: Vec<_> = std::iter::once(header)
            .chain(self.report.routes.iter().map(cells))
            .chain(ranges)
            .collect();
        let mut widths = [0; 5];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text + &self.notes()
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        let mut note = |text: &str| notes.push_str(&format!("\n{text}\n"));
        if !self.running {
            note("The daemon is not running. The routes stay as they are; nothing repairs them.");
        }
        if let Some(error) = &self.report.source_error {
            let since = self.report.source_error_since.as_deref().unwrap_or("it started");
            note(&format!(
                "The last good list of nodes is kept, for the source is broken since {since}: {error}"
            ));
        }
        for words in self.report.problems.iter().chain(&self.report.notes) {
            note(words);
        }
        for setting in
            self.lacking().filter(|setting| !self.report.problems.contains(&setting.words))
        {
            note(&format!("host setting {}: {}", setting.name, setting.words));
        }
        notes
    }
}

/// The link, and whether it is a tunnel.
fn device(row: &Row) -> Option<String> {
    let name = row.device.clone()?;
    Some(if row.vtep.is_some() { format!("{name} (tunnel)") } else { name })
}

fn cells(row: &Row) -> [String; 5] {
    let none = || "-".to_owned();
    let end = || "unreachable".to_owned();
    [
        row.node.clone(),
        row.pod_cidr.clone(),
        row.via.map(|via| via.to_string()).or(row.unreachable.then(end)).unwrap_or_else(none),
        device(row).unwrap_or_else(none),
        row.state_words(),
    ]
}

/// A range of the cluster, as a row of no node.
fn range_cells(row: &RangeRow) -> [String; 5] {
    let none = || "-".to_owned();
    ["*".to_owned(), row.cidr.clone(), "unreachable".to_owned(), none(), row.state_words()]
}
