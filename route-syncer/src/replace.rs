//! Files that others read while they are written: whoever looks sees the old one or the new one,
//! whole, and so does who looks after a crash.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Puts a file with this content and mode in the place of what may be there.
///
/// # Errors
/// The folder or the disk does not take it. What was there is as it was then.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    place(path, content, mode, true)?;
    sync_folder(path)
}

/// As [`replace`], but a crash of the machine may take it back, or leave half of it, until it is
/// [`settle`]d: to wait for the disk takes longer than all else.
///
/// # Errors
/// As [`replace`].
pub fn replace_soon(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    place(path, content, mode, false)
}

/// Makes a file outlive a crash of the machine.
///
/// # Errors
/// The file cannot be opened, or the disk fails.
pub fn settle(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_folder(path)
}

fn place(path: &Path, content: &[u8], mode: u32, settled: bool) -> io::Result<()> {
    let temporary = temporary(path);
    let placed = remove(&temporary)
        .and_then(|_| write_new(&temporary, content, mode, settled))
        .and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        // Half a file is of no use; if it cannot go now, the next attempt removes it.
        let _ = fs::remove_file(&temporary);
    }
    placed
}

/// The name that a file has until it is whole: in the same folder, so that it can be renamed, and
/// one that container runtimes take for nothing. (They read what ends in `.conf`, `.conflist` or
/// `.json`.)
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".cbr0-new");
    path.with_file_name(name)
}

/// Removes a file, if it is there. Returns whether it was.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes what happened to the names in a file's folder outlive a crash of the machine.
///
/// # Errors
/// The folder cannot be opened, or the disk fails.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    // The parent of a bare name is the empty path.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_new(path: &Path, content: &[u8], mode: u32, settled: bool) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    // The mode that a file is made with is cut by the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    if settled { file.sync_all() } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_file_has_content_and_mode_and_nothing_is_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(temporary(&path), "half of a fi").unwrap();
        replace(&path, b"one", 0o755).unwrap();
        replace(&path, b"two", 0o666).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_file_that_cannot_be_placed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::create_dir(&path).unwrap();
        replace(&path, b"one", 0o644).unwrap_err();
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn runtimes_take_no_notice_of_the_temporary_name() {
        let name = temporary(Path::new("/etc/cni/net.d/10-cbr0.conflist"));
        assert_eq!(name, Path::new("/etc/cni/net.d/.10-cbr0.conflist.cbr0-new"));
    }
}
