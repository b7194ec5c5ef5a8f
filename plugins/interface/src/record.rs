//! What a plugin writes down about an attachment: a file each, in a folder that the key `dataDir`
//! names. It is put where it belongs whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni_conf::attachment::{Attachment, network_key};
use cni_conf::conf::NetConf;
use nix::unistd::{AccessFlags, access};

use crate::error::{Error, Result};
use crate::valid::Valid;

/// `dataDir`, or the folder that takes its place.
///
/// # Errors
/// It is no path from the root.
pub fn data_dir(conf: &NetConf, default: &str) -> Result<PathBuf> {
    let folder = conf.get::<String>("dataDir")?.filter(|folder| !folder.is_empty());
    let folder = PathBuf::from(folder.unwrap_or_else(|| default.into()));
    if folder.is_absolute() {
        return Ok(folder);
    }
    let (value, reason) =
        (format!("{folder:?}"), "must be the path of a folder from the root".into());
    Err(Error::Config { key: "dataDir", value, reason })
}

/// Looks whether a record could be written, and writes none.
///
/// # Errors
/// [`Error::NotReady`].
pub fn demand(data_dir: &Path) -> Result<()> {
    // A write makes the folder, in the nearest that is there.
    let nearest = data_dir.ancestors().find(|path| path.symlink_metadata().is_ok());
    let nearest = nearest.unwrap_or(Path::new("/"));
    let usable = nearest.is_dir() && access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if usable {
        return Ok(());
    }
    Err(Error::NotReady(format!(
        "{nearest:?} is no folder that can be written to; \"dataDir\" {data_dir:?} must be one"
    )))
}

/// Where the record of an attachment is.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// The name under which it is written; GC finds in it whose it is, whatever its content.
    scratch: PathBuf,
}

impl Record {
    /// The record of this name.
    pub fn new(data_dir: &Path, name: &str, attachment: &Attachment) -> Record {
        let scratch = data_dir.join(format!(".{}", attachment.owner_key()));
        Record { path: data_dir.join(name), scratch }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        read(&self.path)
    }

    /// Puts it where it belongs.
    ///
    /// # Errors
    /// The folder cannot be made, or the file not be written.
    pub fn write(&self, content: &[u8]) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(failed("make folder", folder))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&self.scratch).and_then(|mut file| file.write_all(content));
        written.map_err(failed("write", &self.scratch))?;
        fs::rename(&self.scratch, &self.path).map_err(failed("write", &self.path))
    }

    /// Removes it; one that is gone already is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> Result<()> {
        remove(&self.path)
    }

    /// Removes what a write that was killed, or failed, has left.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_scratch(&self) -> Result<()> {
        remove(&self.scratch)
    }
}

/// The content of a file, if it is there.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if is_absent(&error) => Ok(None),
        content => content.map(Some).map_err(failed("read", path)),
    }
}

/// Removes a file; one that is gone already is no error.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The records of a folder, of all networks.
///
/// # Errors
/// The folder is there and cannot be read.
pub fn list(data_dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files(data_dir)?;
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    Ok(files)
}

/// GC: removes what writes that were killed have left of the network's attachments that are not
/// valid any more.
///
/// # Errors
/// The folder cannot be read, or a file not be removed.
pub fn collect_scratches(data_dir: &Path, valid: &Valid<'_>) -> Result<()> {
    let of_network = format!(".{}-", network_key(valid.network));
    let alive = valid.owner_keys();
    let is_garbage = |file: &&PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&of_network) && !alive.contains(name.trim_start_matches('.'))
    };
    Error::all(files(data_dir)?.iter().filter(is_garbage).map(|file| remove(file)))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", folder))?,
    };
    entries.map(|entry| Ok(entry.map_err(failed("list", folder))?.path())).collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// For `map_err` on what was tried.
fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Record { action, path: path.into(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let pod = Attachment::new("net", "pod", "eth0").unwrap();
        let record = Record::new(&data_dir, "pod.json", &pod);
        assert_eq!(record.read().unwrap(), None);
        record.remove().unwrap();
        for content in ["first", "2nd"] {
            record.write(content.as_bytes()).unwrap();
            assert_eq!(record.read().unwrap(), Some(content.into()));
        }
        assert_eq!(files(&data_dir).unwrap(), [record.path()]);
        assert_eq!(list(&data_dir).unwrap(), [record.path()]);
        record.remove().unwrap();
        assert_eq!(files(&data_dir).unwrap().len(), 0);
    }

    #[test]
    fn what_a_killed_write_has_left_is_known_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let pods = ["dead", "alive"].map(|id| Attachment::new("net", id, "eth0").unwrap());
        let other = Attachment::new("other", "dead", "eth0").unwrap();
        let scratches = [&pods[0], &pods[1], &other]
            .map(|pod| Record::new(folder.path(), "x.json", pod).scratch);
        for scratch in &scratches {
            fs::write(scratch, "{").unwrap();
        }
        assert_eq!(list(folder.path()).unwrap().len(), 0);
        let valid = Valid { network: "net", attachments: vec![pods[1].clone()] };
        collect_scratches(folder.path(), &valid).unwrap();
        assert_eq!(scratches.map(|scratch| scratch.exists()), [false, true, true]);
    }
}
