//! What can go wrong, and as which CNI code it is told.

use std::path::PathBuf;
use std::time::Duration;

use cni_conf::error::{CniError, Code};
use cni_conf::sync_status::SyncStatusError;
use ipnetwork::IpNetwork;
use kernel::link::Kind;
use kernel::netns::NetnsError;
use kernel::sysctl::SysctlError;
use nix::errno::Errno;

/// The result of a step of a plugin.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a verb of an interface plugin failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the configuration has a value that cannot be.
    #[error("{key} {value}: {reason}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value, as it was written.
        value: String,
        /// Which rule it breaks, and the rule.
        reason: String,
    },
    /// A key that the plugin does not know and must not ignore.
    #[error("unsupported field {key}: {value}; this version of the plugin does not know it")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value, as it was written.
        value: String,
    },
    /// A key asks for what the kernel cannot do.
    #[error(
        "{key} {value}: this kernel lacks {feature}; use one that has it, or leave the key out"
    )]
    MissingFeature {
        /// The key.
        key: &'static str,
        /// Its value, as it was written.
        value: String,
        /// The kernel's feature, and the option that it is built with.
        feature: &'static str,
    },
    /// Somebody else on the network has an address that was given to the container.
    #[error(
        "address {address} of {ifname:?} is in use by another on the link; take it out of IPAM's range"
    )]
    DuplicateAddress {
        /// The address.
        address: IpNetwork,
        /// The interface.
        ifname: String,
    },
    /// IPAM answered without addresses.
    #[error(
        "IPAM plugin returned missing IP config; give \"ipam\" a range, or leave \"ipam\" out for a network without addresses"
    )]
    NoAddresses,
    /// CNI_IFNAME is taken in the container.
    #[error(
        "container veth name ({ifname:?}) already exists in {netns:?}; DEL the attachment first, or choose another CNI_IFNAME"
    )]
    InterfaceExists {
        /// The name.
        ifname: String,
        /// CNI_NETNS.
        netns: PathBuf,
    },
    /// CNI_IFNAME is not there for a chained plugin.
    #[error(
        "no interface {ifname:?} in {netns:?}; the plugins before this one in the list must have made it"
    )]
    NoInterface {
        /// The name.
        ifname: String,
        /// CNI_NETNS.
        netns: PathBuf,
    },
    /// A link that the configuration names is of another kind than it must be.
    #[error("{name:?} already exists but is not a {wanted} ({kind}); choose another {key:?} name")]
    WrongKind {
        /// The key that names it.
        key: &'static str,
        /// The link.
        name: String,
        /// The kind that it must be of.
        wanted: &'static str,
        /// The kind that it is of.
        kind: String,
    },
    /// The container's interface is a port of another link already.
    #[error(
        "interface {ifname} already has a master set: {master}; take it out of that one first, or leave this plugin out"
    )]
    HasMaster {
        /// The interface.
        ifname: String,
        /// The link that it is a port of.
        master: String,
    },
    /// A VRF that is there has another table than the wanted one.
    #[error(
        "VRF {name} already exist with different routing table {found}, not {wanted}; leave \"table\" out to use it, or choose another \"vrfname\""
    )]
    VrfTable {
        /// The VRF.
        name: String,
        /// The table that it has.
        found: u32,
        /// The table that it shall have.
        wanted: u32,
    },
    /// A shared link has an address that the wanted one cannot be beside.
    #[error(
        "{link:?} already has an IP address different from {wanted}: {found}; use another {kind}, or remove that address"
    )]
    AddressConflict {
        /// The link.
        link: String,
        /// Its kind.
        kind: &'static str,
        /// The address that it shall have.
        wanted: IpNetwork,
        /// The one that it has.
        found: IpNetwork,
    },
    /// All names for the host's end of a veth are taken.
    #[error("no free name for the host's end of {alias:?}: {tried} are taken by other attachments")]
    NoFreeName {
        /// The attachment.
        alias: String,
        /// The names.
        tried: String,
    },
    /// Somebody alive has an address that is to be masqueraded.
    #[error(
        "address {address} is masqueraded for {holder:?}, which is alive; two attachments cannot share an address"
    )]
    AddressHeld {
        /// The address.
        address: IpNetwork,
        /// Who has it.
        holder: String,
    },
    /// The host knows another way to an address.
    #[error(
        "the host has a route to {address} by link {link:?} (alias {alias:?}) already; two attachments cannot share an address: remove what is not alive"
    )]
    AddressRouted {
        /// The address.
        address: IpNetwork,
        /// The link that it leads to.
        link: String,
        /// The link's alias.
        alias: String,
    },
    /// IPAM gave an address without the gateway that the host must have.
    #[error(
        "IPAM gave {address} without a gateway of its own, which the host's end of the link would have; give the address or its range a \"gateway\""
    )]
    NoGateway {
        /// The address.
        address: IpNetwork,
    },
    /// Somebody else has a port of the host.
    #[error(
        "host port {place} is held by {holder:?}; choose another port, or DEL that attachment first"
    )]
    HostPortHeld {
        /// Protocol, address and port.
        place: String,
        /// Who has it.
        holder: String,
    },
    /// A plugin's record of an attachment could not be kept.
    #[error("{action} {path:?}: {source}; \"dataDir\" must name a folder that can be written to")]
    Record {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The kernel was built without this kind of link.
    #[error("this kernel makes no links of kind {kind}: {source}; it needs {feature}")]
    UnknownKind {
        /// The kind.
        kind: &'static str,
        /// What the kernel lacks.
        feature: &'static str,
        /// The kernel's word.
        source: kernel::Error,
    },
    /// A link of the host, or of another container, has the frames of a tag already.
    #[error(
        "VLAN ID {id} of {master:?} is taken by another link: {source}; a tag of a master is one container's: DEL the attachment that has it, or choose another \"vlanId\" or \"master\""
    )]
    TagTaken {
        /// The tag.
        id: u16,
        /// The link below.
        master: String,
        /// The kernel's word.
        source: kernel::Error,
    },
    /// Somebody removed what was just made.
    #[error("{thing} went away while it was being set up")]
    Vanished {
        /// What.
        thing: String,
    },
    /// CHECK found something missing or different.
    #[error("CHECK: {0}")]
    Different(String),
    /// A lock could not be had.
    #[error("lock {what}: {source}")]
    Lock {
        /// What of.
        what: String,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The next ADD would fail.
    #[error("not ready: {0}")]
    NotReady(String),
    /// CNI_NETNS is no container's namespace.
    #[error("CNI_NETNS: {0}")]
    Netns(#[from] NetnsError),
    /// The kernel refused a request.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A setting could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A link of the host that a container has already.
    #[error(
        "link {name:?} is lent to {borrower:?}; DEL that attachment first, or lend another link"
    )]
    Lent {
        /// The link.
        name: String,
        /// Who has it.
        borrower: String,
    },
    /// A link of the host that cannot leave it.
    #[error("link {name:?} cannot be moved to a container: {source}; lend another link")]
    NotLendable {
        /// The link.
        name: String,
        /// The kernel's word.
        source: kernel::Error,
    },
    /// A tap could not be made.
    #[error(transparent)]
    Tap(#[from] kernel::tun::TapError),
    /// The program that reads and writes iptables' own tables failed, or is not there.
    #[error(
        "{program}: {why}; table {table:?} may hold rules of the attachment that the reference plugin made: the program must be in PATH, or the table unloaded"
    )]
    Iptables {
        /// What was executed.
        program: String,
        /// The table, which is loaded in this namespace.
        table: String,
        /// What the program or the system said.
        why: String,
    },
    /// The kernel did not get somewhere in time.
    #[error("{thing} was not ready after {waited:?}; the node may be overloaded, try again later")]
    TooLate {
        /// What was waited for.
        thing: String,
        /// How long.
        waited: Duration,
    },
    /// The route syncer's status file cannot be read.
    #[error(transparent)]
    SyncStatus(#[from] SyncStatusError),
    /// What has a code already: of the configuration, or of IPAM.
    #[error("{0}")]
    Cni(#[from] CniError),
    /// Several steps failed.
    #[error("{first}; and then: {}", rest.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several {
        /// The first, which gives the code.
        first: Box<Error>,
        /// The others.
        rest: Vec<Error>,
    },
}

