//! What is in a network's directory, without reading it: who has which address, which are taken, and
//! which were freed lately. It makes the cost of a call independent of how many addresses are held.
//!
//! The truth is the directory. The index lies beside it, `<dataDir>/.<network>.index`, and is
//! believed only if nobody else has changed the directory since it was written ([`stamp`]); else it
//! is made anew from the directory. Whoever changes it holds the network's lock. It is written in
//! place: a process that is killed over it has changed the directory before, so that the stamp of
//! what it leaves does not fit.
//!
//! ```text
//! 0        magic, number of entries of both tables, their sizes, place in the ring, stamp
//! 512      ring: the last 1,024 addresses that were freed, and when
//! 25088    holders: a hash of container ID and interface -> an address; a slot for each reservation
//! ...      leaves: the upper 120 bits of an address -> which of these 256 addresses are taken
//! ```

mod freed;
mod stamp;
mod table;

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

pub(super) use stamp::Stamp;
use table::{HELD, Storage, Table};

use super::place;

/// Another one for each change of the layout or of a hash.
const MAGIC: u64 = u64::from_ne_bytes(*b"cbr0ipm1");
/// Magic, the five numbers of [`Sizes`], and the stamp.
const HEADER: usize = 6 * 8 + stamp::LENGTH;
/// Where the ring is; the header ends before.
const RING: u64 = 512;
/// Addresses in a leaf.
const LEAF: u128 = 256;
/// Addresses whose leaves lie in one bucket, so that they are read at once. They fill half of it.
const GROUP: u128 = LEAF * (table::BUCKET / 2) as u128;

/// A holder's key: a hash of who it is. See [`super::Holder::key`].
pub(super) type Key = u64;

/// An index that is true of its directory, as far as the one who opened it has seen to that.
#[derive(Debug)]
pub(super) struct Index<S = Box<dyn Storage>> {
    storage: S,
    sizes: Sizes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    holders: Table<32>,
    held: u64,
    leaves: Table<64>,
    leaved: u64,
    /// How many addresses were freed since the ring began.
    freed: u64,
}

impl Index {
    /// The index at `path`; `None` if there is none, or it is not of this directory as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(path: &Path, stamp: &Stamp) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut header = [0; HEADER];
        match file.read(0, &mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let sizes = Sizes::of(&header, stamp);
        Ok(sizes.map(|sizes| Self { storage: Box::new(file), sizes }))
    }
}

/// Whether the index at `path`, believed or not, was last believed in this boot.
pub(super) fn is_of_this_boot(path: &Path, stamp: &Stamp) -> bool {
    let mut header = [0; HEADER];
    let read = File::open(path).and_then(|file| file.read(0, &mut header));
    read.is_ok() && stamp.is_of_the_boot_of(&header[HEADER - stamp::LENGTH..])
}

impl Index<Vec<u8>> {
    /// An index of these holders and of these taken addresses. It has room for as many again.
    pub(super) fn build(holders: &[(Key, IpAddr)], taken: &[IpAddr]) -> io::Result<Self> {
        let sizes = Sizes::with_room_for(2 * holders.len() as u64, 2 * leaves_of(taken) as u64);
        let length = usize::try_from(sizes.leaves.end()).map_err(io::Error::other)?;
        let mut index = Index { storage: vec![0; length], sizes };
        for address in taken {
            index.take(*address)?;
        }
        for (key, address) in holders {
            index.hold(*key, *address)?;
        }
        Ok(index)
    }

    /// Puts it to `path`, whole or not at all, by way of `scratch`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, path: &Path, scratch: &Path) -> io::Result<Index> {
        place::replace(path, &self.storage, scratch)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Index { storage: Box::new(file), sizes: self.sizes })
    }

    /// Keeps it in memory alone.
    pub(super) fn unwritten(self) -> Index {
        Index { storage: Box::new(self.storage), sizes: self.sizes }
    }
}

