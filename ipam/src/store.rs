//! The reservations of a network, on disk, in the format of the reference `host-local`.
//!
//! The format is an interface: a node can change between the two suites at any time, and both
//! may even run side by side, for both take the same lock.
//!
//! ```text
//! <dataDir>/<network>/             0755
//!     lock                         0750, empty; whoever holds flock(LOCK_EX) on it may change things
//!     10.0.1.5                     0600, "<container ID>\r\n<ifname>", no newline at the end
//!     2001:db8::5                  the address in its RFC 5952 form
//!     last_reserved_ip.0           0600, the address last reserved of range set 0
//! ```
//!
//! Old versions wrote the container ID alone. A file without content is what the reference leaves
//! when it dies between creating and writing; here it counts as free, and `place` is why this
//! store makes none.
//!
//! Nothing else may lie in that directory, since the reference reads every file in it. What is ours
//! alone lies beside it; no network has such a name:
//!
//! ```text
//! <dataDir>/.<network>.new         a file while it is written
//! <dataDir>/.<network>.index       what is in the directory, so that it need not be read ([`index`])
//! ```

mod boot;
mod index;
mod ledger;
mod place;
mod record;
mod snapshot;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

pub use ledger::{Ledger, OfEarlierBoots};
pub use record::{Holder, Record};
pub use snapshot::{Entry, Snapshot};

/// Where the reference keeps its reservations when the configuration has no `dataDir`.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

const LOCK: &str = "lock";
const LAST_RESERVED: &str = "last_reserved_ip.";

/// The store of one network. Nothing is touched before a lock is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    data_dir: PathBuf,
    network: String,
}

/// What could not be done in the store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free space or inodes on the filesystem of dataDir"
            }
            io::ErrorKind::PermissionDenied => {
                "run the plugin as root, and look at owner, mode and security labels of dataDir"
            }
            _ => "dataDir must be a directory on a local filesystem that can be written",
        }
    }

    fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl Store {
    /// The store of `network`, a checked network name, under `data_dir`.
    pub fn new(data_dir: &Path, network: &str) -> Self {
        Self { data_dir: data_dir.to_owned(), network: network.to_owned() }
    }

    /// The network's own directory.
    pub fn directory(&self) -> PathBuf {
        self.data_dir.join(&self.network)
    }

    /// Takes the lock, waiting for it; makes the directory if there is none.
    ///
    /// # Errors
    /// The directory or the lock cannot be made or opened.
    pub fn lock(&self) -> Result<Locked, StoreError> {
        // Nearly always there is one.
        if let Some(locked) = self.lock_existing()? {
            return Ok(locked);
        }
        let directory = self.directory();
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .map_err(StoreError::at("create the directory", &directory))?;
        self.open_lock()
    }

    /// Takes the lock, waiting for it; `None` when the network has no directory, for then it has
    /// no reservations, and none is made only to be looked at.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn lock_existing(&self) -> Result<Option<Locked>, StoreError> {
        match self.open_lock() {
            // With O_CREAT it is the directory that is missing.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            locked => locked.map(Some),
        }
    }

    fn open_lock(&self) -> Result<Locked, StoreError> {
        let directory = self.directory();
        let path = directory.join(LOCK);
        // std asks for write access with create(true); the reference creates it read-only.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_CREAT.bits())
            .mode(0o750)
            .open(&path)
            .map_err(StoreError::at("open the lock", &path))?;
        file.lock().map_err(StoreError::at("lock", &path))?;
        let beside = |end: &str| self.data_dir.join(format!(".{}.{end}", self.network));
        Ok(Locked { directory, scratch: beside("new"), index: beside("index"), _lock: file })
    }

    /// Whether a reservation could be written, found out in constant time and without a trace.
    ///
    /// # Errors
    /// It could not.
    pub fn probe(&self) -> Result<(), StoreError> {
        let directory = self.directory();
        let present = directory.ancestors().find(|ancestor| ancestor.exists());
        let present = present.unwrap_or(Path::new("."));
        place::probe(present).map_err(StoreError::at("write to", present))
    }
}

/// The store while this process holds its lock; dropping it lets go.
#[derive(Debug)]
pub struct Locked {
    directory: PathBuf,
    scratch: PathBuf,
    index: PathBuf,
    _lock: File,
}

impl Locked {
    /// Reads every reservation.
    ///
    /// # Errors
    /// The directory cannot be read. A file in it that cannot is [`Record::Foreign`].
    pub fn scan(&self) -> Result<Snapshot, StoreError> {
        Snapshot::read(&self.directory)
            .map_err(StoreError::at("read the directory", &self.directory))
    }

    /// Everything that an ADD, a DEL or a CHECK asks of the network's reservations and does to them.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ledger(self, earlier: OfEarlierBoots) -> Result<Ledger, StoreError> {
        Ledger::open(self, earlier)
    }

    /// See [`Ledger::reserve`].
    fn reserve(&self, address: IpAddr, holder: &Holder) -> Result<bool, StoreError> {
        let path = self.reservation(address);
        let contents = holder.contents();
        let place = || match place::create(&path, contents.as_bytes(), &self.scratch) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StoreError::at("write the reservation", &path)(error)),
        };
        if place()? {
            return Ok(true);
        }
        if snapshot::read_record(&path) != Record::Empty {
            return Ok(false);
        }
        remove(&path)?;
        place()
    }

    /// Removes the reservation of an address, whosever it is.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn unreserve(&self, address: IpAddr) -> Result<(), StoreError> {
        remove(&self.reservation(address))
    }

    /// The address last reserved of the range set with this number. What cannot be read or is no
    /// address counts as none: only the round robin begins anew.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = std::fs::read_to_string(self.last_reserved_file(set)).ok()?;
        text.trim().parse().ok().map(|address: IpAddr| address.to_canonical())
    }

    /// See [`Ledger::set_last_reserved`].
    fn set_last_reserved(&self, set: usize, address: IpAddr) -> Result<(), StoreError> {
        let path = self.last_reserved_file(set);
        place::overwrite(&path, address.to_string().as_bytes(), &self.scratch)
            .map_err(StoreError::at("write", &path))
    }

    /// Removes what was reserved before this machine was booted: by the clock on the wall, so that
    /// a file is kept in doubt.
    fn reclaim(&self) -> Result<(), StoreError> {
        let unknown = StoreError::at("tell the time of boot for", &self.directory);
        let boot = boot::instant().map_err(unknown)?;
        let is_older = |path: &Path| {
            let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified < boot)
        };
        let snapshot = self.scan()?;
        let held = snapshot.reservations().filter(|entry| entry.record != Record::Foreign);
        held.filter(|entry| is_older(&entry.path)).try_for_each(|entry| remove(&entry.path))
    }

    fn reservation(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }

    fn last_reserved_file(&self, set: usize) -> PathBuf {
        self.directory.join(format!("{LAST_RESERVED}{set}"))
    }
}

/// Removes a file; none is fine. On a read-only filesystem the kernel does not look whether there
/// is one before it refuses.
fn remove(path: &Path) -> Result<(), StoreError> {
    let is_absent = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => true,
        io::ErrorKind::ReadOnlyFilesystem => path.symlink_metadata().is_err(),
        _ => false,
    };
    match std::fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(StoreError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
