//! The ring of addresses that were freed lately: a fixed number of them, the oldest overwritten.
//!
//! It says only which addresses had better rest. What is forgotten is free.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::table::Storage;

/// How many are remembered. A node that ends more Pods than this in the time that an address rests
/// has a range of more than this, so that round robin is far from the first ones again.
const ENTRIES: u64 = 1024;
/// An address and a time in nanoseconds.
const ENTRY: u64 = 16 + 8;

/// How many are read at once.
const BLOCK: u64 = 32;

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
    let mut found = Vec::new();
    let mut end = count;
    // They were written in the order of their times: as a rule, a few of the last ones are meant.
    while end > count.saturating_sub(ENTRIES) {
        let start = block_before(end).max(count.saturating_sub(ENTRIES));
        let entries = read(storage, ring, start..end)?;
        let meant = entries.into_iter().rev().take_while(|(_, at)| *at > after);
        let before = found.len();
        found.extend(meant.map(|(address, _)| address));
        if found.len() - before < (end - start) as usize {
            break;
        }
        end = start;
    }
    found.reverse();
    Ok(found)
}

/// Where a block begins that ends here: at most [`BLOCK`] entries, and none beyond the ring's end.
fn block_before(end: u64) -> u64 {
    (end - 1) / BLOCK * BLOCK
}

/// These entries, which are beside each other in the ring.
fn read(
    storage: &impl Storage,
    ring: u64,
    numbers: Range<u64>,
) -> io::Result<Vec<([u8; 16], u64)>> {
    let mut bytes = [0; (BLOCK * ENTRY) as usize];
    let bytes = &mut bytes[..((numbers.end - numbers.start) * ENTRY) as usize];
    storage.read(ring + numbers.start % ENTRIES * ENTRY, bytes)?;
    let (entries, _) = bytes.as_chunks::<{ ENTRY as usize }>();
    Ok(entries.iter().filter_map(parse).collect())
}

/// An entry's address and time.
fn parse(entry: &[u8; ENTRY as usize]) -> Option<([u8; 16], u64)> {
    Some((*entry.first_chunk()?, u64::from_ne_bytes(*entry.last_chunk()?)))
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
    fn all_blocks_are_read_that_have_some() {
        let mut ring = vec![0; LENGTH as usize];
        let total = ENTRIES + ENTRIES / 2 + 7;
        for count in 0..total {
            let at = Duration::from_secs(count + 1);
            write(&mut ring, 0, count, address(count), at).unwrap();
        }
        for limit in [0, ENTRIES, total - 2 * BLOCK - 1, total - 2 * BLOCK, total - 8, total] {
            let found = after(&ring, 0, total, Duration::from_secs(limit)).unwrap();
            let wanted: Vec<u128> = (limit.max(total - ENTRIES)..total).map(u128::from).collect();
            assert_eq!(numbers(&found), wanted, "after {limit}");
        }
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
