//! A hash table of slots of one size, in a file or in memory: what is looked up is read, and
//! nothing else.
//!
//! Slots are grouped in buckets, which are read whole. A table is at most half full, so that a
//! bucket almost never is, and a look-up is one read. An entry whose bucket is full goes to the
//! next one; so that it is found there, a slot of a full bucket is not emptied but marked.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

/// Slots in a bucket.
pub(super) const BUCKET: u64 = 128;

/// The first byte of a slot that holds nothing.
const EMPTY: u8 = 0;
/// The first byte of a slot that held something while its bucket was full.
const MARKED: u8 = 1;
/// The first byte of a slot that holds something.
pub(super) const HELD: u8 = 2;

/// Where bytes lie.
pub(in crate::store) trait Storage: Debug {
    /// Fills `buffer` with what lies at `offset`.
    ///
    /// # Errors
    /// There is less.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Puts `bytes` to `offset`.
    ///
    /// # Errors
    /// There is no room.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl Storage for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

impl Storage for Box<dyn Storage> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read(offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write(offset, bytes)
    }
}

/// Of a fixed size: a table is made anew to grow.
impl Storage for Vec<u8> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let place = start.checked_add(bytes.len()).and_then(|end| self.get_mut(start..end));
        place.ok_or(io::ErrorKind::StorageFull)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// The place and size of a table of slots of `SLOT` bytes. The first byte of a slot is the
/// table's; an entry begins with [`HELD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table<const SLOT: usize> {
    /// Where it begins.
    pub(super) offset: u64,
    /// How many buckets it has, at least one.
    pub(super) buckets: u64,
}

impl<const SLOT: usize> Table<SLOT> {
    /// A table with room for `entries`, at `offset`.
    pub(super) fn with_room_for(entries: u64, offset: u64) -> Self {
        let buckets = (entries.saturating_mul(2) / BUCKET).saturating_add(1);
        Self { offset, buckets: buckets.next_power_of_two() }
    }

    /// Where it ends.
    pub(super) fn end(self) -> u64 {
        self.offset + self.buckets * Self::bucket_bytes()
    }

    /// Whether one entry more than these would be more than half of the slots.
    pub(super) fn is_full_with(self, entries: u64) -> bool {
        entries >= self.buckets * BUCKET / 2
    }

    /// The first entry that `hash` leads to and that `is_it` says yes to, with its place.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub(super) fn find(
        self,
        storage: &impl Storage,
        hash: u64,
        is_it: impl Fn(&[u8; SLOT]) -> bool,
    ) -> io::Result<Option<(u64, [u8; SLOT])>> {
        self.walk(storage, hash, |place, slot| {
            if slot[0] == HELD && is_it(slot) { Some((place, *slot)) } else { None }
        })
    }

    /// All entries that `hash` leads to, and others of the same buckets.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub(super) fn candidates(
        self,
        storage: &impl Storage,
        hash: u64,
    ) -> io::Result<Vec<[u8; SLOT]>> {
        let mut found = Vec::new();
        self.walk(storage, hash, |_, slot| {
            if slot[0] == HELD {
                found.push(*slot);
            }
            None::<()>
        })?;
        Ok(found)
    }

    /// Puts an entry where `hash` leads.
    ///
    /// # Errors
    /// The storage cannot be read or written, or every slot is taken.
    pub(super) fn insert(
        self,
        storage: &mut impl Storage,
        hash: u64,
        entry: &[u8; SLOT],
    ) -> io::Result<()> {
        let free = self.walk(storage, hash, |place, slot| (slot[0] != HELD).then_some(place))?;
        storage.write(free.ok_or(io::ErrorKind::StorageFull)?, entry)
    }

    /// Takes away the entry at a place that [`Table::find`] told.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub(super) fn remove(self, storage: &mut impl Storage, place: u64) -> io::Result<()> {
        let bucket = (place - self.offset) / Self::bucket_bytes();
        let bytes = self.bucket(storage, bucket)?;
        let is_full = bytes.chunks_exact(SLOT).all(|slot| slot[0] != EMPTY);
        storage.write(place, &[if is_full { MARKED } else { EMPTY }])
    }

    /// Every entry, in no order.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub(super) fn entries(self, storage: &impl Storage) -> io::Result<Vec<[u8; SLOT]>> {
        let mut entries = Vec::new();
        for bucket in 0..self.buckets {
            let bytes = self.bucket(storage, bucket)?;
            let slots = bytes.chunks_exact(SLOT).filter_map(|slot| slot.first_chunk());
            entries.extend(slots.filter(|slot| slot[0] == HELD));
        }
        Ok(entries)
    }

    /// Shows the slots from where `hash` leads until one is found, or a bucket has an empty slot.
    /// That bucket is shown to its end: nothing of this hash lies behind it.
    fn walk<T>(
        self,
        storage: &impl Storage,
        hash: u64,
        mut look: impl FnMut(u64, &[u8; SLOT]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let first = hash & (self.buckets - 1);
        for turn in 0..self.buckets {
            let bucket = (first + turn) & (self.buckets - 1);
            let bytes = self.bucket(storage, bucket)?;
            let start = self.offset + bucket * Self::bucket_bytes();
            match look_through(&bytes, start, &mut look) {
                ControlFlow::Break(found) => return Ok(found),
                ControlFlow::Continue(()) => {}
            }
        }
        Ok(None)
    }

    fn bucket(self, storage: &impl Storage, bucket: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; BUCKET as usize * SLOT];
        storage.read(self.offset + bucket * Self::bucket_bytes(), &mut bytes)?;
        Ok(bytes)
    }

    const fn bucket_bytes() -> u64 {
        BUCKET * SLOT as u64
    }
}

