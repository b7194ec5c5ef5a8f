//! The sign for plugins that the routes to other nodes are there: the first sync since boot is
//! done. It stays when the daemon stops, for the routes stay too.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cni_conf::sync_status::{SyncStatus, SyncStatusError, is_synced_since_boot};

/// Gives the sign, unless it has been given since boot.
///
/// # Errors
/// The file cannot be written.
pub fn announce(path: &Path, node: &str) -> Result<(), SyncStatusError> {
    // A file that cannot be read is one to be written anew.
    if matches!(is_synced_since_boot(path), Ok(true)) {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SyncStatus::of_this_boot(node, rfc3339(now.as_secs()))?.write(path)
}

/// Seconds since 1970 as people write them, in UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end; 719,468 days before 1970 began
    // the year 0, at the start of an era of 400 years and 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (year, day) = (era * 400 + year, day - (153 * month + 2) / 5 + 1);
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_as_a_date() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(rfc3339(1_704_067_199), "2023-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }

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
