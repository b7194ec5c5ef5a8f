//! Kinds of links that need nothing at the other end: alone, or on top of another link.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

use super::vxlan::Vxlan;
use super::{RTM_NEWLINK, header};
use crate::netlink::{Attributes, Message, Result};
use crate::{MacAddress, NetNs, Rtnl};

const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VRF_TABLE: u16 = 1;

/// What a link is, with what it is told when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A link to nowhere.
    Dummy,
    /// A link that hands back what it sends, as if it had arrived where it was redirected from.
    Ifb,
    /// Another hardware address of the link below.
    Macvlan {
        /// Whom it can talk to.
        mode: MacvlanMode,
        /// How many broadcast frames may wait (`ip link … bcqueuelen`); the kernel's default if
        /// none is given.
        broadcast_queue: Option<u32>,
    },
    /// More addresses behind the hardware address of the link below.
    Ipvlan {
        /// On which layer.
        mode: IpvlanMode,
    },
    /// The frames of the link below that have this tag (IEEE 802.1Q).
    Vlan {
        /// The tag, 0 to 4094.
        id: u16,
    },
    /// A routing table for the links that become its ports.
    Vrf {
        /// The table.
        table: u32,
    },
    /// A tunnel.
    Vxlan(Vxlan),
}

/// How a macvlan treats frames to its neighbours on the same link (`MACVLAN_MODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MacvlanMode {
    /// They are dropped.
    Private = 1,
    /// They go out, and the switch beyond may send them back.
    Vepa = 2,
    /// They are delivered.
    Bridge = 4,
    /// There are none: the link below is its own.
    Passthru = 8,
}

/// How far an ipvlan looks into packets (`IPVLAN_MODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum IpvlanMode {
    /// It answers questions for its addresses itself.
    L2 = 0,
    /// The host's routing delivers to it, and out of it.
    L3 = 1,
    /// As L3, by way of the host's netfilter.
    L3s = 2,
}

/// A link to be made.
#[derive(Clone, Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Where it is made, if not in the namespace of the socket.
    pub namespace: Option<&'a NetNs>,
    /// The link below, by its index in the namespace of the socket.
    pub lower: Option<u32>,
    /// Its hardware address; the kernel's choice if none is given.
    pub mac: Option<MacAddress>,
    /// Its MTU; the kernel's choice if none is given.
    pub mtu: Option<u32>,
    /// Whether it is up from the first instant.
    pub up: bool,
}

impl NewLink<'_> {
    /// Makes the link. `EEXIST` if the name is taken, `EOPNOTSUPP` if the kernel
    /// does not know the kind; then nothing was made.
    pub fn create(&self) -> Message {
        let number = |value: Option<u32>| value.map(u32::to_ne_bytes);
        let (lower, mtu) = (number(self.lower), number(self.mtu));
        let namespace = self.namespace.map(|namespace| namespace.as_raw_fd().to_ne_bytes());
        let what = format!("create {} {:?}", self.kind.name(), self.name);
        create(what, self.up)
            .put_text(libc::IFLA_IFNAME, self.name)
            .put_some(libc::IFLA_LINK, lower.as_ref().map(|lower| &lower[..]))
            .put_some(libc::IFLA_ADDRESS, self.mac.as_ref().map(|mac| &mac.0[..]))
            .put_some(libc::IFLA_MTU, mtu.as_ref().map(|mtu| &mtu[..]))
            .put_some(libc::IFLA_NET_NS_FD, namespace.as_ref().map(|namespace| &namespace[..]))
            .nest(libc::IFLA_LINKINFO, |info| {
                info.put_text(libc::IFLA_INFO_KIND, self.kind.name())
                    .nest(libc::IFLA_INFO_DATA, |data| self.kind.put(data))
            })
    }
}

