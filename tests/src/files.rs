//! Everything in a folder, as text that can be compared: for what must not change, or must become
//! again what it was.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Context, Result};

/// The files of a folder by name, each with its kind and mode, its time of change and its content.
pub type Files = BTreeMap<String, String>;

/// Reads a folder, which has no folders in it.
///
/// # Errors
/// It cannot be read.
pub fn files(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).context(|| format!("list {}", folder.display()))? {
        let path = entry.context(|| format!("list {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, describe(&path).context(|| format!("read {}", path.display()))?);
    }
    Ok(files)
}

fn describe(path: &Path) -> std::io::Result<String> {
    let meta = fs::symlink_metadata(path)?;
    let content = if meta.is_symlink() {
        fs::read_link(path)?.to_string_lossy().into_owned()
    } else {
        told(&fs::read(path)?)
    };
    let (mode, seconds, nanoseconds) = (meta.mode(), meta.mtime(), meta.mtime_nsec());
    Ok(format!("mode {mode:o} changed {seconds}.{nanoseconds:09} holds {content}"))
}

/// A short content as it is, a long one by its hash.
fn told(content: &[u8]) -> String {
    if content.len() <= 1000 {
        return content.escape_ascii().to_string();
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    format!("{} bytes of hash {:x}", content.len(), hasher.finish())
}
