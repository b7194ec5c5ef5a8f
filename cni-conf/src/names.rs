//! What names may look like: container IDs, networks, interfaces, plugin types.
//!
//! The rules are those of the spec, as the reference's `skel` enforces them. They are also what
//! makes it safe to use a name as a part of a path, of an interface alias or of an nf_tables name.

use crate::error::{CniError, Code};

/// The kernel's limit for interface names, without the closing NUL (IFNAMSIZ - 1).
const IFNAME_MAX: usize = 15;

/// A name that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// CNI_CONTAINERID is empty.
    #[error("missing containerID: the runtime must set CNI_CONTAINERID")]
    MissingContainerId,
    /// CNI_CONTAINERID holds a character that is not allowed.
    #[error(
        "invalid characters in containerID {0:?} (CNI_CONTAINERID): it must begin with a letter \
         or digit and go on with letters, digits, '_', '.' and '-'"
    )]
    ContainerId(String),
    /// The configuration's `name` is absent or empty.
    #[error("missing network name: the configuration needs the key \"name\"")]
    MissingNetworkName,
    /// The configuration's `name` holds a character that is not allowed.
    #[error(
        "invalid characters found in network name {0:?} (key \"name\"): it must begin with a \
         letter or digit and go on with letters, digits, '_', '.' and '-'"
    )]
    NetworkName(String),
    /// CNI_IFNAME is not a name the kernel takes.
    #[error("interface name {name:?} (CNI_IFNAME) {problem}")]
    Ifname {
        /// The name as it was given.
        name: String,
        /// Which rule it breaks, and the rule.
        problem: &'static str,
    },
    /// A `type` that cannot be the name of a file in a folder of CNI_PATH.
    #[error(
        "invalid plugin name: {0:?} (key \"type\"): it must be the bare name of an executable in \
         CNI_PATH, such as \"host-local\""
    )]
    PluginType(String),
}

impl From<NameError> for CniError {
    fn from(error: NameError) -> CniError {
        let code = match error {
            NameError::MissingContainerId
            | NameError::ContainerId(_)
            | NameError::Ifname { .. } => Code::InvalidEnvironment,
            NameError::MissingNetworkName
            | NameError::NetworkName(_)
            | NameError::PluginType(_) => Code::InvalidConfig,
        };
        CniError::new(code, error.to_string())
    }
}

/// A container ID: not empty, a letter or digit first, then also `_`, `.` and `-`.
///
/// # Errors
/// [`NameError::MissingContainerId`] or [`NameError::ContainerId`].
pub fn check_container_id(id: &str) -> Result<(), NameError> {
    match id {
        "" => Err(NameError::MissingContainerId),
        id if is_plain(id) => Ok(()),
        id => Err(NameError::ContainerId(id.to_owned())),
    }
}

/// A network name: the same rule as for a container ID.
///
/// # Errors
/// [`NameError::MissingNetworkName`] or [`NameError::NetworkName`].
pub fn check_network_name(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::MissingNetworkName),
        name if is_plain(name) => Ok(()),
        name => Err(NameError::NetworkName(name.to_owned())),
    }
}

/// An interface name: 1 to 15 bytes, not `.` or `..`, no `/`, `:` or white space (the kernel's
/// `dev_valid_name`).
///
/// # Errors
/// [`NameError::Ifname`], which says what is wrong with it.
pub fn check_ifname(name: &str) -> Result<(), NameError> {
    let problem = if name.is_empty() {
        "is empty: give it 1 to 15 bytes"
    } else if name.len() > IFNAME_MAX {
        "is too long: it must have at most 15 bytes"
    } else if name == "." || name == ".." {
        "is . or .., which the kernel refuses: choose another"
    } else if name.contains(['/', ':', '\0']) {
        "contains '/', ':' or NUL, which the kernel refuses: leave them out"
    } else if name.contains('%') {
        "contains '%', which the kernel takes for a pattern: leave it out"
    } else if name.contains(char::is_whitespace) {
        "contains white space, which the kernel refuses: leave it out"
    } else {
        return Ok(());
    };
    Err(NameError::Ifname { name: name.to_owned(), problem })
}

/// A plugin's `type`: the name of a file, not a path.
///
/// # Errors
/// [`NameError::PluginType`].
pub fn check_plugin_type(name: &str) -> Result<(), NameError> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(NameError::PluginType(name.to_owned()));
    }
    Ok(())
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`
fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_and_networks_have_the_same_rule() {
        for name in ["a", "0", "cni-1_x.y", "e8a6c1d8-5f6f-4d8f", "A..", &"x".repeat(300)] {
            assert_eq!(check_container_id(name), Ok(()), "{name}");
            assert_eq!(check_network_name(name), Ok(()), "{name}");
        }
        for name in [".a", "-a", "_a", "a/b", "a b", "a\n", "ä", "a:b", "..", "a\0"] {
            assert_eq!(check_container_id(name), Err(NameError::ContainerId(name.to_owned())));
            assert_eq!(check_network_name(name), Err(NameError::NetworkName(name.to_owned())));
        }
        assert_eq!(check_container_id(""), Err(NameError::MissingContainerId));
        assert_eq!(check_network_name(""), Err(NameError::MissingNetworkName));
    }

    #[test]
    fn ifnames_are_those_the_kernel_takes() {
        for name in ["e", "eth0", "eth0.100", "a@b", "0", "...", "123456789012345", "ünïcödé"] {
            assert_eq!(check_ifname(name), Ok(()), "{name}");
        }
        let wrong = ["", "1234567890123456", ".", "..", "a/b", "a:b", "a b", "a\t", "a\u{2003}b"];
        for name in wrong {
            assert!(check_ifname(name).is_err(), "{name:?}");
        }
        assert!(check_ifname("üüüüüüüü").is_err(), "16 bytes in 8 characters are too long");
    }

    #[test]
    fn a_plugin_type_is_no_path() {
        assert_eq!(check_plugin_type("host-local"), Ok(()));
        for name in ["", ".", "..", "/bin/sh", "a/b", "a\0"] {
            assert_eq!(check_plugin_type(name), Err(NameError::PluginType(name.to_owned())));
        }
    }

    #[test]
    fn errors_name_the_thing_the_value_and_the_remedy() {
        let error = CniError::from(check_ifname("eth0/../x").unwrap_err());
        assert_eq!(error.code, Code::InvalidEnvironment);
        for part in ["CNI_IFNAME", "\"eth0/../x\"", "leave them out"] {
            assert!(error.msg.contains(part), "{part} is not in {error}");
        }
        let error = CniError::from(check_network_name("my net").unwrap_err());
        assert_eq!(error.code, Code::InvalidConfig);
        for part in ["network name", "\"my net\"", "must begin with"] {
            assert!(error.msg.contains(part), "{part} is not in {error}");
        }
        assert_eq!(CniError::from(NameError::MissingContainerId).code, Code::InvalidEnvironment);
    }

    proptest! {
        #[test]
        fn no_name_panics_and_no_accepted_name_leaves_its_folder(name in any::<String>()) {
            let as_path_part = [
                check_container_id(&name), check_network_name(&name), check_plugin_type(&name),
            ];
            if as_path_part.iter().any(Result::is_ok) || check_ifname(&name).is_ok() {
                let joined = std::path::Path::new("/x").join(&name);
                prop_assert_eq!(joined.parent(), Some(std::path::Path::new("/x")));
                prop_assert!(!name.contains('\0'));
            }
        }
    }
}
