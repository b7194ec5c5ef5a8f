//! What can go wrong with the plugin's files.

use std::io;
use std::path::{Path, PathBuf};

use cni_conf::error::{CniError, Code};
use plugin_interface::Error;

/// A file of the plugin, or of its administrator, that is not as it must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It could not be read, written or removed.
    #[error("{action} {path:?}: {source}; \"dataDir\" must name a folder that can be written to")]
    Backup { action: &'static str, path: PathBuf, source: io::Error },
    /// Another attachment's file has the name: the reference joins container ID and interface name by
    /// a mark that both may contain.
    #[error(
        "{path:?} is of {owner:?}, which is another attachment; DEL that one first, or choose another CNI_IFNAME"
    )]
    Taken { path: PathBuf, owner: String },
    /// The administrator's list cannot be read.
    #[error("read {path:?}: {source}; without the list no sysctl is allowed: make it readable")]
    Allowlist { path: PathBuf, source: io::Error },
    /// A line of it is no regular expression.
    #[error("{path:?}: {line:?} is no regular expression: {why}; each line must be one")]
    Line { path: PathBuf, line: String, why: String },
}

impl FileError {
    /// For `map_err` on what was tried with a backup.
    pub(crate) fn backup(action: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
        move |source| FileError::Backup { action, path: path.into(), source }
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Error {
        let code = match error {
            FileError::Taken { .. } => Code::Conflict,
            FileError::Line { .. } => Code::InvalidConfig,
            FileError::Backup { .. } | FileError::Allowlist { .. } => Code::Io,
        };
        Error::Cni(CniError::explained(code, &error.to_string()))
    }
}
