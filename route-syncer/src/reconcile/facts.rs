//! What the source tells, and how it is remembered.

use std::time::Instant;

use ipnetwork::IpNetwork;
use tracing::{error, info, warn};

use super::Reconciler;
use crate::clock;
use crate::error::Error;
use crate::memory;
use crate::source::{List, SourceError, Update, nodes};

/// Why the source cannot be read, and since when.
pub(super) struct SourceTrouble {
    pub(super) words: String,
    pub(super) since: String,
    /// The same, to measure by.
    pub(super) at: Instant,
}

/// What a source says beside the nodes.
#[derive(Default)]
pub(super) struct Told {
    pub(super) cluster_cidrs: Vec<IpNetwork>,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Told {
    fn of(list: &List) -> Self {
        Self {
            cluster_cidrs: list.cluster_cidrs.clone(),
            problems: list.problems.clone(),
            notes: list.notes.clone(),
        }
    }
}

impl Reconciler {
    /// Takes what the source tells.
    ///
    /// # Errors
    /// The source refuses this node.
    pub fn take(&mut self, update: Update) -> Result<(), Error> {
        self.reasons.told.get_or_insert_with(Instant::now);
        match update {
            Update::Nodes(list) => self.take_list(list),
            Update::Remembered(list) => {
                info!("{} nodes are remembered", list.nodes.len() + list.held.len());
                self.informed = true;
                self.told = Told::of(&list);
                self.roster.remember(list);
            }
            Update::Broken(problem) => self.note_trouble(&problem),
            Update::Refused(problem) => return Err(Error::Source(problem)),
        }
        Ok(())
    }

    fn note_trouble(&mut self, problem: &SourceError) {
        let words = problem.to_string();
        let before = self.source_error.take();
        if before.as_ref().is_none_or(|before| before.words != words) {
            error!("the source is broken, the last good list of nodes is kept: {words}");
        }
        let (since, at) = before
            .map_or_else(|| (clock::now(), Instant::now()), |before| (before.since, before.at));
        self.source_error = Some(SourceTrouble { words, since, at });
    }

    fn take_list(&mut self, list: List) {
        info!("the source names {} nodes", list.nodes.len());
        // A source with a problem says for itself why this node is not in its list.
        let is_named = list.nodes.iter().any(|node| node.name == self.settings.node);
        if !is_named && list.problems.is_empty() {
            warn!(
                "the list does not name this node, {:?}: give its name with --node, or add it; \
                 until then its own Pods are not masqueraded",
                self.settings.node
            );
        }
        self.source_error = None;
        self.listed = true;
        self.informed = true;
        self.told = Told::of(&list);
        let is_proven = list.absence_is_proven;
        self.roster.take(list, &self.settings.node);
        if !self.roster.held.is_empty() && !is_proven {
            error!(
                "{} nodes are missing from the list at once; their routes are held until they are \
                 listed again, or removed in steps of at most half of the nodes",
                self.roster.held.len()
            );
        }
        if let Err(problem) = self.remember_list() {
            error!("the list of nodes cannot be remembered: {problem}");
        }
    }

    fn remember_list(&self) -> Result<(), Error> {
        let text = nodes::render(&self.roster.baseline).map_err(Error::Render)? + "\n";
        self.run_dir.write_last_good(&text)?;
        let Some(path) = &self.settings.memory else { return Ok(()) };
        let kept = memory::keep(path, &text);
        kept.map_err(|source| Error::Memory { path: path.clone(), source })
    }
}
