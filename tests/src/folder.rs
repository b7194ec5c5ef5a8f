//! Waiting for what a process writes into a folder: by the kernel's events, and with a deadline.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Context, Result};
use crate::wait;

/// Tells when files of a folder appear or are written.
#[derive(Debug)]
pub struct FolderEvents {
    folder: PathBuf,
    events: Inotify,
}

impl FolderEvents {
    /// Starts to listen; what happens from now on is not missed.
    ///
    /// # Errors
    /// The folder is not there, or the kernel watches no more.
    pub fn open(folder: &Path) -> Result<Self> {
        let what = || format!("watch {}", folder.display());
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let events = Inotify::init(flags).context(what)?;
        let written =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY;
        events.add_watch(folder, written).context(what)?;
        Ok(FolderEvents { folder: folder.to_owned(), events })
    }

    /// Waits until `look` finds what it looks for. It is asked at once and after every event.
    /// `None` after `patience`.
    ///
    /// # Errors
    /// Those of `look`, or the kernel's.
    pub fn wait<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + patience;
        loop {
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            let what = || format!("wait for events of {}", self.folder.display());
            if !wait::readable(&self.events, until)? {
                return Ok(None);
            }
            self.events.read_events().context(what)?;
        }
    }
}
