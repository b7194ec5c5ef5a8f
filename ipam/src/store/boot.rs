//! The boot of this machine: which one it is, and how long ago it was.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot this is: a UUID in text form. No process lives through two.
pub(super) fn id() -> io::Result<[u8; 36]> {
    static ID: OnceLock<[u8; 36]> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(*id);
    }
    let text = std::fs::read(BOOT_ID)?;
    let too_short =
        || io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID} is too short"));
    let id = text.first_chunk().copied().ok_or_else(too_short)?;
    Ok(*ID.get_or_init(|| id))
}

/// The time since boot, suspended time included (`CLOCK_BOOTTIME`): nobody sets this clock.
pub(super) fn uptime() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// The instant of the boot by the clock on the wall, as that goes now.
pub(super) fn instant() -> io::Result<SystemTime> {
    let uptime = uptime()?;
    let before = SystemTime::now().checked_sub(uptime);
    before.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the clock is before 1970"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_boot_and_it_was_before() {
        assert_eq!(id().unwrap(), id().unwrap());
        assert!(id().unwrap().iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-'));
        assert!(instant().unwrap() < SystemTime::now());
    }
}
