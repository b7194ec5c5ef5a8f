//! Who this node is: its name, its machine ID, and the addresses by which others reach it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;

use super::backend::Backend;
use super::options::EtcdOptions;
use super::value::{Identity, is_name};

/// Addresses that are nowhere (RFC 5737, RFC 3849), on the way to which the default route is.
const SOMEWHERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOMEWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Why it is not known who this node is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The name.
    #[error("the name {0:?} of this node is empty or has blanks in it; give another with --node")]
    Name(String),
    /// No machine ID.
    #[error(
        "cannot read the machine ID in {path:?}: {source}; make one with \
         systemd-machine-id-setup, or name another file with --machine-id"
    )]
    Machine {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// Which would be the gateway?
    #[error("--node-address {0} is the second one of its family; keep one a family")]
    FamilyTwice(IpAddr),
    /// No address.
    #[error("this node has no default route to tell its address by; give it with --node-address")]
    NoAddress,
}

/// Finds out.
///
/// # Errors
/// There is no machine ID, or no address.
pub fn identify(name: &str, options: &EtcdOptions) -> Result<Identity, IdentityError> {
    if !is_name(name) {
        return Err(IdentityError::Name(name.to_owned()));
    }
    let error = |source| IdentityError::Machine { path: options.machine_id.clone(), source };
    let machine = std::fs::read_to_string(&options.machine_id).map_err(error)?.trim().to_owned();
    if machine.is_empty() {
        return Err(error(io::Error::other("it is empty")));
    }
    let (mut v4, mut v6) = (None, None);
    for &address in &options.node_addresses {
        let twice = match address {
            IpAddr::V4(address) => v4.replace(address).is_some(),
            IpAddr::V6(address) => v6.replace(address).is_some(),
        };
        if twice {
            return Err(IdentityError::FamilyTwice(address));
        }
    }
    if options.node_addresses.is_empty() {
        (v4, v6) = (default_v4(), default_v6());
    }
    if v4.is_none() && v6.is_none() {
        return Err(IdentityError::NoAddress);
    }
    Ok(Identity { name: name.to_owned(), machine: Some(machine), v4, v6, backend: Backend::HostGw })
}

/// The address that the kernel would send from by its default route. Nothing is sent.
fn default_v4() -> Option<Ipv4Addr> {
    match source((Ipv4Addr::UNSPECIFIED, 0), (SOMEWHERE_V4, 9)).ok()? {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn default_v6() -> Option<Ipv6Addr> {
    match source((Ipv6Addr::UNSPECIFIED, 0), (SOMEWHERE_V6, 9)).ok()? {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    }
}

fn source(
    any: impl std::net::ToSocketAddrs,
    to: impl std::net::ToSocketAddrs,
) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}
