//! Reservations in the format of host-local, whatever number of them there is.
//!
//! Under a lock: an index says whether the owner has an address (no other way is independent of how
//! many there are) and is believed only as long as the folder is as it was; a file gets its content
//! before its name; the last address is noted for the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

use crate::{Job, Result};

/// The first addresses that are given; the range is `10.88.0.0/16`, and no test gets to its end.
const FIRST_V4: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 2);

/// The index: a stamp, then a place for each owner, by its number. No two owners of a test share one.
const STAMP: usize = 16;
const PLACE: usize = 64;
const PLACES: u64 = 1 << 20;

/// The reservations of a network, locked while this value lives.
pub(crate) struct Reservations<'a> {
    folder: &'a Path,
    index: File,
    _lock: File,
}

/// The addresses of one owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl<'a> Reservations<'a> {
    pub(crate) fn lock(job: &'a Job) -> Result<Self> {
        let folder = job.reservations.as_path();
        let lock = open_or_create(&folder.join("lock"))?;
        lock.lock()?;
        // Not in the folder, where the reference reads all files.
        let index = open_or_create(&folder.with_extension("floor-index"))?;
        Ok(Reservations { folder, index, _lock: lock })
    }

    /// Reserves an address of each family for an owner that has none.
    pub(crate) fn reserve(&self, job: &Job) -> Result<Addresses> {
        self.check_stamp()?;
        if self.place(job)?.is_some() {
            return Err(format!("{:?} has an address", job.container_id).into());
        }
        let owner = job.owner();
        let v4 = self.next("last_reserved_ip.0", FIRST_V4, &owner, |v4| {
            Ipv4Addr::from_bits(v4.to_bits().wrapping_add(1))
        })?;
        let next = |v6: Ipv6Addr| Ipv6Addr::from_bits(v6.to_bits().wrapping_add(1));
        let v6 = if job.dual_stack {
            Some(self.next("last_reserved_ip.1", FIRST_V6, &owner, next)?)
        } else {
            None
        };
        let addresses = Addresses { v4, v6 };
        self.put_place(job, Some(addresses))?;
        self.put_stamp()?;
        Ok(addresses)
    }

    /// Releases what the owner has; that it is the owner's is read in the files themselves.
    pub(crate) fn release(&self, job: &Job) -> Result<Option<Addresses>> {
        self.check_stamp()?;
        let Some(addresses) = self.place(job)? else { return Ok(None) };
        self.remove(&addresses.v4.to_string(), job)?;
        if let Some(v6) = addresses.v6 {
            self.remove(&v6.to_string(), job)?;
        }
        self.put_place(job, None)?;
        self.put_stamp()?;
        Ok(Some(addresses))
    }

    /// The next free address behind the one that was given last.
    fn next<A: Copy + ToString + std::str::FromStr>(
        &self,
        last: &str,
        first: A,
        owner: &str,
        next: impl Fn(A) -> A,
    ) -> Result<A> {
        let mut last = open_or_create(&self.folder.join(last))?;
        let text = read_text(&mut last)?;
        let mut address = text.parse().map_or(first, &next);
        while !self.create(&address.to_string(), owner)? {
            address = next(address);
        }
        let given = address.to_string();
        last.write_all_at(given.as_bytes(), 0)?;
        if given.len() < text.len() {
            last.set_len(given.len() as u64)?;
        }
        Ok(address)
    }

    /// A file that has its content before its name; `false` when the name is taken.
    fn create(&self, name: &str, owner: &str) -> Result<bool> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).custom_flags(OFlag::O_TMPFILE.bits());
        let mut file = options.open(self.folder)?;
        file.write_all(owner.as_bytes())?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let path = self.folder.join(name);
        match linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW) {
            Err(Errno::EEXIST) => Ok(false),
            linked => Ok(linked.map(|()| true)?),
        }
    }

    fn remove(&self, name: &str, job: &Job) -> Result<()> {
        let path = self.folder.join(name);
        let owner = read_text(&mut File::open(&path)?)?;
        if owner == job.owner() {
            fs::remove_file(&path)?;
        }
        Ok(())
    }

    /// Whether the folder is as the index knows it. What follows from that is a plugin's concern.
    fn check_stamp(&self) -> Result<bool> {
        let mut known = [0; STAMP];
        let read = self.index.read_at(&mut known, 0)?;
        Ok(read == STAMP && known == self.stamp()?)
    }

    fn put_stamp(&self) -> Result<()> {
        Ok(self.index.write_all_at(&self.stamp()?, 0)?)
    }

    /// When the folder was changed last.
    fn stamp(&self) -> Result<[u8; STAMP]> {
        let folder = fs::metadata(self.folder)?;
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&folder.mtime().to_ne_bytes());
        stamp[8..].copy_from_slice(&folder.mtime_nsec().to_ne_bytes());
        Ok(stamp)
    }

    fn place(&self, job: &Job) -> Result<Option<Addresses>> {
        let mut place = [0; PLACE];
        let read = self.index.read_at(&mut place, offset(job))?;
        let text = str::from_utf8(&place[..read])?.trim_end_matches('\0');
        let mut words = text.split(' ');
        let Some(v4) = words.next().and_then(|word| word.parse().ok()) else { return Ok(None) };
        Ok(Some(Addresses { v4, v6: words.next().and_then(|word| word.parse().ok()) }))
    }

    fn put_place(&self, job: &Job, addresses: Option<Addresses>) -> Result<()> {
        let text = match addresses {
            Some(Addresses { v4, v6: Some(v6) }) => format!("{v4} {v6}"),
            Some(Addresses { v4, v6: None }) => v4.to_string(),
            None => String::new(),
        };
        let mut place = [0; PLACE];
        place.iter_mut().zip(text.bytes()).for_each(|(byte, letter)| *byte = letter);
        Ok(self.index.write_all_at(&place, offset(job))?)
    }
}

fn offset(job: &Job) -> u64 {
    STAMP as u64 + job.number() % PLACES * PLACE as u64
}

fn open_or_create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The text of a file that holds a line or two: in one call, without a question for its size.
pub(crate) fn read_text(file: &mut File) -> Result<String> {
    let mut bytes = [0; 256];
    let length = file.read(&mut bytes)?;
    Ok(str::from_utf8(&bytes[..length])?.to_owned())
}
