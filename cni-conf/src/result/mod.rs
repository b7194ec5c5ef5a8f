//! What an ADD answers with (CNI spec, section 5), in one shape for all versions.
//!
//! The model is that of 1.1.0. [`CniResult::parse`] reads the format of any version into it, and
//! [`CniResult::render`] writes it in the format of any version, leaving out what that version
//! cannot say.

mod parse;
mod render;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Interfaces, addresses, routes and name servers of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// All interfaces made or found; addresses point into this list.
    pub interfaces: Vec<Interface>,
    /// The addresses given to the container.
    pub ips: Vec<IpConfig>,
    /// The routes made in the container.
    pub routes: Vec<Route>,
    /// What the container's resolver should be told.
    pub dns: Dns,
}

/// A network interface, on the host or in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name there.
    pub name: String,
    /// Its hardware address; empty if it has none.
    pub mac: String,
    /// Its MTU in bytes (1.1.0).
    pub mtu: Option<u32>,
    /// The path of the network namespace it is in; empty for the host's.
    pub sandbox: String,
    /// The path of the socket it is reached by, for a vhost-user interface (1.1.0).
    pub socket_path: String,
    /// The PCI device behind it (1.1.0).
    pub pci_id: String,
}

/// An address given to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// Which of the result's interfaces has it; none in the answer of an IPAM plugin.
    pub interface: Option<usize>,
    /// The container's own address, with the prefix length of its subnet.
    pub address: IpNetwork,
    /// The subnet's gateway.
    pub gateway: Option<IpAddr>,
}

/// A route in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub dst: IpNetwork,
    /// The next hop; without one, the gateway of the address of the same family is meant.
    pub gw: Option<IpAddr>,
    /// The MTU along it, in bytes (1.1.0).
    pub mtu: Option<u32>,
    /// The TCP maximal segment size to announce, in bytes (1.1.0).
    pub advmss: Option<u32>,
    /// Its priority: lower wins (1.1.0).
    pub priority: Option<u32>,
    /// The routing table it is in (1.1.0).
    pub table: Option<u32>,
    /// Its scope, as the kernel numbers them: 0 universe, 253 link, 254 host (1.1.0).
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst` by way of `gw` and nothing more.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// What a resolver is told; see resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers in order of priority.
    pub nameservers: Vec<String>,
    /// The local domain; empty if there is none.
    pub domain: String,
    /// The domains to search, in order.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}
