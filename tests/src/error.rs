//! What can go wrong in the laboratory itself, and how a test shows it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the laboratory, or of the plugin under test where a test did not expect one.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call or file operation failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// The act, as a phrase that follows "cannot", with the path or name it was about.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A namespace could not be made, entered or left.
    #[error(transparent)]
    Netns(#[from] kernel::netns::NetnsError),
    /// A netlink request failed.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A kernel setting could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] kernel::sysctl::SysctlError),
    /// A process, a connection or an event did not come in time.
    #[error("{what} did not end within {deadline:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
    },
    /// A binary that should have been built is not there.
    #[error(
        "{} is missing: run scripts/test, or scripts/build and set CBR0_BIN_DIR to what it prints",
        .0.display()
    )]
    NotBuilt(PathBuf),
    /// A part that `CBR0_REQUIRE` lists is not on this machine.
    #[error("CBR0_REQUIRE lists {part:?}, but {reason}")]
    Required {
        /// The part's name.
        part: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A configuration list is not what the CNI specification says.
    #[error("bad network configuration list: {0}")]
    Conflist(String),
    /// A plugin failed.
    #[error(transparent)]
    Plugin(#[from] Box<crate::runtime::PluginFailure>),
    /// Something is not as the test or the demo says it must be.
    #[error("{0}")]
    Wrong(String),
}

/// Shorthand of the laboratory.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Puts words to an error on its way up.
pub trait Context<T> {
    /// `what` is a phrase that follows "cannot".
    ///
    /// # Errors
    /// The same failure, as a [`LabError`].
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| LabError::Io { what: what(), source })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| LabError::Io { what: what(), source: errno.into() })
    }
}

/// The error of a `#[test]`: any error, printed by its message and not as a Rust value.
pub struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// What a `#[test]` returns.
pub type Outcome = std::result::Result<(), Failure>;