impl<S: Storage> Index<S> {
    /// The addresses whose holders may have this key.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(super) fn held_by(&self, key: Key) -> io::Result<Vec<IpAddr>> {
        let slots = self.sizes.holders.candidates(&self.storage, key)?;
        let of_key = slots.iter().filter(|slot| slot[8..16] == key.to_ne_bytes());
        Ok(of_key.filter_map(|slot| Some(to_address(*slot[16..].first_chunk()?))).collect())
    }

    /// Notes that an address is reserved for the holder of this key.
    ///
    /// # Errors
    /// The index cannot be written, or is full.
    pub(super) fn hold(&mut self, key: Key, address: IpAddr) -> io::Result<()> {
        let entry = holder_slot(key, address);
        self.sizes.holders.insert(&mut self.storage, key, &entry)?;
        self.sizes.held += 1;
        Ok(())
    }

    /// Takes back [`Index::hold`].
    ///
    /// # Errors
    /// The index cannot be written.
    pub(super) fn drop_holder(&mut self, key: Key, address: IpAddr) -> io::Result<()> {
        let entry = holder_slot(key, address);
        let found = self.sizes.holders.find(&self.storage, key, |slot| *slot == entry)?;
        if let Some((place, _)) = found {
            self.sizes.holders.remove(&mut self.storage, place)?;
            self.sizes.held = self.sizes.held.saturating_sub(1);
        }
        Ok(())
    }

    /// Notes that an address is somebody's.
    ///
    /// # Errors
    /// The index cannot be written, or is full.
    pub(super) fn take(&mut self, address: IpAddr) -> io::Result<()> {
        self.change_leaf(address, |byte, bit| byte | bit)
    }

    /// Notes that an address is nobody's.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(super) fn free(&mut self, address: IpAddr) -> io::Result<()> {
        self.change_leaf(address, |byte, bit| byte & !bit)
    }

    /// The first address of `from..=to` that is nobody's.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(super) fn next_free(&self, from: IpAddr, to: IpAddr) -> io::Result<Option<IpAddr>> {
        let (mut at, end) = (to_bits(from), to_bits(to));
        loop {
            let leaves = self.sizes.leaves.candidates(&self.storage, leaf_hash(at))?;
            let last = end.min(at | (GROUP - 1));
            if let Some(found) = first_free(&leaves, at, last) {
                return Ok(Some(from_bits(found)));
            }
            match last.checked_add(1).filter(|next| *next <= end) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
    }

    /// Notes that an address was freed at this time since boot.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(super) fn note_freed(&mut self, address: IpAddr, at: Duration) -> io::Result<()> {
        freed::write(&mut self.storage, RING, self.sizes.freed, to_bytes(address), at)?;
        self.sizes.freed += 1;
        Ok(())
    }

    /// The addresses freed after this time since boot, the one freed first at the front; one that
    /// was freed more than once is there as often.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(super) fn freed_after(&self, after: Duration) -> io::Result<Vec<IpAddr>> {
        let freed = freed::after(&self.storage, RING, self.sizes.freed, after)?;
        Ok(freed.into_iter().map(to_address).collect())
    }

    /// Whether it must grow before the next entry.
    pub(super) fn is_full(&self) -> bool {
        let Sizes { holders, held, leaves, leaved, .. } = self.sizes;
        holders.is_full_with(held) || leaves.is_full_with(leaved)
    }

    /// The same with room for as many entries again.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(super) fn grown(&self) -> io::Result<Index<Vec<u8>>> {
        let holders: Vec<(Key, IpAddr)> =
            self.sizes.holders.entries(&self.storage)?.iter().filter_map(holder_of).collect();
        let leaves = self.sizes.leaves.entries(&self.storage)?;
        let taken: Vec<IpAddr> = leaves.iter().flat_map(addresses_of).collect();
        let mut grown = Index::build(&holders, &taken)?;
        grown.inherit_freed(self)?;
        Ok(grown)
    }

    /// Takes over what is known of freed addresses.
    ///
    /// # Errors
    /// The older index cannot be read.
    pub(super) fn inherit_freed(&mut self, older: &Index<impl Storage>) -> io::Result<()> {
        freed::copy(&older.storage, &mut self.storage, RING)?;
        self.sizes.freed = older.sizes.freed;
        Ok(())
    }

    /// Writes what makes it believed: the directory is as `stamp` says.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(super) fn seal(&mut self, stamp: &Stamp) -> io::Result<()> {
        self.storage.write(0, &self.sizes.to_bytes(stamp))
    }

    fn leaf(&self, bits: u128) -> io::Result<Option<(u64, [u8; 64])>> {
        let prefix = (bits / LEAF).to_ne_bytes();
        let is_it = |slot: &[u8; 64]| slot[16..32] == prefix;
        self.sizes.leaves.find(&self.storage, leaf_hash(bits), is_it)
    }

    fn change_leaf(&mut self, address: IpAddr, change: impl Fn(u8, u8) -> u8) -> io::Result<()> {
        let bits = to_bits(address);
        let (byte, bit) = place_in_leaf(bits);
        if let Some((place, leaf)) = self.leaf(bits)? {
            return self.storage.write(place + byte as u64, &[change(leaf[byte], bit)]);
        }
        let mut leaf = [0; 64];
        leaf[0] = HELD;
        leaf[16..32].copy_from_slice(&(bits / LEAF).to_ne_bytes());
        leaf[byte] = change(0, bit);
        self.sizes.leaves.insert(&mut self.storage, leaf_hash(bits), &leaf)?;
        self.sizes.leaved += 1;
        Ok(())
    }
}

