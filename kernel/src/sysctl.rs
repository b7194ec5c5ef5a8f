//! Kernel settings under `/proc/sys` (`sysctl(8)`), of the network namespace that the calling
//! thread is in.

use std::fs;
use std::io;

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} /proc/sys/{key}: {source}; is /proc/sys writable, and does this kernel have it?")]
pub struct SysctlError {
    action: String,
    key: String,
    /// The operating system's word.
    pub source: io::Error,
}

impl SysctlError {
    /// Whether this kernel or namespace has no such setting, as without IPv6.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether `/proc/sys` is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.source.kind() == io::ErrorKind::ReadOnlyFilesystem
    }
}

/// The value of a setting, such as `net/ipv4/ip_forward`, without its line end.
///
/// # Errors
/// The setting is not there or may not be read.
pub fn get(key: &str) -> Result<String, SysctlError> {
    let read = fs::read_to_string(path(key));
    let value =
        read.map_err(|source| SysctlError { action: "read".into(), key: key.into(), source })?;
    Ok(value.trim_end().to_owned())
}

/// Gives a setting a value, if it has another: a read-only `/proc/sys` that already says the right
/// thing is no obstacle. Returns whether it was written.
///
/// # Errors
/// The setting is not there or may not be written.
pub fn set(key: &str, value: &str) -> Result<bool, SysctlError> {
    if get(key)? == value {
        return Ok(false);
    }
    write(key, value)?;
    Ok(true)
}

/// As [`set`] for a setting that surely has another value, such as one of a link that was just
/// made: it is read only if it cannot be written.
///
/// # Errors
/// As [`set`].
pub fn set_new(key: &str, value: &str) -> Result<(), SysctlError> {
    match write(key, value) {
        Err(_) if get(key).is_ok_and(|present| present == value) => Ok(()),
        written => written,
    }
}

/// Gives a setting a value, whatever it has: for those that cannot be read, such as
/// `net/ipv4/route/flush`.
///
/// # Errors
/// The setting is not there, may not be written, or does not take the value.
pub fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(path(key), value).map_err(|source| SysctlError {
        action: format!("write {value:?} to"),
        key: key.into(),
        source,
    })
}

fn path(key: &str) -> String {
    format!("/proc/sys/{key}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::NetNs;

    #[test]
    fn writes_only_what_differs_and_only_here() {
        let ns = NetNs::create().unwrap();
        let before = get("net/ipv4/ip_forward").unwrap();
        ns.run(|| {
            set("net/ipv4/ip_forward", "0").unwrap();
            assert!(set("net/ipv4/ip_forward", "1").unwrap());
            assert!(!set("net/ipv4/ip_forward", "1").unwrap());
            assert_eq!(get("net/ipv4/ip_forward").unwrap(), "1");
        })
        .unwrap();
        assert_eq!(get("net/ipv4/ip_forward").unwrap(), before);
    }

    #[test]
    fn an_absent_setting_is_told_from_a_forbidden_one() {
        let error = set("net/ipv4/no_such_setting", "1").unwrap_err();
        assert!(error.is_absent());
        assert!(error.to_string().contains("net/ipv4/no_such_setting"), "{error}");
    }
}
