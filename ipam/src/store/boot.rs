//! The boot of this machine: which one it is, and how long ago it was.

use std::io;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot this is: a UUID in text form, or what could be read of it.
pub(super) fn id() -> io::Result<[u8; 36]> {
    let text = std::fs::read(BOOT_ID)?;
    let id = text.first_chunk().copied();
    id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID} is too short")))
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
