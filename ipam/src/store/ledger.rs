//! The reservations of a network while its lock is held: what is asked of them, and what is changed.
//!
//! The directory is the truth and is changed first; the index follows. What the index says of a
//! holder is verified by reading the reservation. Whenever the index is not to be believed, cannot
//! be read or cannot be written, the whole directory is read instead, as the reference always does.

use std::collections::HashSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::index::{self, Index, Key, Stamp};
use super::record::{Holder, Record};
use super::snapshot::{Entry, Snapshot, read_record};
use super::{Locked, StoreError, boot, remove};

/// The reservations of a locked network.
#[derive(Debug)]
pub struct Ledger {
    locked: Locked,
    directory: File,
    index: Index,
    /// The directory, where it had to be read. Changes made since are not in it.
    scanned: Option<Snapshot>,
    /// Whether the index is in its file, for the next calls.
    lasting: bool,
    /// Whether it would be believed by the next call, as it is.
    sealed: bool,
}

/// What to do with what was reserved before this machine was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfEarlierBoots {
    /// It stays until its DEL.
    Keep,
    /// It goes: its containers have not survived.
    Reclaim,
}

impl Ledger {
    pub(super) fn open(locked: Locked, earlier: OfEarlierBoots) -> Result<Self, StoreError> {
        let path = &locked.directory;
        let directory = File::open(path).map_err(StoreError::at("open the directory", path))?;
        let stamp = Stamp::of(&directory).ok();
        let known = stamp.and_then(|stamp| Index::open(&locked.index, &stamp).ok().flatten());
        if let Some(index) = known {
            return Ok(Self {
                locked,
                directory,
                index,
                scanned: None,
                lasting: true,
                sealed: true,
            });
        }
        let is_first = stamp.is_some_and(|stamp| !index::is_of_this_boot(&locked.index, &stamp));
        if earlier == OfEarlierBoots::Reclaim && is_first {
            locked.reclaim()?;
        }
        Self::from_directory(locked, directory)
    }

    fn from_directory(locked: Locked, directory: File) -> Result<Self, StoreError> {
        let snapshot = locked.scan()?;
        let index = index_of(&snapshot).map_err(StoreError::at("index", &locked.directory))?;
        // Of a file that no address tells, the index cannot know: then the directory is read
        // each time.
        let is_plain = snapshot.is_plain(&locked.directory);
        let write = || index.write(&locked.index, &locked.scratch).ok();
        let written = if is_plain { write() } else { None };
        let lasting = written.is_some();
        let index = written.unwrap_or_else(|| index.unwritten());
        Ok(Self { locked, directory, index, scanned: Some(snapshot), lasting, sealed: false })
    }

