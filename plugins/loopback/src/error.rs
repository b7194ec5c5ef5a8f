//! What can go wrong, and the code the runtime is told.

use cni_conf::error::{CniError, Code};
use ipnetwork::IpNetwork;
use kernel::netns::NetnsError;

/// Why `lo` is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// CNI_NETNS cannot be opened, or is the host's own.
    #[error("CNI_NETNS: {0}")]
    Netns(#[from] NetnsError),
    /// The kernel refused a request.
    #[error("{0}")]
    Kernel(#[from] kernel::Error),
    /// There is no interface `lo`.
    #[error("the container has no interface lo; it was renamed: rename it back")]
    NoLo,
    /// `lo` has an address that is no loopback address. The first words are the reference's.
    #[error(
        "loopback interface found with non-loopback address {0}; remove it, or leave this plugin \
         out of the network's configuration"
    )]
    NotLoopback(IpNetwork),
    /// CHECK: `lo` is down.
    #[error("interface lo of the container is down; ip link set lo up brings it back")]
    Down,
    /// CHECK: an address is missing.
    #[error(
        "interface lo of the container has no address {0}; ip address add {0} dev lo brings it back"
    )]
    AddressMissing(IpNetwork),
}

impl From<Error> for CniError {
    fn from(error: Error) -> CniError {
        let code = match error {
            Error::Netns(_) => Code::InvalidNetns,
            Error::Kernel(_) | Error::NoLo => Code::Kernel,
            Error::NotLoopback(_) => Code::Conflict,
            Error::Down | Error::AddressMissing(_) => Code::CheckFailed,
        };
        CniError::explained(code, &error.to_string())
    }
}
