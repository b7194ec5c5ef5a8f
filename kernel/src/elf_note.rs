//! The ELF note by which our binaries know each other (`elf(5)`, "Notes").
//!
//! A plugin calls an IPAM plugin of ours as a library only if the file that `CNI_PATH` leads to
//! is ours and of the same build: anything else of that name, a wrapper script or another
//! project's binary, must be executed. Every binary that links this crate carries the note.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The note's owner, NUL-terminated and padded to four bytes.
const OWNER: &[u8; 8] = b"cbr0\0\0\0\0";
const OWNER_LENGTH: u32 = 5;
/// The note's type, by which an owner tells its notes apart.
const BUILD_VERSION: u32 = 1;
/// The note's content: the version, padded to this length.
const CONTENT: usize = 32;
/// Where the tables of a program of ours lie: well within the first page.
const HEAD: usize = 4096;
/// `PT_NOTE`: the segment type that holds notes.
const PT_NOTE: u32 = 4;

const fn content() -> [u8; CONTENT] {
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let mut content = [0; CONTENT];
    let mut at = 0;
    while at < version.len() {
        content[at] = version[at];
        at += 1;
    }
    content
}

/// `Elf64_Nhdr`, the owner and the content, as they lie in the file.
#[repr(C, align(4))]
pub(crate) struct Note {
    owner_length: u32,
    content_length: u32,
    kind: u32,
    owner: [u8; 8],
    content: [u8; CONTENT],
}

/// This binary's own. [`crate::process`] puts it where it is found.
pub(crate) const fn note() -> Note {
    Note {
        owner_length: OWNER_LENGTH,
        content_length: CONTENT as u32,
        kind: BUILD_VERSION,
        owner: *OWNER,
        content: content(),
    }
}

/// Whether the file is a binary of ours, of the version that asks.
///
/// # Errors
/// The file cannot be opened or read. A file that is no ELF program is no error: it is not ours.
pub fn is_ours(path: &Path) -> io::Result<bool> {
    Ok(version(path)?.as_deref() == Some(env!("CARGO_PKG_VERSION")))
}

/// The version of a binary of ours, whichever it is; none if the file is not ours.
///
/// # Errors
/// As [`is_ours`].
pub fn version(path: &Path) -> io::Result<Option<String>> {
    let file = File::open(path)?;
    let mut head = vec![0; HEAD];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    for (offset, length) in note_segments(&head) {
        let mut segment = vec![0; length];
        // A segment cut short has no note of ours at its end.
        let read = file.read_at(&mut segment, offset)?;
        if let Some(version) = our_version(&segment[..read]) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Offset and length of each note segment of a 64-bit ELF file in this machine's byte order.
fn note_segments(head: &[u8]) -> Vec<(u64, usize)> {
    const IDENT: [u8; 6] =
        [0x7f, b'E', b'L', b'F', 2, if cfg!(target_endian = "little") { 1 } else { 2 }];
    if !head.starts_with(&IDENT) {
        return Vec::new();
    }
    let segments = || {
        let table = usize::try_from(number_u64(head, 0x20)?).ok()?;
        let size = usize::from(number_u16(head, 0x36)?);
        let count = usize::from(number_u16(head, 0x38)?);
        let entries = head.get(table..)?.chunks_exact(size.max(1)).take(count);
        let note = |entry: &&[u8]| number_u32(entry, 0) == Some(PT_NOTE);
        let place = |entry: &[u8]| Some((number_u64(entry, 0x08)?, number_u64(entry, 0x20)?));
        Some(
            entries
                .filter(note)
                .filter_map(place)
                .map(|(offset, length)| (offset, length.min(HEAD as u64) as usize))
                .collect(),
        )
    };
    segments().unwrap_or_default()
}

/// The version in our note, if it is among these.
fn our_version(mut notes: &[u8]) -> Option<String> {
    while let (Some(owner), Some(length), Some(kind)) =
        (number_u32(notes, 0), number_u32(notes, 4), number_u32(notes, 8))
    {
        let content_at = 12 + (owner as usize).next_multiple_of(4);
        let end = content_at.saturating_add(length as usize);
        let is_owner = owner == OWNER_LENGTH && notes.get(12..20) == Some(OWNER);
        if is_owner && kind == BUILD_VERSION && length as usize == CONTENT {
            let version = String::from_utf8_lossy(notes.get(content_at..end)?);
            return Some(version.trim_end_matches('\0').to_owned());
        }
        notes = notes.get(end.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn number_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_with_the_note_is_ours() {
        let running = std::env::current_exe().unwrap();
        assert!(is_ours(&running).unwrap());
        assert_eq!(version(&running).unwrap().unwrap(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn other_programs_and_scripts_are_not() {
        assert!(!is_ours(Path::new("/bin/sh")).unwrap());
        assert!(!is_ours(Path::new("/etc/passwd")).unwrap());
        assert!(!is_ours(Path::new("/dev/null")).unwrap());
        assert_eq!(version(Path::new("/bin/sh")).unwrap(), None);
        assert!(is_ours(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn the_version_is_read_whichever_it_is() {
        let mut bytes = Vec::new();
        for number in [OWNER_LENGTH, CONTENT as u32, BUILD_VERSION] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(OWNER);
        bytes.extend_from_slice(&content());
        assert_eq!(our_version(&bytes).unwrap(), env!("CARGO_PKG_VERSION"));
        bytes[20..26].copy_from_slice(b"0.0.9\0");
        assert_eq!(our_version(&bytes).unwrap(), "0.0.9");
        bytes[8] = 2;
        assert_eq!(our_version(&bytes), None, "another kind of note");
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes: Vec<u8>) {
            let _ = our_version(&bytes);
            let _ = note_segments(&[&[0x7f, b'E', b'L', b'F', 2, 1], &bytes[..]].concat());
        }
    }
}
