//! What keeps the plugins from being installed or taken away.

use std::io;
use std::path::{Path, PathBuf};

/// An error of `install` or `uninstall`.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file operation failed.
    #[error(
        "{}: cannot {what}: {source}; run it as root, or give another folder with --bin-dir",
        path.display()
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The operating system's word.
        source: io::Error,
    },
    /// A plugin is not where it is to come from.
    #[error(
        "{}: cannot read the plugin: {source}; it is built beside route-syncer (scripts/build): \
         give the folder of the plugins with --from",
        path.display()
    )]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// What is to be installed is no plugin of ours.
    #[error(
        "{}: {found}, and not the plugin of cbr0 {}: give the folder of the plugins that were \
         built with this route-syncer with --from",
        path.display(), env!("CARGO_PKG_VERSION")
    )]
    NotThePlugin {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// There is no place for the file of others that is there.
    #[error(
        "{} is not ours, and neither is {}, which an earlier install kept aside: remove the one \
         that is not needed, then install again",
        file.display(), saved.display()
    )]
    TwoForeign {
        /// Where the plugin is to go.
        file: PathBuf,
        /// What was kept aside.
        saved: PathBuf,
    },
    /// A folder, say, has the name of a plugin.
    #[error("{} is no file: move it away, then install again", path.display())]
    NotAFile {
        /// Where the plugin is to go.
        path: PathBuf,
    },
    /// Another run works on the same folder.
    #[error("another install or uninstall works on {}: wait until it has ended", folder.display())]
    Busy {
        /// The folder of plugins.
        folder: PathBuf,
    },
    /// The folder of the running program is the default for `--from`.
    #[error("cannot tell where this program is: {0}; give the folder of the plugins with --from")]
    ThisProgram(#[source] io::Error),
}

impl InstallError {
    pub(super) fn io(path: &Path, what: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), what, source }
    }
}
