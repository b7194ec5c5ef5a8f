//! The steps of an installation. Each is one change of one name, so that there is no half of it.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use super::error::InstallError;
use super::place::{MODE, Source};
use crate::replace::{remove, replace, sync_folder};

/// Something to do, or the reason to do nothing.
#[derive(Debug)]
pub(super) enum Step<'a> {
    MakeFolder {
        folder: PathBuf,
    },
    /// Gives a file of others a second name, so that ours can replace it at its first one.
    KeepAside {
        file: PathBuf,
        saved: PathBuf,
    },
    Write {
        file: PathBuf,
        source: &'a Source,
    },
    PutBack {
        saved: PathBuf,
        file: PathBuf,
    },
    Remove {
        file: PathBuf,
    },
    Leave {
        file: PathBuf,
        why: &'static str,
    },
}

impl Step<'_> {
    pub(super) fn carry_out(&self) -> Result<(), InstallError> {
        let (path, what, done) = match self {
            Step::MakeFolder { folder } => {
                let done = fs::create_dir_all(folder).and_then(|()| sync_folder(folder));
                (folder, "make it", done)
            }
            Step::KeepAside { file, saved } => {
                let done = fs::hard_link(file, saved).and_then(|()| sync_folder(file));
                (saved, "keep a plugin of others there", done)
            }
            Step::Write { file, source } => {
                (file, "write it", replace(file, &source.content, MODE))
            }
            Step::PutBack { saved, file } => {
                let done = fs::rename(saved, file).and_then(|()| sync_folder(file));
                (saved, "put it back", done)
            }
            Step::Remove { file } => {
                (file, "remove it", remove(file).and_then(|_| sync_folder(file)))
            }
            Step::Leave { .. } => return Ok(()),
        };
        done.map_err(|source| InstallError::io(path, what, source))
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeFolder { folder } => write!(out, "make the folder {}", folder.display()),
            Step::KeepAside { file, saved } => {
                write!(out, "keep {} aside as {}", file.display(), saved.display())
            }
            Step::Write { file, source } => {
                write!(out, "write {}, from {}", file.display(), source.path.display())
            }
            Step::PutBack { saved, file } => {
                write!(out, "put {} back as {}", saved.display(), file.display())
            }
            Step::Remove { file } => write!(out, "remove {}", file.display()),
            Step::Leave { file, why } => write!(out, "leave {}: {why}", file.display()),
        }
    }
}
