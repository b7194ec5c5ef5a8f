//! The ring of addresses that were freed lately: a fixed number of them, the oldest overwritten.
//!
//! It says only which addresses had better rest. What is forgotten is free.

use std::io;
use std::time::Duration;

use super::table::Storage;

/// How many are remembered. A node that ends more Pods than this in the time that an address rests
/// has a range of more than this, so that round robin is far from the first ones again.
const ENTRIES: u64 = 1024;
/// An address and a time in nanoseconds.
const ENTRY: u64 = 16 + 8;

/// The bytes of the ring.
pub(super) const LENGTH: u64 = ENTRIES * ENTRY;

/// Remembers an address, as number `count` from the start.
pub(super) fn write(
    storage: &mut impl Storage,
    ring: u64,
    count: u64,
    address: [u8; 16],
    at: Duration,
) -> io::Result<()> {
    let mut entry = [0; ENTRY as usize];
    let nanoseconds = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    entry[..16].copy_from_slice(&address);
    entry[16..].copy_from_slice(&nanoseconds.to_ne_bytes());
    storage.write(ring + count % ENTRIES * ENTRY, &entry)
}

/// The addresses remembered that were freed after this time, the oldest first; one that was freed
/// twice is there twice. `count` is how many were ever written.
pub(super) fn after(
    storage: &impl Storage,
    ring: u64,
    count: u64,
    after: Duration,
) -> io::Result<Vec<[u8; 16]>> {
    let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    let is_after = |entry: &&[u8]| {
        let at = entry.last_chunk().copied().map(u64::from_ne_bytes);
        at.is_some_and(|at| at > after)
    };
    let place = |number: u64| (number % ENTRIES * ENTRY) as usize;
    // They were written in the order of their times: as a rule, the last one is old.
    let Some(last) = count.checked_sub(1) else { return Ok(Vec::new()) };
    let mut entry = [0; ENTRY as usize];
    storage.read(ring + place(last) as u64, &mut entry)?;
    if !is_after(&&entry[..]) {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; LENGTH as usize];
    storage.read(ring, &mut bytes)?;
    let entries = (count.saturating_sub(ENTRIES)..count)
        .filter_map(|number| bytes.get(place(number)..place(number) + ENTRY as usize));
    Ok(entries.filter(is_after).filter_map(|entry| entry.first_chunk().copied()).collect())
}

/// Copies a whole ring.
pub(super) fn copy(from: &impl Storage, to: &mut impl Storage, ring: u64) -> io::Result<()> {
    let mut bytes = vec![0; LENGTH as usize];
    from.read(ring, &mut bytes)?;
    to.write(ring, &bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(number: u64) -> [u8; 16] {
        u128::from(number).to_ne_bytes()
    }

    fn numbers(found: &[[u8; 16]]) -> Vec<u128> {
        found.iter().map(|address| u128::from_ne_bytes(*address)).collect()
    }

    #[test]
    fn the_oldest_come_first_and_the_old_ones_not() {
        let mut ring = vec![0; LENGTH as usize];
        for (count, number) in [(0, 7), (1, 8), (2, 9), (3, 8)] {
            write(&mut ring, 0, count, address(number), Duration::from_secs(count + 1)).unwrap();
        }
        let after = |seconds| numbers(&after(&ring, 0, 4, Duration::from_secs(seconds)).unwrap());
        assert_eq!(after(0), [7, 8, 9, 8]);
        assert_eq!(after(2), [9, 8]);
        assert_eq!(after(4), []);
    }

    #[test]
    fn a_full_ring_forgets_the_oldest() {
        let mut ring = vec![0; LENGTH as usize];
        for count in 0..ENTRIES + 3 {
            write(&mut ring, 0, count, address(count), Duration::from_secs(9)).unwrap();
        }
        let found = numbers(&after(&ring, 0, ENTRIES + 3, Duration::ZERO).unwrap());
        assert_eq!(found.len() as u64, ENTRIES);
        assert_eq!(found.first(), Some(&3));
    }
}
