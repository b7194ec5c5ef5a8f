//! Files that appear whole: nobody sees a name before its content, at whatever instant this
//! process is killed.
//!
//! There is no fsync. After a power cut a name may come back without content on some filesystems;
//! the container it belonged to is gone as well then, and an empty reservation counts as free.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::{AccessFlags, access, linkat};

const MODE: u32 = 0o600;

/// Creates `path` with `contents`; `AlreadyExists` when the name is taken, by whatever.
///
/// The file has no name while it is written (`O_TMPFILE`). Where that cannot be had (NFS, old
/// overlayfs, no `/proc`), it has the name `scratch`, which the lock makes this process's alone.
pub(super) fn create(path: &Path, contents: &[u8], scratch: &Path) -> io::Result<()> {
    match create_from_unnamed(path, contents) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            create_from_scratch(path, contents, scratch)
        }
        done => done,
    }
}

fn create_from_unnamed(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = open_unnamed(directory)?;
    file.write_all(contents)?;
    name_it(&file, path)
}

/// Gives a file without a name this one.
fn name_it(file: &File, path: &Path) -> io::Result<()> {
    match linkat(file, "", AT_FDCWD, path, AtFlags::AT_EMPTY_PATH) {
        // So only those may do it who may read everything; others go by way of `/proc`, which takes longer.
        Err(Errno::ENOENT) => {
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            Ok(linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
        }
        named => Ok(named?),
    }
}

fn create_from_scratch(path: &Path, contents: &[u8], scratch: &Path) -> io::Result<()> {
    write_scratch(contents, scratch)?;
    let linked = std::fs::hard_link(scratch, path);
    std::fs::remove_file(scratch)?;
    linked
}

/// Gives `path` new `contents`; a reader sees the old ones or the new ones.
pub(super) fn replace(path: &Path, contents: &[u8], scratch: &Path) -> io::Result<()> {
    write_scratch(contents, scratch)?;
    std::fs::rename(scratch, path).or_else(|error| {
        std::fs::remove_file(scratch)?;
        Err(error)
    })
}

/// Writes `contents` over those of `path`, for a hint that need not last: [`replace`] costs some
/// filesystems (ext4) more than all other steps of a reservation together. A new file appears whole.
///
/// Who is killed over it leaves the old contents, the new ones, or these with line ends behind them;
/// or nothing at all where the old ones were absurdly long.
pub(super) fn overwrite(path: &Path, contents: &[u8], scratch: &Path) -> io::Result<()> {
    const ABSURD: u64 = 4096;
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return create(path, contents, scratch);
        }
        file => file?,
    };
    let (old, new) = (file.metadata()?.len(), contents.len() as u64);
    if old > ABSURD {
        file.set_len(0)?;
    } else if old > new {
        // In one call with the padding, so that no end of the old is taken for one of the new.
        let mut padded = contents.to_vec();
        padded.resize(old as usize, b'\n');
        file.write_all_at(&padded, 0)?;
        return file.set_len(new);
    }
    file.write_all_at(contents, 0)
}

fn write_scratch(contents: &[u8], scratch: &Path) -> io::Result<()> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(MODE).open(scratch);
    let mut file = match create() {
        // What a killed process left is removed, never opened: it may be a second name of a
        // reservation, and truncating it would empty that.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(scratch)?;
            create()?
        }
        created => created?,
    };
    file.write_all(contents)
}

/// Whether a file could be created in `directory`.
///
/// A file without a name is the honest test (it takes an inode, and meets every permission) and
/// leaves nothing behind.
pub(super) fn probe(directory: &Path) -> io::Result<()> {
    match open_unnamed(directory) {
        Ok(_) => Ok(()),
        Err(error) if lacks_unnamed_files(&error) => {
            Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
        }
        Err(error) => Err(error),
    }
}

fn open_unnamed(directory: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlag::O_TMPFILE.bits()).mode(MODE).open(directory)
}

