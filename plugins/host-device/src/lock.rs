//! Who may lend a link or take it back: a lock of the host.

use kernel::NetNs;
use kernel::netns::NetNsLock;
use plugin_interface::{Error, Result};

/// While this is held, nobody else changes what is lent. A loan is written before its link leaves, so
/// that without the lock another ADD could take it for one of a link that is home again.
pub(crate) fn alone() -> Result<NetNsLock> {
    let failed = |source| Error::Lock { what: "the host's network namespace".into(), source };
    NetNs::current()?.lock_exclusive().map_err(failed)
}
