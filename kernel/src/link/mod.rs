//! Links: bridges, veth pairs, and their state (`rtnetlink(7)`, `ip-link(8)`).

mod bridge;
mod get;
mod kind;
mod removal;
mod set;
mod veth;
mod vlan;
mod vxlan;

pub use bridge::{Bridge, BridgeOptions, set_hairpin, set_isolated};
pub use kind::{IpvlanMode, Kind, MacvlanMode, NewLink};
pub use set::{
    delete, delete_other_end, move_to, set_alias, set_all_multicast, set_arp_notify, set_down,
    set_mac, set_master, set_mtu, set_name, set_promiscuous, set_transmit_queue, set_up,
};
pub use veth::{Veth, VethPeer};
pub use vlan::{PortVlan, add_vlans, delete_vlans};
pub use vxlan::Vxlan;

use nix::libc;

use crate::MacAddress;
use crate::netlink::{Attributes, Reply};

/// `struct ifinfomsg`.
const HEADER: usize = 16;
const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;

/// `RFC 2863` operational state "up": frames pass.
const OPERSTATE_UNKNOWN: u8 = 0;
const OPERSTATE_UP: u8 = 6;
/// `BR_STATE_FORWARDING` of `linux/if_bridge.h`.
const PORT_FORWARDING: u8 = 3;

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The interface index, unique in its namespace.
    pub index: u32,
    /// The name, such as `eth0`.
    pub name: String,
    /// The alias (`ip link set … alias`); empty if it has none.
    pub alias: String,
    /// The kind, such as `bridge` or `veth`; empty for hardware and loopback.
    pub kind: String,
    /// The hardware address, if it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// For hardware: the address that it was built with.
    pub permanent_mac: Option<MacAddress>,
    /// The largest packet in bytes, without the link header.
    pub mtu: u32,
    /// How many packets may wait to be sent (`ip link … txqueuelen`).
    pub transmit_queue: u32,
    /// Interface flags (`IFF_*`).
    pub flags: u32,
    /// Operational state of RFC 2863 (`IF_OPER_*`).
    pub operstate: u8,
    /// The index of the bridge or other device that this link is a port of.
    pub master: Option<u32>,
    /// For a veth: the index of its other end; for a link on top of another, the index of that.
    /// Either in the other link's namespace.
    pub peer: Option<u32>,
    /// The namespace of that, by the number that the asked one has for it; none if it is the same,
    /// negative if it is about to die.
    pub peer_namespace: Option<i32>,
    /// For the kinds that are made by [`NewLink`]: what the link was told.
    pub made_as: Option<Kind>,
    /// For a port of a bridge: its state there.
    pub port: Option<BridgePort>,
    /// For a bridge: whether the spanning tree protocol runs.
    pub spanning_tree: bool,
    /// For a bridge: whether its ports pass only frames of their VLANs.
    pub vlan_filtering: bool,
    /// The group that it was put in (`ip link … group`); 0 if in none.
    pub group: u32,
}

/// A link's state as a port of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgePort {
    /// `BR_STATE_*`: 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
    pub state: u8,
    /// Whether frames may leave by the port they came in by.
    pub hairpin: bool,
    /// Whether it passes no frames to other isolated ports.
    pub isolated: bool,
}

impl Link {
    /// Whether the link is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Whether the link hears frames for any address (`ip link set … promisc on`).
    pub fn is_promiscuous(&self) -> bool {
        self.flags & libc::IFF_PROMISC as u32 != 0
    }

    /// Whether the link hears frames for all groups (`ip link set … allmulticast on`).
    pub fn is_all_multicast(&self) -> bool {
        self.flags & libc::IFF_ALLMULTI as u32 != 0
    }

    /// Whether frames pass at the link itself.
    ///
    /// A bridge is made with carrier, and passes them, but Linux 6.1 leaves its operational state
    /// unknown until the carrier changes, which need not be ever: a first port that has carrier
    /// when it comes changes nothing.
    pub fn is_running(&self) -> bool {
        let untold = self.kind == "bridge" && self.operstate == OPERSTATE_UNKNOWN;
        self.operstate == OPERSTATE_UP || untold && self.is_lower_up()
    }

    fn is_lower_up(&self) -> bool {
        self.flags & libc::IFF_LOWER_UP as u32 != 0
    }

    /// Whether frames pass as far as the link knows; some kinds, such as dummies, know nothing.
    pub fn has_carrier(&self) -> bool {
        self.flags & libc::IFF_RUNNING as u32 != 0
    }

    /// Whether the bridge passes frames through this port.
    pub fn is_forwarding(&self) -> bool {
        self.is_running() && self.port.is_some_and(|port| port.state == PORT_FORWARDING)
    }

    fn parse(reply: &Reply) -> Self {
        let mut link = Link { index: reply.u32_at(4), flags: reply.u32_at(8), ..Link::default() };
        for attribute in reply.attributes(HEADER) {
            match attribute.kind {
                libc::IFLA_IFNAME => link.name = attribute.text(),
                libc::IFLA_IFALIAS => link.alias = attribute.text(),
                libc::IFLA_ADDRESS => link.mac = MacAddress::from_bytes(attribute.value),
                IFLA_PERM_ADDRESS => link.permanent_mac = MacAddress::from_bytes(attribute.value),
                libc::IFLA_MTU => link.mtu = attribute.u32().unwrap_or(0),
                libc::IFLA_TXQLEN => link.transmit_queue = attribute.u32().unwrap_or(0),
                libc::IFLA_OPERSTATE => link.operstate = attribute.u8().unwrap_or(0),
                libc::IFLA_MASTER => link.master = attribute.u32(),
                IFLA_LINK_NETNSID => {
                    link.peer_namespace = attribute.u32().map(u32::cast_signed);
                }
                libc::IFLA_GROUP => link.group = attribute.u32().unwrap_or(0),
                libc::IFLA_LINK => link.peer = attribute.u32(),
                libc::IFLA_LINKINFO => link.parse_info(&attribute.nested()),
                _ => {}
            }
        }
        link
    }

    fn parse_info(&mut self, info: &Attributes<'_>) {
        let byte =
            |data: &Attributes<'_>, kind| data.get(kind).and_then(|value| value.u8()).unwrap_or(0);
        self.kind = info.get(libc::IFLA_INFO_KIND).map(|kind| kind.text()).unwrap_or_default();
        if let Some(data) = info.get(libc::IFLA_INFO_DATA).filter(|_| self.kind == "bridge") {
            let data = data.nested();
            self.vlan_filtering = byte(&data, IFLA_BR_VLAN_FILTERING) != 0;
            let state = data.get(IFLA_BR_STP_STATE).and_then(|state| state.u32());
            self.spanning_tree = state.is_some_and(|state| state != 0);
        }
        let data = info.get(libc::IFLA_INFO_DATA).map(|data| data.nested());
        self.made_as = Kind::parse(&self.kind, &data.unwrap_or(Attributes::new(&[])));
        let slave = info.get(libc::IFLA_INFO_SLAVE_KIND).map(|kind| kind.text());
        if let Some(data) =
            info.get(IFLA_INFO_SLAVE_DATA).filter(|_| slave.as_deref() == Some("bridge"))
        {
            let data = data.nested();
            self.port = Some(BridgePort {
                state: byte(&data, IFLA_BRPORT_STATE),
                hairpin: byte(&data, IFLA_BRPORT_MODE) != 0,
                isolated: byte(&data, IFLA_BRPORT_ISOLATED) != 0,
            });
        }
    }
}

/// `struct ifinfomsg`: which link, and which flags to change to what.
fn header(index: u32, flags: i32, change: i32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
