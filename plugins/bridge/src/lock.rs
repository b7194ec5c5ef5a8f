//! Who may look for the bridge, and who may remove it: a lock of the host.
//!
//! An ADD that has found the bridge needs it until its port is there; from then on the bridge is
//! not empty. The lock is on the file of the host's network namespace: there is one for each, and
//! nothing to make or clean up. The kernel releases it with the file, however the process ends.

use std::io;

use kernel::NetNs;
use kernel::netns::NetNsLock;
use plugin_interface::{Error, Result};

/// For an ADD: the bridge will not be removed while the lock is held. Many may have it at once.
pub(crate) fn shared(host: &NetNs) -> Result<NetNsLock> {
    host.lock_shared().map_err(failed)
}

/// For who removes the bridge: nobody makes a port while the lock is held.
pub(crate) fn exclusive(host: &NetNs) -> Result<NetNsLock> {
    host.lock_exclusive().map_err(failed)
}

fn failed(source: io::Error) -> Error {
    Error::Lock { what: "the host's network namespace".into(), source }
}
