//! The folder that holds everything a demo leaves on disk, and the way back from there.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};

use crate::names;
use crate::processes::Process;

const FOLDER: &str = "/run/cbr0-demo";
/// What the records of workers begin with: of who makes or changes the demo, and leads what runs.
const WORKER: &str = "worker";
/// Is there when the demo was told to stay.
const KEPT: &str = "kept";
/// Is there when `/run/netns` was made by the demo.
const MADE_NETNS: &str = "made-run-netns";

/// The demo's folder, locked: one demo at a time.
#[derive(Debug)]
pub(crate) struct State {
    /// Held as long as this value; the folder itself is the lock, so that none is left.
    _lock: File,
}

/// A file or folder of the demo.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Whether there is anything of a demo here.
pub(crate) fn exists() -> bool {
    Path::new(FOLDER).exists()
}

/// Whether the demo was told to stay, and did.
pub(crate) fn is_kept() -> bool {
    path(KEPT).exists()
}

/// Writes down that the calling process makes or changes the demo, before it does anything.
pub(crate) fn record_worker() -> Result<()> {
    let own = std::process::id();
    Process::own()?.record(&path(&format!("{WORKER}-{own}")))
}

/// The processes that made or changed the demo, or do so now; what they started may outlive them.
pub(crate) fn leaders() -> Result<Vec<Process>> {
    let what = || format!("list {FOLDER}");
    let entries: io::Result<Vec<_>> = fs::read_dir(FOLDER).context(what)?.collect();
    let files = entries.context(what)?.into_iter().map(|entry| entry.path());
    let is_record = |file: &PathBuf| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WORKER))
    };
    files.filter(is_record).filter_map(|file| Process::recorded(&file).transpose()).collect()
}

impl State {
    /// Takes the folder, made if it is not there.
    ///
    /// # Errors
    /// Another demo has it.
    pub(crate) fn claim() -> Result<Self> {
        loop {
            match DirBuilder::new().mode(0o700).create(FOLDER) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).context(|| format!("make {FOLDER}"));
                }
                _ => {}
            }
            let lock = match File::open(FOLDER) {
                // Its last owner has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.context(|| format!("open {FOLDER}"))?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LabError::Wrong(
                        "another demo is running on this machine: wait for its end, or stop it"
                            .to_owned(),
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).context(|| format!("lock {FOLDER}"));
                }
            }
            if is_at(&lock, FOLDER) {
                return Ok(State { _lock: lock });
            }
        }
    }

    /// Whether a demo that was killed has left anything.
    pub(crate) fn has_leftovers(&self) -> Result<bool> {
        let mut files = fs::read_dir(FOLDER).context(|| format!("list {FOLDER}"))?;
        Ok(files.next().is_some() || !names::all()?.is_empty())
    }

    /// Makes what a new demo needs to be found again.
    pub(crate) fn prepare(&self) -> Result<()> {
        if !Path::new(names::FOLDER).exists() {
            // The note first: a folder too many is never removed, one forgotten would stay.
            write(MADE_NETNS, "")?;
            fs::create_dir_all(names::FOLDER).context(|| format!("make {}", names::FOLDER))?;
        }
        Ok(())
    }

    /// Lets the demo stay when its processes end.
    pub(crate) fn keep(&self) -> Result<()> {
        write(KEPT, "")
    }

    /// Removes everything of a demo, whatever state it is in: its processes, its namespaces with
    /// all the links in them, its files.
    pub(crate) fn remove_everything(self) -> Result<()> {
        leaders()?.into_iter().try_for_each(Process::end_all)?;
        names::remove_all()?;
        if path(MADE_NETNS).exists() {
            // Not if somebody else has put something there since.
            let _ = fs::remove_dir(names::FOLDER);
        }
        fs::remove_dir_all(FOLDER).context(|| format!("remove {FOLDER}"))
    }
}

/// Writes a file of the demo.
pub(crate) fn write(name: &str, content: &str) -> Result<()> {
    let path = path(name);
    fs::write(&path, content).context(|| format!("write {}", path.display()))
}

fn is_at(file: &File, path: &str) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
