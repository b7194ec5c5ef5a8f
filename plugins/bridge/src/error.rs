//! What can go wrong, and as which CNI code it is told.

use std::path::PathBuf;
use std::time::Duration;

use cni_conf::error::{CniError, Code};
use cni_conf::sync_status::SyncStatusError;
use ipnetwork::IpNetwork;
use kernel::netns::NetnsError;
use kernel::sysctl::SysctlError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a verb of the bridge plugin failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{key} {value}: {reason}")]
    Config { key: &'static str, value: String, reason: String },
    #[error("unsupported field {key}: {value}; this version of the plugin does not know it")]
    Unsupported { key: String, value: String },
    #[error(
        "IPAM plugin returned missing IP config; give \"ipam\" a range, or leave \"ipam\" out for a network without addresses"
    )]
    NoAddresses,
    #[error(
        "container veth name ({ifname:?}) already exists in {netns:?}; DEL the attachment first, or choose another CNI_IFNAME"
    )]
    InterfaceExists { ifname: String, netns: PathBuf },
    #[error("{name:?} already exists but is not a bridge ({kind}); choose another \"bridge\" name")]
    NotABridge { name: String, kind: String },
    #[error(
        "{bridge:?} already has an IP address different from {wanted}: {found}; use another bridge, or remove that address"
    )]
    AddressConflict { bridge: String, wanted: IpNetwork, found: IpNetwork },
    #[error("no free name for the host's end of {alias:?}: {tried} are taken by other attachments")]
    NoFreeName { alias: String, tried: String },
    #[error(
        "address {address} is masqueraded for {holder:?}, which is alive; two attachments cannot share an address"
    )]
    AddressHeld { address: IpNetwork, holder: String },
    #[error("{thing} went away while it was being set up")]
    Vanished { thing: String },
    #[error("CHECK: {0}")]
    Different(String),
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("CNI_NETNS: {0}")]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("{thing} was not ready after {waited:?}; the node may be overloaded, try again later")]
    TooLate { thing: String, waited: Duration },
    #[error(transparent)]
    SyncStatus(#[from] SyncStatusError),
    #[error("{0}")]
    Cni(#[from] CniError),
    #[error("{first}; and then: {}", rest.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several { first: Box<Error>, rest: Vec<Error> },
}

impl Error {
    /// The error that stands for all of these; success if there are none.
    pub(crate) fn all(errors: impl IntoIterator<Item = Error>) -> Result<()> {
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else { return Ok(()) };
        let rest: Vec<_> = errors.collect();
        if rest.is_empty() { Err(first) } else { Err(Error::Several { first: first.into(), rest }) }
    }

    fn code(&self) -> Code {
        match self {
            Error::Config { .. } => Code::InvalidConfig,
            Error::Unsupported { .. } => Code::UnsupportedField,
            Error::NoAddresses => Code::Delegate,
            Error::InterfaceExists { .. }
            | Error::NotABridge { .. }
            | Error::AddressConflict { .. }
            | Error::NoFreeName { .. }
            | Error::AddressHeld { .. } => Code::Conflict,
            Error::Netns(_) => Code::InvalidNetns,
            Error::Different(_) => Code::CheckFailed,
            Error::NotReady(_) | Error::SyncStatus(_) => Code::NotAvailable,
            Error::Kernel(_) | Error::Sysctl(_) | Error::Vanished { .. } => Code::Kernel,
            Error::TooLate { .. } => Code::TryAgainLater,
            Error::Cni(error) => error.code,
            Error::Several { first, .. } => first.code(),
        }
    }
}

impl From<Error> for CniError {
    fn from(error: Error) -> CniError {
        match error {
            Error::Cni(error) => error,
            error => CniError::explained(error.code(), &error.to_string()),
        }
    }
}
