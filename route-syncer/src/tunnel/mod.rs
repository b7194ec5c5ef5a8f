//! The tunnel to nodes behind a router: VXLAN (RFC 7348), as flannel has it on the wire.
//!
//! A packet to a Pod of such a node is put into a datagram from node to node. For that the kernel
//! needs four kinds of objects, each of which is desired, observed and repaired as routes are:
//!
//! - a [`device`], with this node's hardware address, and an address out of its Pods' range;
//! - on it, for each range of such a node, a neighbour that stands for the node ([`peers`]);
//! - a forwarding entry (FDB): behind which node the neighbour's hardware address is;
//! - the route, `RANGE via NEIGHBOUR dev DEVICE onlink`.
//!
//! What there is of them is [`seen`], and [`words`] has them as people would type them. A hardware
//! address follows from a node's address ([`vtep`]). IPv4 Pods are reached by the nodes' IPv4
//! addresses and IPv6 Pods by the IPv6 ones, so each family has a device of its own.

pub mod device;
pub mod peers;
pub mod seen;
pub mod vtep;
pub mod words;

use std::net::IpAddr;

use crate::claims::{Judged, Verdict};
use crate::off_link::OffLink;

pub use vtep::{Vteps, derived_mac};

/// The number of the network inside the tunnel (VNI), as flannel has it.
pub const VNI: u32 = 1;
/// The UDP port of the tunnel: Linux's and flannel's default, not the 4789 of the RFC.
pub const PORT: u16 = 8472;

/// A family of addresses between nodes. Each has a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The name of its device. It is what marks a vxlan as ours: the kernel takes no other mark in
    /// the request that makes one.
    pub fn device(self) -> &'static str {
        match self {
            Self::V4 => "cbr0-vxlan",
            Self::V6 => "cbr0-vxlan6",
        }
    }

    /// By how many bytes a packet is larger in the tunnel: the headers of IP, UDP (8) and VXLAN (8),
    /// and that of the Ethernet frame inside (14).
    pub fn overhead(self) -> u32 {
        match self {
            Self::V4 => 20 + 8 + 8 + 14,
            Self::V6 => 40 + 8 + 8 + 14,
        }
    }
}

/// By how many bytes Pods' packets must be smaller than the uplink's, to fit into the tunnels of all
/// families that this node has.
pub fn overhead(judged: &[Judged], off_link: OffLink) -> u32 {
    let own = judged.iter().filter(|judged| judged.verdict == Verdict::Own);
    let families = own.filter_map(|judged| judged.claim.gateway).map(Family::of);
    let most = families.map(Family::overhead).max();
    most.filter(|_| off_link == OffLink::Vxlan).unwrap_or(0)
}
