//! A host of the laboratory: a network namespace, and a folder for the files of its plugins.

use std::fs;
use std::path::{Path, PathBuf};

use kernel::{NetNs, Rtnl, link};
use tempfile::TempDir;

use crate::error::{Context, Result};

/// A throw-away host. The machine's own network never changes: a plugin that believes it is on the
/// host is inside this namespace.
#[derive(Debug)]
pub struct Node {
    /// What messages call it.
    pub name: String,
    netns: NetNs,
    folder: Folder,
}

/// A node's files go with it, unless they belong to a laboratory that is kept.
#[derive(Debug)]
enum Folder {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Node {
    /// A host with nothing but a loopback device that is up.
    ///
    /// # Errors
    /// The process may not make namespaces, or temporary folders.
    pub fn create(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cbr0-tests-").tempdir();
        let folder = folder.context(|| "make a temporary folder".to_owned())?;
        Self::new(name, NetNs::create()?, Folder::Temporary(folder))
    }

    /// A host in a namespace that somebody else made, with its files in `folder`, which stays.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the folder cannot be made.
    pub fn with(name: &str, netns: NetNs, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context(|| format!("make the folder {}", folder.display()))?;
        Self::new(name, netns, Folder::Kept(folder.to_owned()))
    }

    fn new(name: &str, netns: NetNs, folder: Folder) -> Result<Self> {
        // In a new namespace the loopback device is the first link.
        Rtnl::open_in(&netns)?.request(&link::set_up(1))?;
        Ok(Node { name: name.to_owned(), netns, folder })
    }

    /// Its network namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// A netlink socket inside.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel gives no socket.
    pub fn rtnl(&self) -> Result<Rtnl> {
        Ok(Rtnl::open_in(&self.netns)?)
    }

    /// The folder for everything of this host.
    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }

    /// The `dataDir` for host-local: reservations live in a folder a network below it.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("networks")
    }
}
