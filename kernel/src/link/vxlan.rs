//! Links of kind `vxlan`: tunnels of Ethernet frames in UDP datagrams (RFC 7348).

use std::net::IpAddr;

use crate::address::{from_octets, octets};
use crate::netlink::{Attributes, Message};

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// What a vxlan is told. Of two in a namespace with the same number and port, one must be between
/// IPv4 and the other between IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The number of the network (VNI), of 24 bits.
    pub id: u32,
    /// The address that datagrams leave with. Its family is that of the tunnel; without one the
    /// kernel takes IPv4.
    pub local: Option<IpAddr>,
    /// The UDP port to which datagrams are sent, and at which they are received.
    pub port: u16,
    /// Whether the link learns from frames where others are; else it knows what it is told
    /// ([`crate::fdb`]).
    pub learning: bool,
}

impl Vxlan {
    /// What the kernel tells, if it tells enough.
    pub(super) fn parse(data: &Attributes<'_>) -> Option<Self> {
        let local = data.get(IFLA_VXLAN_LOCAL).or_else(|| data.get(IFLA_VXLAN_LOCAL6));
        Some(Self {
            id: data.get(IFLA_VXLAN_ID)?.u32()?,
            local: local.and_then(|local| from_octets(local.value)),
            port: data.get(IFLA_VXLAN_PORT).and_then(|port| port.u16()).map(u16::from_be)?,
            learning: data.get(IFLA_VXLAN_LEARNING)?.u8()? != 0,
        })
    }

    pub(super) fn put(self, data: Message) -> Message {
        let data = match self.local {
            Some(local) if local.is_ipv4() => data.put(IFLA_VXLAN_LOCAL, &octets(local)),
            Some(local) => data.put(IFLA_VXLAN_LOCAL6, &octets(local)),
            None => data,
        };
        data.put_u32(IFLA_VXLAN_ID, self.id)
            .put(IFLA_VXLAN_PORT, &self.port.to_be_bytes())
            .put(IFLA_VXLAN_LEARNING, &[u8::from(self.learning)])
    }
}
