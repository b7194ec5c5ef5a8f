//! What can go wrong between us and the kernel.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::netns::NetnsError;

/// The result of asking the kernel for something.
pub type Result<T> = std::result::Result<T, Error>;

/// A request that the kernel refused, or that never got as far.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel answered with an error number.
    #[error("{what}: {}{}", errno.desc(), explained(text))]
    Refused {
        /// The request in words, such as `create veth "veth1"`.
        what: String,
        /// The error number of the answer.
        errno: Errno,
        /// The kernel's extended acknowledgement (`NLMSGERR_ATTR_MSG`); empty if it gave none.
        text: String,
    },
    /// A netlink socket could not be opened, written or read.
    #[error("{what}: {source}{}", remedy(source))]
    Socket {
        /// What was tried.
        what: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// The namespace that a socket was to be opened in could not be entered or left.
    #[error("open a netlink socket in a network namespace: {0}")]
    Namespace(#[from] Box<NetnsError>),
    /// The kernel changed what it listed while listing it, each time it was asked.
    #[error(
        "{what}: the list changed during each of {tries} readings; try again when the node is calmer"
    )]
    Interrupted {
        /// The request in words.
        what: String,
        /// How often the dump was started.
        tries: u32,
    },
    /// The kernel has not told in time that something has happened.
    #[error("{what}: not done within {} s; try again when the node is calmer", waited.as_secs())]
    TooLate {
        /// The request in words.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The kernel said nothing where the protocol promises an answer.
    #[error("{what}: the kernel gave no answer")]
    NoAnswer {
        /// The request in words.
        what: String,
    },
    /// An answer that does not follow the wire format.
    #[error("{what}: the kernel's answer cannot be read: {why}")]
    Malformed {
        /// The request in words.
        what: String,
        /// Which rule it breaks.
        why: &'static str,
    },
}

impl Error {
    /// The kernel's error number, if the kernel answered with one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the kernel answered with this error number.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno)
    }

    /// Whether the kernel does not have the part that was asked: no such protocol, or nobody behind
    /// it (to which nfnetlink answers `EINVAL`).
    pub fn is_unsupported(&self) -> bool {
        match self {
            Error::Socket { source, .. } => {
                source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32)
            }
            _ => matches!(self.errno(), Some(Errno::EOPNOTSUPP | Errno::EINVAL)),
        }
    }

    /// Whether the thing asked about does not exist (`ENODEV`, `ENOENT`, `ESRCH`, `EADDRNOTAVAIL`).
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL)
        )
    }
}

fn explained(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; this needs CAP_NET_ADMIN in the user namespace that owns the network namespace"
        }
        _ => "",
    }
}