    /// The addresses that the holder has, those included that name its container alone, as old
    /// versions wrote them: they may be the holder's.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn addresses_of(&mut self, holder: &Holder) -> Result<Vec<IpAddr>, StoreError> {
        if let Some(known) = self.known(holder) {
            return Ok(known.into_iter().flatten().map(|(address, _)| address).collect());
        }
        Ok(self.snapshot()?.addresses_of(holder))
    }

    /// The first address of `from..=to` that is nobody's. A reservation without content is nobody's.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn next_free(&mut self, from: IpAddr, to: IpAddr) -> Result<Option<IpAddr>, StoreError> {
        if let Ok(found) = self.index.next_free(from, to) {
            return Ok(found);
        }
        self.read_directory()?;
        let unreadable = StoreError::at("read the index of", &self.locked.directory);
        self.index.next_free(from, to).map_err(unreadable)
    }

    /// The addresses that were freed within this time, the one freed first at the front; one that
    /// was freed twice is there twice. What is not known, such as after a boot, does not rest.
    pub fn freed_within(&self, time: Duration) -> Vec<IpAddr> {
        let since = boot::uptime().map(|now| now.saturating_sub(time));
        since.and_then(|since| self.index.freed_after(since)).unwrap_or_default()
    }

    /// Reserves `address` for `holder`; `false` if it is somebody's already.
    ///
    /// The name appears with its whole content or not at all, and never over another's. A
    /// reservation without content is nobody's and is replaced.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reserve(&mut self, address: IpAddr, holder: &Holder) -> Result<bool, StoreError> {
        let is_new = self.locked.reserve(address, holder)?;
        self.note(|index| {
            index.take(address)?;
            if is_new { index.hold(holder.key(), address) } else { Ok(()) }
        })?;
        Ok(is_new)
    }

    /// Takes back a reservation that this process has just made for `holder`.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn unreserve(&mut self, address: IpAddr, holder: &Holder) -> Result<(), StoreError> {
        self.locked.unreserve(address)?;
        self.note(|index| {
            index.free(address)?;
            index.drop_holder(holder.key(), address)
        })
    }

    /// The address last reserved of the range set with this number. What cannot be read or is no
    /// address counts as none: only the round robin begins anew.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        self.locked.last_reserved(set)
    }

    /// Notes the address last reserved of the range set with this number.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_last_reserved(&mut self, set: usize, address: IpAddr) -> Result<(), StoreError> {
        self.sealed = false;
        self.locked.set_last_reserved(set, address)
    }

    /// Removes what `holder` has ([`Snapshot::matching`]), and scratch that a killed process left,
    /// and says how many reservations that were. None is fine.
    ///
    /// # Errors
    /// The first file that could not be removed, after all others were.
    pub fn release(&mut self, holder: &Holder) -> Result<usize, StoreError> {
        let found = match self.known(holder) {
            Some([exact, legacy]) => {
                let found = if exact.is_empty() { legacy } else { exact };
                found.into_iter().map(|(address, key)| self.reservation(address, key)).collect()
            }
            None => {
                let entries = self.snapshot()?.matching(holder);
                entries.into_iter().map(Reservation::of).collect()
            }
        };
        let removed = self.remove_all(found);
        remove(&self.locked.scratch)?;
        removed
    }

    /// Removes every reservation that belongs to none of `valid`, and scratch that a killed
    /// process left, and says how many reservations that were.
    ///
    /// # Errors
    /// The first file that could not be removed, after all others were.
    pub fn retain(&mut self, valid: &HashSet<Holder>) -> Result<usize, StoreError> {
        remove(&self.locked.scratch)?;
        let containers: HashSet<&str> = valid.iter().map(Holder::container_id).collect();
        let is_garbage = |entry: &&Entry| match &entry.record {
            Record::Held(holder) => !valid.contains(holder),
            // The old form does not say which interface: any valid one may be meant.
            Record::Legacy(container_id) => !containers.contains(container_id.as_str()),
            Record::Empty => true,
            Record::Foreign => false,
        };
        // All must be looked at; the index stays what it is.
        let snapshot = self.locked.scan()?;
        let garbage = snapshot.reservations().filter(is_garbage);
        self.remove_all(garbage.map(Reservation::of).collect())
    }

    /// Lets the next call believe the index. Without this, that one reads the directory: nothing is
    /// lost when a call ends early.
    pub fn close(mut self) {
        if self.lasting
            && !self.sealed
            && let Ok(stamp) = Stamp::set(&self.directory)
        {
            // An index that is not sealed is not believed.
            self.index.seal(&stamp).ok();
        }
    }

    /// Removes files, as many as possible, then reports the first that stayed.
    fn remove_all(&mut self, found: Vec<Reservation>) -> Result<usize, StoreError> {
        let mut removed = 0;
        let mut first_error = None;
        for reservation in found {
            match self.remove(&reservation) {
                Ok(()) => removed += 1,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(removed), Err)
    }

    fn remove(&mut self, reservation: &Reservation) -> Result<(), StoreError> {
        remove(&reservation.path)?;
        let Some(address) = reservation.address else { return Ok(()) };
        let now = boot::uptime().unwrap_or_default();
        self.note(|index| {
            index.free(address)?;
            reservation.key.map_or(Ok(()), |key| index.drop_holder(key, address))?;
            index.note_freed(address, now)
        })
    }

    /// The holder's addresses by the index, exact and legacy, with their keys; `None` if it is the
    /// directory that must be asked: it was read anyway, or the index does not hold.
    fn known(&self, holder: &Holder) -> Option<[Vec<(IpAddr, Key)>; 2]> {
        if self.scanned.is_some() {
            return None;
        }
        let legacy = Record::Legacy(holder.container_id().to_owned());
        let verified = |record: &Record| {
            let key = record.key()?;
            let addresses = self.index.held_by(key).ok()?;
            let holds =
                |address: &IpAddr| read_record(&self.locked.reservation(*address)) == *record;
            let all = addresses.iter().all(holds);
            all.then(|| addresses.into_iter().map(|address| (address, key)).collect())
        };
        Some([verified(&Record::Held(holder.clone()))?, verified(&legacy)?])
    }

    /// The directory, read now if it was not before.
    fn snapshot(&mut self) -> Result<&Snapshot, StoreError> {
        if self.scanned.is_none() {
            self.read_directory()?;
        }
        Ok(self.scanned.get_or_insert_default())
    }

    /// Gives up on the index that was found: the next call must not believe it either.
    fn read_directory(&mut self) -> Result<(), StoreError> {
        let directory = &self.locked.directory;
        let snapshot = self.locked.scan()?;
        let index = index_of(&snapshot).map_err(StoreError::at("index", directory))?;
        self.index = index.unwritten();
        self.scanned = Some(snapshot);
        self.lasting = false;
        // Where it cannot be removed, what is asked of it is verified again.
        std::fs::remove_file(&self.locked.index).ok();
        Ok(())
    }

    /// Lets the index follow a change of the directory; where it cannot, the directory is read.
    fn note(
        &mut self,
        change: impl FnOnce(&mut Index) -> std::io::Result<()>,
    ) -> Result<(), StoreError> {
        self.sealed = false;
        let noted = self.make_room().and_then(|()| change(&mut self.index));
        if noted.is_err() { self.read_directory() } else { Ok(()) }
    }

    fn make_room(&mut self) -> std::io::Result<()> {
        if !self.index.is_full() {
            return Ok(());
        }
        let grown = self.index.grown()?;
        self.index = if self.lasting {
            grown.write(&self.locked.index, &self.locked.scratch)?
        } else {
            grown.unwritten()
        };
        Ok(())
    }

    fn reservation(&self, address: IpAddr, key: Key) -> Reservation {
        Reservation {
            path: self.locked.reservation(address),
            address: Some(address),
            key: Some(key),
        }
    }
}

/// An index of what was read.
fn index_of(snapshot: &Snapshot) -> std::io::Result<Index<Vec<u8>>> {
    let held = |entry: &Entry| Some((entry.record.key()?, entry.address?));
    let holders: Vec<_> = snapshot.reservations().filter_map(held).collect();
    let taken: Vec<_> = snapshot.taken().collect();
    Index::build(&holders, &taken)
}

/// A file that is to be removed.
struct Reservation {
    path: PathBuf,
    address: Option<IpAddr>,
    key: Option<Key>,
}

impl Reservation {
    fn of(entry: &Entry) -> Self {
        Self { path: entry.path.clone(), address: entry.address, key: entry.record.key() }
    }
}

#[cfg(test)]
mod tests;
