//! The daemon's folder, `/run/cbr0` by default: its lock, and the files by which it can be asked.
//!
//! Files are written at once or not at all (a new file renamed over the old one), and only when
//! they change, so that watching them tells something.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// What the daemon says about its routes.
const STATUS: &str = "route-syncer.json";
/// The last list of nodes that was believed, in the format of the nodes file.
const LAST_GOOD: &str = "last-good.json";
/// The sign for plugins that the routes are there ([`cni_conf::sync_status`]).
const SYNCED: &str = "synced.json";
const LOCK: &str = "route-syncer.lock";

/// Why a file of the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Reading, writing or locking failed.
    #[error("{path:?}: cannot {what}: {source}; give another folder with --run-dir")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The operating system's word.
        source: io::Error,
    },
    /// A daemon is running here.
    #[error(
        "another route-syncer runs with the folder {folder:?}; stop it first, or give another \
         folder with --run-dir (and another --protocol, if both are meant to run here)"
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
}

/// The folder.
#[derive(Clone, Debug)]
pub struct RunDir {
    folder: PathBuf,
}

/// Holds the folder for one daemon; it ends with the value, and with the process, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl RunDir {
    /// The folder at this path, which need not be there.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder if need be, and takes it for this process.
    ///
    /// # Errors
    /// [`RunDirError::Locked`] if a daemon has it.
    pub fn lock(&self) -> Result<Lock, RunDirError> {
        fs::create_dir_all(&self.folder).map_err(|source| RunDirError::Io {
            path: self.folder.clone(),
            what: "make it",
            source,
        })?;
        let open = File::options().create(true).truncate(false).write(true).open(self.path(LOCK));
        let mut file = open.map_err(|source| self.io(LOCK, "open it", source))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => {
                // Who watches the folder hears of a start by this, and of the end when it is closed.
                let pid = format!("{}\n", std::process::id());
                file.set_len(0)
                    .and_then(|()| file.write_all(pid.as_bytes()))
                    .map_err(|source| self.io(LOCK, "write it", source))?;
                Ok(Lock { _file: file })
            }
            Err(Errno::EAGAIN | Errno::EACCES) => {
                Err(RunDirError::Locked { folder: self.folder.clone() })
            }
            Err(errno) => Err(self.io(LOCK, "lock it", errno.into())),
        }
    }

    /// Whether a daemon has the folder. Asking takes no lock, not even for a moment: it cannot make
    /// a daemon that starts just now believe that there is another one. (That is why the lock is
    /// one of `fcntl(2)`, by open file description, and not of `flock(2)`, which cannot be asked.)
    ///
    /// # Errors
    /// The lock file is there and cannot be asked.
    pub fn is_locked(&self) -> Result<bool, RunDirError> {
        // Not for writing: the end of that would look like a daemon's.
        let file = match File::open(self.path(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(self.io(LOCK, "open it", source)),
        };
        let mut lock = whole_file();
        match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)) {
            Ok(_) => Ok(i32::from(lock.l_type) != libc::F_UNLCK),
            Err(errno) => Err(self.io(LOCK, "ask for its lock", errno.into())),
        }
    }

    /// What the daemon last said about its routes; none if there was no daemon yet.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read_status(&self) -> Result<Option<String>, RunDirError> {
        self.read(STATUS)
    }

    /// Says something about the routes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_status(&self, text: &str) -> Result<(), RunDirError> {
        self.write(STATUS, text)
    }

    /// The last list of nodes that was believed; none if there was none yet.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read_last_good(&self) -> Result<Option<String>, RunDirError> {
        self.read(LAST_GOOD)
    }

    /// Remembers a list of nodes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_last_good(&self, text: &str) -> Result<(), RunDirError> {
        self.write(LAST_GOOD, text)
    }

    /// Removes all that daemons wrote here, but for the lock, which the caller has. Returns the
    /// files that were there.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_files(&self, _lock: &Lock) -> Result<Vec<PathBuf>, RunDirError> {
        let mut removed = Vec::new();
        for name in
            [STATUS, LAST_GOOD, SYNCED].map(|name| [name.to_owned(), temporary(name)]).concat()
        {
            match fs::remove_file(self.path(&name)) {
                Ok(()) => removed.push(self.path(&name)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(self.io(&name, "remove it", source)),
            }
        }
        Ok(removed)
    }

    /// Where plugins look whether the routes are there.
    pub fn synced(&self) -> PathBuf {
        self.path(SYNCED)
    }

    fn read(&self, name: &str) -> Result<Option<String>, RunDirError> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io(name, "read it", source)),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), RunDirError> {
        if self.read(name).is_ok_and(|old| old.as_deref() == Some(text)) {
            return Ok(());
        }
        // One temporary name is enough: the folder is locked. A crash leaves it to be overwritten.
        let temporary = self.path(&temporary(name));
        File::create(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, self.path(name)))
            .map_err(|source| self.io(name, "write it", source))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn io(&self, name: &str, what: &'static str, source: io::Error) -> RunDirError {
        RunDirError::Io { path: self.path(name), what, source }
    }
}

/// The name under which a file is written before it takes its place.
fn temporary(name: &str) -> String {
    format!("{name}.new")
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // The kernel insists on zero for locks by open file description.
        l_pid: 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn one_daemon_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(&folder.path().join("cbr0"));
        assert!(!run_dir.is_locked().unwrap());
        let lock = run_dir.lock().unwrap();
        assert!(run_dir.is_locked().unwrap());
        assert!(matches!(run_dir.lock(), Err(RunDirError::Locked { .. })));
        drop(lock);
        assert!(!run_dir.is_locked().unwrap());
        run_dir.lock().unwrap();
    }

    #[test]
    fn an_unchanged_file_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(folder.path());
        let inode = || fs::metadata(run_dir.path(STATUS)).unwrap().ino();
        assert_eq!(run_dir.read_status().unwrap(), None);
        run_dir.write_status("one").unwrap();
        let first = inode();
        run_dir.write_status("one").unwrap();
        assert_eq!(inode(), first);
        run_dir.write_status("two").unwrap();
        assert_ne!(inode(), first);
        assert_eq!(run_dir.read_status().unwrap().unwrap(), "two");
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let text = RunDir::new(&file).lock().unwrap_err().to_string();
        assert!(text.contains("/file\"") && text.contains("--run-dir"), "{text}");
    }
}