impl Error {
    /// What it means that a link of this kind could not be made.
    pub fn of_kind(kind: Kind, source: kernel::Error) -> Error {
        let (name, feature) = (kind.name(), kind.feature());
        match source {
            source if source.is(Errno::EOPNOTSUPP) => {
                Error::UnknownKind { kind: name, feature, source }
            }
            source => source.into(),
        }
    }

    /// Whether the kernel has refused a request, and so has done nothing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::Kernel(error) => error.errno().is_some(),
            error => matches!(error, Error::UnknownKind { .. } | Error::TagTaken { .. }),
        }
    }

    /// The error that stands for those of all these steps; success if none failed.
    ///
    /// # Errors
    /// One of the steps failed.
    pub fn all(steps: impl IntoIterator<Item = Result<()>>) -> Result<()> {
        let mut errors = steps.into_iter().filter_map(Result::err);
        let Some(first) = errors.next() else { return Ok(()) };
        let rest: Vec<_> = errors.collect();
        if rest.is_empty() { Err(first) } else { Err(Error::Several { first: first.into(), rest }) }
    }

    /// This error, told together with what else went wrong when the work was undone.
    #[must_use]
    pub fn undone(self, undo: Result<()>) -> Error {
        match undo {
            Ok(()) => self,
            Err(left) => Error::Several { first: self.into(), rest: vec![left] },
        }
    }

    /// The CNI code.
    pub fn code(&self) -> Code {
        match self {
            Error::Config { .. } => Code::InvalidConfig,
            Error::Unsupported { .. } | Error::MissingFeature { .. } => Code::UnsupportedField,
            Error::NoAddresses | Error::NoGateway { .. } => Code::Delegate,
            Error::InterfaceExists { .. }
            | Error::WrongKind { .. }
            | Error::HasMaster { .. }
            | Error::TagTaken { .. }
            | Error::VrfTable { .. }
            | Error::AddressConflict { .. }
            | Error::NoFreeName { .. }
            | Error::AddressRouted { .. }
            | Error::Lent { .. }
            | Error::NotLendable { .. }
            | Error::AddressHeld { .. }
            | Error::HostPortHeld { .. }
            | Error::DuplicateAddress { .. } => Code::Conflict,
            Error::NoInterface { .. } => Code::InvalidEnvironment,
            Error::Netns(_) => Code::InvalidNetns,
            Error::Different(_) => Code::CheckFailed,
            Error::NotReady(_) | Error::SyncStatus(_) => Code::NotAvailable,
            Error::Kernel(_)
            | Error::Sysctl(_)
            | Error::Tap(_)
            | Error::UnknownKind { .. }
            | Error::Iptables { .. }
            | Error::Vanished { .. } => Code::Kernel,
            Error::Lock { .. } | Error::Record { .. } => Code::Io,
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
