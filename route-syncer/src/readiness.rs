//! The sign for plugins that the routes to other nodes are there: the first sync since boot is
//! done. It stays when the daemon stops, for the routes stay too.

use std::path::Path;

use cni_conf::sync_status::{SyncStatus, SyncStatusError, is_synced_since_boot};

use crate::clock;

/// Gives the sign, unless it has been given since boot.
///
/// # Errors
/// The file cannot be written.
pub fn announce(path: &Path, node: &str) -> Result<(), SyncStatusError> {
    // A file that cannot be read is one to be written anew.
    if matches!(is_synced_since_boot(path), Ok(true)) {
        return Ok(());
    }
    SyncStatus::of_this_boot(node, clock::now())?.write(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_is_given_once_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synced.json");
        announce(&path, "node1").unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        announce(&path, "node2").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        std::fs::write(&path, first.replace("bootId\":\"", "bootId\":\"old")).unwrap();
        announce(&path, "node2").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("node2"));
    }
}
