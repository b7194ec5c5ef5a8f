//! How it is known that nobody has changed a directory meanwhile.
//!
//! Every name that comes or goes sets the directory's mtime and ctime, to a clock that may tick only
//! 250 times a second: a change right after ours could leave the same time. So after a change of
//! ours the mtime is set to a time that no clock of now can give: one some seconds ago. Whoever
//! changes the directory then, sets it to another one. The ctime, which nobody can set, tells of a
//! directory that was put back from a backup together with its mtime.

use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use crate::store::boot;

/// How far back the mtime is set. More than the coarsest clock of a filesystem, two seconds.
const BACK: Duration = Duration::from_secs(10);

/// The directory as it was, in this boot. Of another boot nothing is believed: after a power cut,
/// names may be older than what was written about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Stamp {
    boot: [u8; 36],
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The bytes of a stamp.
pub(super) const LENGTH: usize = 36 + 6 * 8;

impl Stamp {
    /// The directory as it is now.
    ///
    /// # Errors
    /// It cannot be asked, or the kernel does not say which boot this is.
    pub(in crate::store) fn of(directory: &File) -> io::Result<Self> {
        let metadata = directory.metadata()?;
        Ok(Self {
            boot: boot::id()?,
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Gives the directory a time that no change of it can give, and says what it is then.
    ///
    /// # Errors
    /// As [`Stamp::of`], or the time cannot be set: that takes the directory's owner.
    pub(in crate::store) fn set(directory: &File) -> io::Result<Self> {
        let back = SystemTime::now().checked_sub(BACK).unwrap_or(SystemTime::UNIX_EPOCH);
        directory.set_times(FileTimes::new().set_modified(back))?;
        Self::of(directory)
    }

    /// Whether these bytes of a stamp are of the same boot.
    pub(super) fn is_of_the_boot_of(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.boot)
    }

    pub(super) fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let words = [self.modified.0, self.modified.1, self.changed.0, self.changed.1];
        let words = [self.device, self.inode].into_iter().chain(words.map(i64::cast_unsigned));
        let words = words.flat_map(u64::to_ne_bytes);
        for (place, byte) in bytes.iter_mut().zip(self.boot.into_iter().chain(words)) {
            *place = byte;
        }
        bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_change_of_the_directory_shows() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap();
        let path = dir.path().join("10.0.0.1");
        // As fast as can be, so that many changes share a tick of the clock.
        for _ in 0..500 {
            let stamp = Stamp::set(&directory).unwrap();
            assert_eq!(Stamp::of(&directory).unwrap(), stamp, "nothing has changed");
            std::fs::write(&path, "").unwrap();
            assert_ne!(Stamp::of(&directory).unwrap().modified, stamp.modified);
            let stamp = Stamp::set(&directory).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_ne!(Stamp::of(&directory).unwrap().modified, stamp.modified);
        }
    }

    #[test]
    fn a_directory_put_back_with_its_time_is_told_from_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap();
        let stamp = Stamp::set(&directory).unwrap();
        let before = directory.metadata().unwrap().modified().unwrap();
        std::fs::write(dir.path().join("10.0.0.1"), "").unwrap();
        directory.set_times(FileTimes::new().set_modified(before)).unwrap();
        assert_ne!(Stamp::of(&directory).unwrap(), stamp);
    }

    #[test]
    fn every_field_is_in_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = Stamp::of(&File::open(dir.path()).unwrap()).unwrap();
        let others = [
            Stamp { boot: [b'0'; 36], ..stamp },
            Stamp { device: !stamp.device, ..stamp },
            Stamp { inode: !stamp.inode, ..stamp },
            Stamp { modified: (!stamp.modified.0, stamp.modified.1), ..stamp },
            Stamp { modified: (stamp.modified.0, !stamp.modified.1), ..stamp },
            Stamp { changed: (!stamp.changed.0, stamp.changed.1), ..stamp },
            Stamp { changed: (stamp.changed.0, !stamp.changed.1), ..stamp },
            stamp,
        ];
        let different: BTreeSet<_> = others.iter().map(|stamp| stamp.to_bytes()).collect();
        assert_eq!(different.len(), others.len());
    }
}
