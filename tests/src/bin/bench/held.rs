//! Addresses that others hold.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use cbr0_tests::Result;
use cbr0_tests::error::Context;

/// Reserves the first addresses of `10.88.0.0/16` in a network's folder, as host-local would have.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn hold(reservations: &Path, count: u32) -> Result<()> {
    let write = |name: &str, text: &str| {
        let file = reservations.join(name);
        fs::write(&file, text).context(|| format!("write {}", file.display()))
    };
    fs::create_dir_all(reservations).context(|| format!("make {}", reservations.display()))?;
    let first = Ipv4Addr::new(10, 88, 0, 2).to_bits();
    for number in 0..count {
        let address = Ipv4Addr::from_bits(first + number);
        write(&address.to_string(), &format!("held-{number}\r\neth0"))?;
    }
    match count.checked_sub(1) {
        Some(last) => write("last_reserved_ip.0", &Ipv4Addr::from_bits(first + last).to_string()),
        None => Ok(()),
    }
}
