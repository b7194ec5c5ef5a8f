//! Everything that lies in a network's directory, as it was at one instant under the lock.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::record::{Holder, Record};
use super::{LAST_RESERVED, LOCK};

/// No reservation is longer: the container ID came in one environment variable, which the kernel
/// limits to 128 KiB, and the interface name has 15 bytes.
const LONGEST_RECORD: u64 = 128 * 1024 + 32;

/// One file that is or could be a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// The address that its name is, if it is one.
    pub address: Option<IpAddr>,
    /// What it says.
    pub record: Record,
}

/// The files of a network's directory, `lock` and `last_reserved_ip.*` excepted.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    entries: Vec<Entry>,
    taken: HashSet<IpAddr>,
}

impl Snapshot {
    /// Reads the directory, and the directories in it, as the reference does.
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        let mut snapshot = Self::default();
        snapshot.read_directory(directory)?;
        let in_reach =
            snapshot.entries.iter().filter(|entry| entry.path.parent() == Some(directory));
        snapshot.taken = in_reach
            .filter(|entry| entry.record != Record::Empty)
            .filter_map(|entry| entry.address)
            .collect();
        Ok(snapshot)
    }

    fn read_directory(&mut self, directory: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name == LOCK || name.starts_with(LAST_RESERVED) {
                continue;
            }
            let address = name.parse().ok().map(|address: IpAddr| address.to_canonical());
            let record = match entry.file_type() {
                Ok(kind) if kind.is_file() => read_file(&path),
                // What cannot be read inside stays unknown; a name that is an address is taken.
                Ok(kind) if kind.is_dir() => {
                    self.read_directory(&path).ok();
                    Record::Foreign
                }
                // Nothing else is opened: a pipe would hold this process, and with it the lock.
                _ => Record::Foreign,
            };
            self.entries.push(Entry { path, address, record });
        }
        Ok(())
    }

    /// Whether the address is somebody's. A reservation without content is nobody's.
    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.taken.contains(&address)
    }

    /// Whether every file is one that its address tells: its name in `directory` is the address as
    /// this store writes it.
    pub(super) fn is_plain(&self, directory: &Path) -> bool {
        let is_plain = |entry: &Entry| {
            let address = entry.address.map(|address| address.to_string());
            address.is_some_and(|address| entry.path == directory.join(address))
        };
        self.entries.iter().all(is_plain)
    }

    /// The addresses that are somebody's.
    pub(super) fn taken(&self) -> impl Iterator<Item = IpAddr> {
        self.taken.iter().copied()
    }

    /// The files whose name is an address.
    pub fn reservations(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.address.is_some())
    }

    /// The files that name the holder; only if there is none, those that name its container
    /// alone, as old versions wrote them.
    pub fn matching(&self, holder: &Holder) -> Vec<&Entry> {
        let exact: Vec<&Entry> =
            self.entries.iter().filter(|entry| is_of(&entry.record, holder)).collect();
        if !exact.is_empty() {
            return exact;
        }
        self.entries.iter().filter(|entry| is_of_container(&entry.record, holder)).collect()
    }

    /// The addresses that the holder has, those included that name its container alone: they may
    /// be the holder's.
    pub fn addresses_of(&self, holder: &Holder) -> Vec<IpAddr> {
        self.reservations()
            .filter(|entry| is_of(&entry.record, holder) || is_of_container(&entry.record, holder))
            .filter_map(|entry| entry.address)
            .collect()
    }
}

fn is_of(record: &Record, holder: &Holder) -> bool {
    matches!(record, Record::Held(held) if held == holder)
}

fn is_of_container(record: &Record, holder: &Holder) -> bool {
    matches!(record, Record::Legacy(container_id) if container_id == holder.container_id())
}

/// What lies at `path` says; [`Record::Foreign`] when it is no regular file or cannot be read.
pub(super) fn read_record(path: &Path) -> Record {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => read_file(path),
        _ => Record::Foreign,
    }
}

fn read_file(path: &Path) -> Record {
    let mut content = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(LONGEST_RECORD + 1).read_to_end(&mut content));
    match read {
        Ok(length) if length as u64 <= LONGEST_RECORD => Record::parse(&content),
        _ => Record::Foreign,
    }
}