impl Sizes {
    fn with_room_for(holders: u64, leaves: u64) -> Self {
        let holders = Table::with_room_for(holders, RING + freed::LENGTH);
        let leaves = Table::with_room_for(leaves, holders.end());
        Sizes { holders, held: 0, leaves, leaved: 0, freed: 0 }
    }

    /// What a header says, if it is of this stamp.
    fn of(header: &[u8; HEADER], stamp: &Stamp) -> Option<Self> {
        let (words, sealed) = header.split_at(HEADER - stamp::LENGTH);
        let mut words = words.chunks_exact(8).filter_map(|word| word.first_chunk().copied());
        let mut word = || words.next().map(u64::from_ne_bytes);
        if word()? != MAGIC || sealed != stamp.to_bytes() {
            return None;
        }
        let (held, leaved, freed) = (word()?, word()?, word()?);
        let mut buckets = || word().filter(|size| size.is_power_of_two() && *size < 1 << 32);
        let holders = Table { offset: RING + freed::LENGTH, buckets: buckets()? };
        let leaves = Table { offset: holders.end(), buckets: buckets()? };
        Some(Sizes { holders, held, leaves, leaved, freed })
    }

    fn to_bytes(self, stamp: &Stamp) -> [u8; HEADER] {
        let words =
            [MAGIC, self.held, self.leaved, self.freed, self.holders.buckets, self.leaves.buckets];
        let bytes = words.into_iter().flat_map(u64::to_ne_bytes).chain(stamp.to_bytes());
        let mut header = [0; HEADER];
        header.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        header
    }
}

fn holder_slot(key: Key, address: IpAddr) -> [u8; 32] {
    let mut slot = [0; 32];
    slot[0] = HELD;
    slot[8..16].copy_from_slice(&key.to_ne_bytes());
    slot[16..].copy_from_slice(&to_bytes(address));
    slot
}

fn holder_of(slot: &[u8; 32]) -> Option<(Key, IpAddr)> {
    let key = slot[8..].first_chunk().copied().map(u64::from_ne_bytes)?;
    Some((key, to_address(*slot[16..].first_chunk()?)))
}

/// The first address of `from..=to`, all of one group, that none of the group's leaves says to be
/// taken.
fn first_free(leaves: &[[u8; 64]], from: u128, to: u128) -> Option<u128> {
    let mut at = from;
    loop {
        let last = to.min(at | (LEAF - 1));
        let prefix = (at / LEAF).to_ne_bytes();
        let leaf = leaves.iter().find(|leaf| leaf[16..32] == prefix);
        let is_free = |bits: &u128| leaf.is_none_or(|leaf| !is_taken(leaf, *bits));
        match (at..=last).find(is_free) {
            None if last < to => at = last + 1,
            found => return found,
        }
    }
}

/// The taken addresses of a leaf.
fn addresses_of(leaf: &[u8; 64]) -> Vec<IpAddr> {
    let prefix = leaf[16..].first_chunk().copied().map(u128::from_ne_bytes).unwrap_or_default();
    let all = (0..LEAF).map(|host| prefix * LEAF + host);
    all.filter(|bits| is_taken(leaf, *bits)).map(from_bits).collect()
}

fn is_taken(leaf: &[u8; 64], bits: u128) -> bool {
    let (byte, bit) = place_in_leaf(bits);
    leaf[byte] & bit != 0
}

/// The byte of a leaf, and the bit of it, that are an address's: the last 32 bytes are the map.
fn place_in_leaf(bits: u128) -> (usize, u8) {
    let host = (bits % LEAF) as usize;
    (32 + host / 8, 1 << (host % 8))
}

/// Fibonacci hashing of the group: neighbours go to different buckets.
fn leaf_hash(bits: u128) -> u64 {
    let prefix = bits / GROUP;
    let folded = (prefix >> 64) as u64 ^ prefix as u64;
    folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn leaves_of(taken: &[IpAddr]) -> usize {
    let mut prefixes: Vec<u128> = taken.iter().map(|address| to_bits(*address) / LEAF).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes.len()
}

/// Both families in one space: IPv4 as IPv4-mapped, which no range of IPv6 may be.
fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()
}

fn to_bytes(address: IpAddr) -> [u8; 16] {
    to_bits(address).to_ne_bytes()
}

fn to_address(bytes: [u8; 16]) -> IpAddr {
    from_bits(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;
