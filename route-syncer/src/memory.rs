//! What is known before a source has told anything: the last list that was believed, and the routes
//! that the kernel still has.
//!
//! The list is in the daemon's folder, which a reboot empties. Where the source has no memory of its
//! own and may be away when the node boots, the list is also kept in a file that outlives that.

use std::fs;
use std::io;
use std::path::Path;

use tracing::warn;

use crate::observed::{Observed, Route};
use crate::replace::replace;
use crate::roster::Roster;
use crate::run_dir::{RunDir, RunDirError};
use crate::source::nodes;

/// The name of the file with what was learned from Kubernetes, in the folder of `--state-dir`. It
/// has the format of a nodes file.
pub const KUBERNETES: &str = "kubernetes.json";

const MODE: u32 = 0o644;

/// What is remembered.
#[derive(Debug)]
pub struct Memory {
    /// Who is believed to be there.
    pub roster: Roster,
    /// Whether that comes from a list, and not from the kernel's routes alone.
    pub has_list: bool,
}

impl Memory {
    /// Reads the folder, or the file that outlives a reboot. A list that is broken is left aside.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn recall(
        run_dir: &RunDir,
        lasting: Option<&Path>,
        observed: &Observed,
        protocol: u8,
    ) -> Result<Self, RunDirError> {
        let own: Vec<&Route> =
            observed.routes.iter().filter(|route| route.protocol == protocol).collect();
        let text = run_dir.read_last_good()?.or_else(|| lasting.and_then(read));
        let last_good = text.map(|text| nodes::parse(&text)).transpose().unwrap_or_else(|error| {
            warn!("the remembered list of nodes is left aside: {error}");
            None
        });
        Ok(Self {
            has_list: last_good.is_some(),
            roster: Roster::remembered(last_good.unwrap_or_default(), &own),
        })
    }
}

fn read(path: &Path) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!("{path:?}, with the remembered list of nodes, cannot be read: {error}");
            None
        }
    }
}

/// Keeps a list in the file that outlives a reboot, unless it says so already.
///
/// # Errors
/// The folder or the disk does not take it.
pub fn keep(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    replace(path, text.as_bytes(), MODE)
}
