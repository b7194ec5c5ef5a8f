//! What is there: the plugins to install, and what has their places.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kernel::elf_note;

use super::error::InstallError;
use crate::{conflist, replace};

/// The mode of a plugin: everybody may run it.
pub(super) const MODE: u32 = 0o755;

/// A plugin to install.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) content: Vec<u8>,
}

impl Source {
    /// Reads one, which must be of this build's version: plugins of different versions do not call
    /// each other as libraries.
    pub(super) fn read(path: PathBuf) -> Result<Self, InstallError> {
        let read = || Ok((elf_note::version(&path)?, fs::read(&path)?));
        let (version, content) = match read() {
            Ok(read) => read,
            Err(source) => return Err(InstallError::Unreadable { path, source }),
        };
        let found = match version {
            Some(version) if version == env!("CARGO_PKG_VERSION") => {
                return Ok(Self { path, content });
            }
            Some(other) => format!("it is of version {other}"),
            None => "it is another program".to_owned(),
        };
        Err(InstallError::NotThePlugin { path, found })
    }
}

/// A file's device and inode: two names with the same one are the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u64, pub(super) u64);

/// What has the name of a plugin, or of a conflist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Ours,
    /// Somebody else's. So is a link, wherever it leads: somebody made it.
    Foreign(Identity),
    /// A folder, a device, …
    NotAFile,
}

/// A name that a plugin or a conflist of ours may have, and what is there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) found: Found,
    /// What an install has kept aside.
    pub(super) saved: Option<Identity>,
    /// Whether there is half a file that an interrupted run left.
    pub(super) half: bool,
}

impl Place {
    /// Looks at the place of a plugin.
    pub(super) fn look(file: PathBuf) -> Result<Self, InstallError> {
        Self::look_for(file, |path| Ok(elf_note::version(path)?.is_some()))
    }

    /// Looks at the place of a conflist.
    pub(super) fn look_at_conflist(file: PathBuf) -> Result<Self, InstallError> {
        Self::look_for(file, |path| Ok(conflist::is_ours(&fs::read(path)?)))
    }

    fn look_for(
        file: PathBuf,
        is_ours: impl Fn(&Path) -> std::io::Result<bool>,
    ) -> Result<Self, InstallError> {
        let found = match metadata(&file)? {
            None => Found::Nothing,
            Some(meta) if meta.is_symlink() => Found::Foreign(identity(&meta)),
            Some(meta) if meta.is_file() => {
                let ours = is_ours(&file);
                let ours = ours.map_err(|source| InstallError::io(&file, "read it", source))?;
                if ours { Found::Ours } else { Found::Foreign(identity(&meta)) }
            }
            Some(_) => Found::NotAFile,
        };
        let saved = metadata(&saved(&file))?.as_ref().map(identity);
        let half = metadata(&replace::temporary(&file))?.is_some();
        Ok(Self { file, found, saved, half })
    }

    /// Where what was there before is kept.
    pub(super) fn saved_name(&self) -> PathBuf {
        saved(&self.file)
    }

    /// Whether the file is what an install would write.
    pub(super) fn holds(&self, source: &Source) -> bool {
        let mode = |meta: Metadata| meta.permissions().mode() & 0o7777;
        fs::symlink_metadata(&self.file).is_ok_and(|meta| mode(meta) == MODE)
            && fs::read(&self.file).is_ok_and(|content| content == source.content)
    }
}

fn saved(file: &Path) -> PathBuf {
    let mut name = OsString::from(file.file_name().unwrap_or_default());
    name.push(".cbr0-saved");
    file.with_file_name(name)
}

fn metadata(path: &Path) -> Result<Option<Metadata>, InstallError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(InstallError::io(path, "look at it", source)),
    }
}

fn identity(meta: &Metadata) -> Identity {
    Identity(meta.dev(), meta.ino())
}
