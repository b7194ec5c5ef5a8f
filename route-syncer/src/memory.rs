//! What is known before a source has told anything: the last list that was believed, and the routes
//! that the kernel still has.

use tracing::warn;

use crate::observed::{Observed, Route};
use crate::roster::Roster;
use crate::run_dir::{RunDir, RunDirError};
use crate::source::nodes;

/// What is remembered.
#[derive(Debug)]
pub struct Memory {
    /// Who is believed to be there.
    pub roster: Roster,
    /// Whether that comes from a list, and not from the kernel's routes alone.
    pub has_list: bool,
}

impl Memory {
    /// Reads the folder. A list that is broken is left aside.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn recall(
        run_dir: &RunDir,
        observed: &Observed,
        protocol: u8,
    ) -> Result<Self, RunDirError> {
        let own: Vec<&Route> =
            observed.routes.iter().filter(|route| route.protocol == protocol).collect();
        let last_good = run_dir.read_last_good()?.map(|text| nodes::parse(&text));
        let last_good = last_good.transpose().unwrap_or_else(|error| {
            warn!("the remembered list of nodes is left aside: {error}");
            None
        });
        Ok(Self {
            has_list: last_good.is_some(),
            roster: Roster::remembered(last_good.unwrap_or_default(), &own),
        })
    }
}
