//! What ends the daemon, or keeps `status` from answering.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use cni_conf::sync_status::SyncStatusError;

use crate::install::InstallError;
use crate::off_link::OffLinkNodes;
use crate::run_dir::RunDirError;
use crate::source::SourceError;
use crate::source::etcd::farewell::FarewellError;
use crate::source::etcd::identity::IdentityError;
use crate::source::etcd::state::StateError;
use crate::source::file::FileError;

/// An error of the program. What concerns one claim is no such error: it is a state of that claim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder of the daemon.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The file source.
    #[error(transparent)]
    File(#[from] FileError),
    /// The source refuses this node, or cannot begin.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is not known who this node is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What was remembered of etcd.
    #[error(transparent)]
    State(#[from] StateError),
    /// The list of nodes that outlives a reboot.
    #[error("cannot write or remove {path:?}: {source}; give another folder with --state-dir")]
    Memory {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// `leave` or `forget`.
    #[error(transparent)]
    Farewell(#[from] FarewellError),
    /// The plugins cannot be installed or taken away.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A setting of the kernel.
    #[error(transparent)]
    Sysctl(#[from] kernel::sysctl::SysctlError),
    /// The sign for plugins.
    #[error(transparent)]
    SyncStatus(#[from] SyncStatusError),
    /// `--off-link fail`.
    #[error(transparent)]
    OffLink(#[from] OffLinkNodes),
    /// The kernel's events cannot be waited for.
    #[error("cannot listen to the kernel's events: {0}; start the daemon again (all routes stay)")]
    Monitor(#[source] io::Error),
    /// The runtime or its signals.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The address for metrics and health.
    #[error("cannot listen at {address}: {source}; give another address with --metrics-listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's word.
        source: io::Error,
    },
    /// What the daemon does not need cannot be given up.
    #[error(transparent)]
    Privileges(#[from] crate::privileges::PrivilegeError),
    /// The host name is the default for `--node`.
    #[error("cannot read the host name: {0}; give the node's name with --node")]
    Hostname(#[source] nix::Error),
    /// A file of the daemon could not be written as JSON.
    #[error("cannot write JSON: {0}")]
    Render(#[source] serde_json::Error),
    /// No daemon was here.
    #[error("no route-syncer has run with this folder yet; start one, or give its --run-dir")]
    NoStatus,
    /// The status file was not written by this version.
    #[error("the daemon's status file cannot be read: {0}; is the daemon of another version?")]
    Status(#[source] serde_json::Error),
}
