//! The tunnel to nodes behind a router: VXLAN (RFC 7348), as flannel has it on the wire.
//!
//! A packet to a Pod of such a node is put into a datagram from node to node. For that the kernel
//! needs four kinds of objects, each of which is desired, observed and repaired as routes are: a
//! device; on it, for each node's range, a neighbour that stands for the node; where the neighbour's
//! hardware address is, as a forwarding entry (FDB); and the route itself, `RANGE via NEIGHBOUR dev
//! DEVICE onlink`. IPv4 Pods are reached by the nodes' IPv4 addresses and IPv6 Pods by the IPv6 ones,
//! so each family has a device of its own.

pub mod vtep;

pub use vtep::{Vteps, derived_mac};

/// The number of the network inside the tunnel (VNI), as flannel has it.
pub const VNI: u32 = 1;
/// The UDP port of the tunnel: Linux's and flannel's default, not the 4789 of the RFC.
pub const PORT: u16 = 8472;