/// The errors with which filesystems and kernels without `O_TMPFILE` answer (open(2), BUGS).
fn lacks_unnamed_files(error: &io::Error) -> bool {
    let errors = [nix::libc::EOPNOTSUPP, nix::libc::EISDIR, nix::libc::EINVAL];
    error.raw_os_error().is_some_and(|errno| errors.contains(&errno))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    type Create = fn(&Path, &[u8], &Path) -> io::Result<()>;
    /// Both ways to create a file, so that the second is tested where the first works.
    const WAYS: [Create; 3] =
        [create, |path, contents, _| create_from_unnamed(path, contents), create_from_scratch];

    #[test]
    fn a_created_file_has_content_and_mode_and_leaves_no_scratch() {
        for way in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let (path, scratch) = (dir.path().join("10.0.0.1"), dir.path().join("scratch"));
            way(&path, b"abc", &scratch).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"abc");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!scratch.exists());
        }
    }

    /// So much content that writing it takes a while, and somebody who looks all the while.
    #[test]
    fn nobody_sees_a_name_before_its_content() {
        const LENGTH: u64 = 64 << 20;
        for way in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let (path, scratch) = (dir.path().join("10.0.0.1"), dir.path().join("scratch"));
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| way(&path, &vec![b'x'; LENGTH as usize], &scratch));
                while !writer.is_finished() {
                    let seen = path.metadata().map_or(LENGTH, |metadata| metadata.len());
                    assert_eq!(seen, LENGTH, "a part of the content is seen");
                }
                writer.join().unwrap().unwrap();
            });
            assert_eq!(path.metadata().unwrap().len(), LENGTH);
        }
    }

    #[test]
    fn a_present_name_is_never_overwritten() {
        for way in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let (path, scratch) = (dir.path().join("10.0.0.1"), dir.path().join("scratch"));
            std::fs::write(&path, "theirs").unwrap();
            let error = way(&path, b"ours", &scratch).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
            assert!(!scratch.exists());
        }
    }

    #[test]
    fn leftover_scratch_that_is_a_reservation_too_does_not_empty_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, scratch) = (dir.path().join("10.0.0.1"), dir.path().join("scratch"));
        // Killed between link and unlink: two names, one file.
        std::fs::write(&first, "theirs").unwrap();
        std::fs::hard_link(&first, &scratch).unwrap();
        create_from_scratch(&dir.path().join("10.0.0.2"), b"ours", &scratch).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), b"theirs");

        std::fs::hard_link(&first, &scratch).unwrap();
        replace(&dir.path().join("index"), b"10.0.0.2", &scratch).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), b"theirs");
    }

    #[test]
    fn replace_makes_a_new_file_and_does_not_write_into_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("index"), dir.path().join("scratch"));
        std::fs::write(&path, "10.0.0.200").unwrap();
        let mut reader = File::open(&path).unwrap();
        replace(&path, b"10.0.0.3", &scratch).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"10.0.0.3");
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "10.0.0.200");
        assert!(!scratch.exists());
    }

    #[test]
    fn what_is_overwritten_leaves_nothing_of_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("last_reserved_ip.0"), dir.path().join("scratch"));
        let absurd = "1".repeat(1 << 20);
        for new in ["10.0.0.2", "10.0.0.200", "10.0.0.3", "", "10.0.0.4", &absurd, "10.0.0.5"] {
            overwrite(&path, new.as_bytes(), &scratch).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), new);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!scratch.exists());
        }
    }

    /// A file that cannot become shorter stays as a process leaves it that is killed before it cuts it.
    #[test]
    fn what_is_overwritten_and_not_cut_is_the_new_text() {
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        use nix::sys::memfd::{MFdFlags, memfd_create};

        let memory = memfd_create(c"last_reserved_ip.0", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let file = File::from(memory);
        (&file).write_all(b"10.0.0.222").unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let cut = overwrite(Path::new(&path), b"10.0.0.3", Path::new("/nonexistent"));
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "10.0.0.3");
    }

    #[test]
    fn probe_tells_a_directory_from_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        probe(dir.path()).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "the probe leaves a trace");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(probe(&file).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
