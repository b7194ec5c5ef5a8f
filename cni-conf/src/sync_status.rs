//! The file by which the route syncer tells plugins that the routes to other nodes are there.
//!
//! The syncer writes it after its first sync; a plugin whose configuration names it answers STATUS
//! with 50 until then. The file bears the boot's ID, because routes do not outlive a boot and the
//! file might.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CniError, Code};

/// Where the file is unless told otherwise. `/run` is empty after a boot.
pub const DEFAULT_PATH: &str = "/run/cbr0/synced.json";

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// The boot it was written in.
    pub boot_id: String,
    /// The node's name, for people.
    pub node: String,
    /// When the first sync since boot was done (RFC 3339), for people.
    pub first_sync: String,
}

/// The file, or the boot's ID, cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SyncStatusError {
    /// Reading or writing failed.
    #[error("sync status {}: cannot {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "sync status {}: not written by the route syncer ({source}): remove it, the syncer writes \
         it anew when it starts",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl From<SyncStatusError> for CniError {
    fn from(error: SyncStatusError) -> CniError {
        CniError::new(Code::Io, error.to_string())
    }
}

impl SyncStatus {
    /// The status of this boot.
    ///
    /// # Errors
    /// [`SyncStatusError::Io`] if the kernel does not say which boot this is.
    pub fn of_this_boot(
        node: impl Into<String>,
        first_sync: impl Into<String>,
    ) -> Result<SyncStatus, SyncStatusError> {
        Ok(SyncStatus { boot_id: boot_id()?, node: node.into(), first_sync: first_sync.into() })
    }

    /// Writes the file, at once or not at all: a reader sees the old one or the new one. Its folder
    /// is made if it is missing.
    ///
    /// # Errors
    /// [`SyncStatusError::Io`]
    pub fn write(&self, path: &Path) -> Result<(), SyncStatusError> {
        let failed =
            |what| move |source| SyncStatusError::Io { path: path.to_owned(), what, source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("make its folder"))?;
        }
        let text = serde_json::to_vec(self)
            .map_err(|source| SyncStatusError::Content { path: path.to_owned(), source })?;
        // One name is enough: there is one syncer, and what is left of a crash is overwritten.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        File::create(&temporary)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .map_err(failed("write it"))?;
        fs::rename(&temporary, path).map_err(failed("put it in place"))
    }
}

/// Whether the syncer has had its first sync since boot. No file and one of another boot mean no.
///
/// # Errors
/// [`SyncStatusError`] if the file is there and cannot be read or understood.
pub fn is_synced_since_boot(path: &Path) -> Result<bool, SyncStatusError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(SyncStatusError::Io { path: path.to_owned(), what: "read it", source });
        }
    };
    let status: SyncStatus = serde_json::from_slice(&text)
        .map_err(|source| SyncStatusError::Content { path: path.to_owned(), source })?;
    Ok(status.boot_id == boot_id()?)
}

fn boot_id() -> Result<String, SyncStatusError> {
    match fs::read_to_string(BOOT_ID) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(source) => {
            Err(SyncStatusError::Io { path: BOOT_ID.into(), what: "read the boot's ID", source })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status() -> SyncStatus {
        SyncStatus::of_this_boot("node-1", "2026-11-21T21:34:00Z").unwrap()
    }

    #[test]
    fn a_written_status_says_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/synced.json");
        assert!(!is_synced_since_boot(&path).unwrap(), "there is no file yet");
        status().write(&path).unwrap();
        assert!(is_synced_since_boot(&path).unwrap());
        status().write(&path).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path().join("run"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["synced.json"], "nothing else is left in the folder");
    }

    #[test]
    fn the_status_of_another_boot_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synced.json");
        let before = SyncStatus { boot_id: "another".to_owned(), ..status() };
        before.write(&path).unwrap();
        assert!(!is_synced_since_boot(&path).unwrap());
    }

    #[test]
    fn the_keys_are_those_people_read() {
        let text =
            serde_json::to_string(&SyncStatus { boot_id: "b".to_owned(), ..status() }).unwrap();
        assert_eq!(text, r#"{"bootId":"b","node":"node-1","firstSync":"2026-11-21T21:34:00Z"}"#);
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synced.json");
        fs::write(&path, "{\"bootId\": 7}").unwrap();
        let error = CniError::from(is_synced_since_boot(&path).unwrap_err());
        assert_eq!(error.code, Code::Io);
        assert!(error.msg.contains("synced.json") && error.msg.contains("remove it"), "{error}");

        let error = status().write(&path.join("below")).unwrap_err().to_string();
        assert!(error.contains("make its folder"), "{error}");
        assert!(is_synced_since_boot(&path.join("below")).is_err(), "ENOTDIR is not 'no file'");
    }
}
