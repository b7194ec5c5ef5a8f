//! The file source: a JSON list of nodes, watched.
//!
//! What is watched is the folder, not the file: editors and configuration tools replace a file by
//! renaming another over it, and then the inode that was watched is gone. A file may be reached
//! through symbolic links (as in a mounted ConfigMap); then the folder it really is in is watched
//! too. Any event leads to a reading, and a reading that finds the same bytes is no update.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::time::Instant;

use super::nodes::{self, NodesError};
use super::{Node, Source, SourceError, Update};

/// How long to wait before looking again for a folder that is gone: nothing tells when it is back.
const FOLDER_RETRY: Duration = Duration::from_secs(1);
/// Hundreds of thousands of nodes; what is larger is no list, and would not fit into memory.
const LARGEST: u64 = 64 << 20;
/// Room for several events with the longest name.
const EVENTS: usize = 4096;

/// Why a nodes file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No inotify.
    #[error("cannot watch for changes: {0}; is fs.inotify.max_user_instances too low?")]
    Inotify(#[source] io::Error),
    /// The folder cannot be watched.
    #[error("cannot watch the folder {folder:?} of the nodes file: {source}; make it")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the nodes file {path:?}: {source}; write a JSON list of nodes there")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// The file was read and is no list of nodes.
    #[error("nodes file {path:?}: {source}")]
    Nodes {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NodesError,
    },
}

/// A file of nodes.
pub struct NodesFile {
    path: PathBuf,
    events: EventStream<[u8; EVENTS]>,
    pending: Pending,
    /// When to look for the folder again; none while it is watched.
    retry: Option<Instant>,
    /// What the last reading found.
    last: Option<Result<String, String>>,
}

/// What has happened since the last reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// Only names were made: a file that is empty now has a writer who will close it.
    Created,
    Changed,
}

impl NodesFile {
    /// Prepares to watch the file. It need not be there yet.
    ///
    /// # Errors
    /// The system has no inotify instance left.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let stream = || Inotify::init()?.into_event_stream([0; EVENTS]);
        Ok(Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.into()),
            events: stream().map_err(FileError::Inotify)?,
            pending: Pending::Changed,
            retry: None,
            last: None,
        })
    }

    /// Waits until something has happened in a watched folder.
    async fn happening(&mut self) {
        match self.retry {
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => self.pending = Pending::Changed,
                event = self.events.next() => self.note(event.as_ref()),
            },
            None => {
                let event = self.events.next().await;
                self.note(event.as_ref());
            }
        }
        // An edit makes several events: take what is there, then read once.
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.note(Some(&event));
        }
    }

    fn note(&mut self, event: Option<&io::Result<inotify::EventOwned>>) {
        let created = matches!(event, Some(Ok(event)) if event.mask == EventMask::CREATE);
        if !created {
            self.pending = Pending::Changed;
        } else if self.pending == Pending::Nothing {
            self.pending = Pending::Created;
        }
    }

    /// Reads the file; none if nothing is new.
    fn read(&mut self) -> Option<Update> {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        // Watch first: what changes after the reading is an event then.
        let watched = self.watch();
        self.retry = watched.is_err().then(|| Instant::now() + FOLDER_RETRY);
        let text = watched.and_then(|()| self.text());
        if pending == Pending::Created && text.as_ref().is_ok_and(String::is_empty) {
            return None;
        }
        let found = match &text {
            Ok(text) => Ok(text.clone()),
            Err(error) => Err(error.to_string()),
        };
        if self.last.as_ref() == Some(&found) {
            return None;
        }
        self.last = Some(found);
        Some(match text.and_then(|text| self.nodes(&text)) {
            Ok(nodes) => Update::Nodes(nodes.into()),
            Err(error) => Update::Broken(SourceError::File(error)),
        })
    }

    /// Watches the folder of the path, and that of the file it leads to. Watching a folder again
    /// changes nothing.
    fn watch(&self) -> Result<(), FileError> {
        let events = WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let real = self.path.canonicalize().ok();
        for path in [Some(&self.path), real.as_ref()].into_iter().flatten() {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let watched = self.events.watches().add(folder, events);
            watched.map_err(|source| FileError::Folder { folder: folder.into(), source })?;
        }
        Ok(())
    }

    fn text(&self) -> Result<String, FileError> {
        let read = || {
            let metadata = self.path.metadata()?;
            // Opening a FIFO would wait for a writer.
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            if metadata.len() > LARGEST {
                return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
            }
            std::fs::read_to_string(&self.path)
        };
        read().map_err(|source| FileError::Read { path: self.path.clone(), source })
    }

    fn nodes(&self, text: &str) -> Result<Vec<Node>, FileError> {
        nodes::parse(text).map_err(|source| FileError::Nodes { path: self.path.clone(), source })
    }
}

impl Source for NodesFile {
    async fn next(&mut self) -> Update {
        loop {
            if self.pending != Pending::Nothing
                && let Some(update) = self.read()
            {
                return update;
            }
            self.happening().await;
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