impl Kind {
    /// The kernel's name for the kind.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Dummy => "dummy",
            Kind::Ifb => "ifb",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
            Kind::Vrf { .. } => "vrf",
            Kind::Vxlan(_) => "vxlan",
        }
    }

    /// What a kernel must have to know the kind.
    pub fn feature(self) -> &'static str {
        match self {
            Kind::Dummy => "CONFIG_DUMMY (module dummy)",
            Kind::Ifb => "CONFIG_IFB (module ifb)",
            Kind::Macvlan { .. } => "CONFIG_MACVLAN (module macvlan)",
            Kind::Ipvlan { .. } => "CONFIG_IPVLAN (module ipvlan)",
            Kind::Vlan { .. } => "CONFIG_VLAN_8021Q (module 8021q)",
            Kind::Vrf { .. } => "CONFIG_NET_VRF (module vrf)",
            Kind::Vxlan(_) => "CONFIG_VXLAN (module vxlan)",
        }
    }

    /// The kind that the kernel tells of, as far as it is one of these and says all of it.
    pub(super) fn parse(name: &str, data: &Attributes<'_>) -> Option<Kind> {
        let number = |kind| data.get(kind).and_then(|value| value.u32());
        let short = |kind| data.get(kind).and_then(|value| value.u16());
        Some(match name {
            "dummy" => Kind::Dummy,
            "ifb" => Kind::Ifb,
            "macvlan" => Kind::Macvlan {
                mode: MacvlanMode::from_number(number(IFLA_MACVLAN_MODE)?)?,
                broadcast_queue: number(IFLA_MACVLAN_BC_QUEUE_LEN),
            },
            "ipvlan" => Kind::Ipvlan { mode: IpvlanMode::from_number(short(IFLA_IPVLAN_MODE)?)? },
            "vlan" => Kind::Vlan { id: short(IFLA_VLAN_ID)? },
            "vrf" => Kind::Vrf { table: number(IFLA_VRF_TABLE)? },
            "vxlan" => Kind::Vxlan(Vxlan::parse(data)?),
            _ => return None,
        })
    }

    fn put(self, data: Message) -> Message {
        match self {
            Kind::Dummy | Kind::Ifb => data,
            Kind::Macvlan { mode, broadcast_queue } => {
                let data = data.put_u32(IFLA_MACVLAN_MODE, mode as u32);
                match broadcast_queue {
                    Some(length) => data.put_u32(IFLA_MACVLAN_BC_QUEUE_LEN, length),
                    None => data,
                }
            }
            Kind::Ipvlan { mode } => data.put(IFLA_IPVLAN_MODE, &(mode as u16).to_ne_bytes()),
            Kind::Vlan { id } => data.put(IFLA_VLAN_ID, &id.to_ne_bytes()),
            Kind::Vrf { table } => data.put_u32(IFLA_VRF_TABLE, table),
            Kind::Vxlan(vxlan) => vxlan.put(data),
        }
    }
}

impl MacvlanMode {
    fn from_number(number: u32) -> Option<Self> {
        [Self::Private, Self::Vepa, Self::Bridge, Self::Passthru]
            .into_iter()
            .find(|mode| *mode as u32 == number)
    }
}

impl IpvlanMode {
    fn from_number(number: u16) -> Option<Self> {
        [Self::L2, Self::L3, Self::L3s].into_iter().find(|mode| *mode as u16 == number)
    }
}

impl Rtnl {
    /// Asks whether the kernel can make links of a kind, and makes none: with a hardware address of
    /// one byte, and for an ipvlan in a mode that does not exist, each kind refuses the request before
    /// anything else is looked at. A kind that the kernel does not know, but has a module for, it
    /// loads, as it would for a link.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if it cannot; or the socket fails.
    pub fn probe_link_kind(&mut self, kind: Kind) -> Result<()> {
        let message = create(format!("look for links of kind {}", kind.name()), false)
            .put(libc::IFLA_ADDRESS, &[0])
            .nest(libc::IFLA_LINKINFO, |info| {
                let info = info.put_text(libc::IFLA_INFO_KIND, kind.name());
                match kind {
                    Kind::Ipvlan { .. } => info.nest(libc::IFLA_INFO_DATA, |data| {
                        data.put(IFLA_IPVLAN_MODE, &u16::MAX.to_ne_bytes())
                    }),
                    _ => info,
                }
            });
        match self.request(&message) {
            Err(error) if error.is(Errno::EOPNOTSUPP) || error.errno().is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the kernel knows a kind of link. It is asked to make one, without what it would have
    /// to be told: this is for a namespace that is thrown away.
    ///
    /// # Errors
    /// The socket fails.
    pub fn knows_link_kind(&mut self, kind: &str) -> Result<bool> {
        let message = create(format!("create a link of kind {kind}"), false)
            .put_text(libc::IFLA_IFNAME, kind)
            .nest(libc::IFLA_LINKINFO, |info| info.put_text(libc::IFLA_INFO_KIND, kind));
        match self.request(&message) {
            Err(error) if error.is(Errno::EOPNOTSUPP) => Ok(false),
            Err(error) if error.errno().is_none() => Err(error),
            _ => Ok(true),
        }
    }
}

fn create(what: String, up: bool) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let up = if up { libc::IFF_UP } else { 0 };
    Message::new(what, RTM_NEWLINK, flags, &header(0, up, up))
}