/// Shows the slots of a bucket that begins at `start`; goes on behind it only if it is full.
fn look_through<const SLOT: usize, T>(
    bytes: &[u8],
    start: u64,
    look: &mut impl FnMut(u64, &[u8; SLOT]) -> Option<T>,
) -> ControlFlow<Option<T>> {
    let mut is_full = true;
    let places = (start..).step_by(SLOT);
    for (place, slot) in places.zip(bytes.chunks_exact(SLOT).filter_map(|slot| slot.first_chunk()))
    {
        if let Some(found) = look(place, slot) {
            return ControlFlow::Break(Some(found));
        }
        is_full &= slot[0] != EMPTY;
    }
    if is_full { ControlFlow::Continue(()) } else { ControlFlow::Break(None) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn entry(hash: u64, number: u64) -> [u8; 32] {
        let mut entry = [0; 32];
        entry[0] = HELD;
        entry[8..16].copy_from_slice(&hash.to_ne_bytes());
        entry[16..24].copy_from_slice(&number.to_ne_bytes());
        entry
    }

    fn memory(table: Table<32>) -> Vec<u8> {
        vec![0; usize::try_from(table.end()).unwrap()]
    }

    #[test]
    fn there_is_room_for_what_was_asked_for() {
        for entries in [0, 1, 63, 64, 65, 1000] {
            let table = Table::<32>::with_room_for(entries, 100);
            assert!(entries == 0 || !table.is_full_with(entries - 1), "{entries}");
            assert_eq!(table.end() - table.offset, table.buckets * BUCKET * 32);
        }
    }

    #[test]
    fn a_storage_in_memory_ends() {
        let mut memory = vec![0; 4];
        assert!(Storage::write(&mut memory, 2, &[1, 2]).is_ok());
        assert!(Storage::write(&mut memory, 3, &[1, 2]).is_err());
        assert!(Storage::read(&memory, 3, &mut [0; 2]).is_err());
        assert!(Storage::read(&memory, u64::MAX, &mut [0; 2]).is_err());
    }

    #[test]
    fn a_table_without_room_says_so() {
        let table = Table::<32> { offset: 0, buckets: 1 };
        let mut memory = memory(table);
        for number in 0..BUCKET {
            table.insert(&mut memory, 7, &entry(7, number)).unwrap();
        }
        let error = table.insert(&mut memory, 7, &entry(7, 99)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    proptest! {
        /// Against a set. Few hashes, so that buckets overflow, and few buckets, so that an
        /// overflow runs into the next bucket's own entries and round the end.
        #[test]
        fn it_is_a_set(changes in prop::collection::vec((0u64..4, 0u64..120, any::<bool>()), 1..800)) {
            let table = Table::<32> { offset: 64, buckets: 4 };
            let mut memory = memory(table);
            let mut model = BTreeSet::new();
            for (hash, number, put) in changes {
                let wanted = entry(hash, number);
                let there = table.find(&memory, hash, |slot| *slot == wanted).unwrap();
                prop_assert_eq!(there.is_some(), model.contains(&(hash, number)));
                match there {
                    None if put => {
                        table.insert(&mut memory, hash, &wanted).unwrap();
                        model.insert((hash, number));
                    }
                    Some((place, _)) if !put => {
                        table.remove(&mut memory, place).unwrap();
                        model.remove(&(hash, number));
                    }
                    _ => {}
                }
            }
            for hash in 0..4 {
                let candidates = table.candidates(&memory, hash).unwrap();
                let of_model = model.iter().filter(|(of, _)| *of == hash);
                for (hash, number) in of_model {
                    prop_assert!(candidates.contains(&entry(*hash, *number)));
                }
            }
            prop_assert_eq!(table.entries(&memory).unwrap().len(), model.len());
        }
    }
}
