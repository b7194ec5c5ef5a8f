//! Changing and removing links, always by index: a name may meanwhile be another link's.

use std::os::fd::AsRawFd;

use nix::libc;

use super::{IFLA_TARGET_NETNSID, Link, header};
use crate::netlink::Message;
use crate::{MacAddress, NetNs};

/// The one attribute of a link's IPv4 settings (`linux/if_link.h`).
const IFLA_INET_CONF: u16 = 1;
/// The setting's number (`linux/ip.h`).
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;

/// Brings a link up.
pub fn set_up(index: u32) -> Message {
    set(format!("bring up link {index}"), index, libc::IFF_UP, libc::IFF_UP)
}

/// Takes a link down.
pub fn set_down(index: u32) -> Message {
    set(format!("take down link {index}"), index, 0, libc::IFF_UP)
}

/// Makes a link hear frames for any address, or only for its own.
pub fn set_promiscuous(index: u32, on: bool) -> Message {
    let flags = if on { libc::IFF_PROMISC } else { 0 };
    set(format!("set promiscuous mode of link {index}"), index, flags, libc::IFF_PROMISC)
}

/// Makes a link hear frames for all groups, or only for those that were joined.
pub fn set_all_multicast(index: u32, on: bool) -> Message {
    let flags = if on { libc::IFF_ALLMULTI } else { 0 };
    set(format!("set all-multicast mode of link {index}"), index, flags, libc::IFF_ALLMULTI)
}

/// Gives a link an alias. Text of over 255 bytes is refused by the kernel.
pub fn set_alias(index: u32, alias: &str) -> Message {
    set(format!("set alias of link {index} to {alias:?}"), index, 0, 0)
        .put(libc::IFLA_IFALIAS, alias.as_bytes())
}

/// Gives a link a hardware address. Setting the address that it has makes the kernel announce the
/// link's addresses where `arp_notify` and `ndisc_notify` are on.
pub fn set_mac(index: u32, mac: MacAddress) -> Message {
    set(format!("set the MAC address of link {index} to {mac}"), index, 0, 0)
        .put(libc::IFLA_ADDRESS, &mac.0)
}

/// Makes the kernel tell the neighbours of a link's IPv4 addresses when the link comes up or its
/// hardware address is set: `net.ipv4.conf.*.arp_notify`, which needs no `/proc/sys` this way.
pub fn set_arp_notify(index: u32) -> Message {
    set(format!("set arp_notify of link {index}"), index, 0, 0).nest(
        libc::IFLA_AF_SPEC,
        |families| {
            families.nest(libc::AF_INET as u16, |ipv4| {
                ipv4.nest(IFLA_INET_CONF, |settings| settings.put_u32(IPV4_DEVCONF_ARP_NOTIFY, 1))
            })
        },
    )
}

/// Gives a link, which must be down before Linux 6.3, another name; `EEXIST` if it is taken.
pub fn set_name(index: u32, name: &str) -> Message {
    set(format!("rename link {index} to {name:?}"), index, 0, 0).put_text(libc::IFLA_IFNAME, name)
}

/// Sets the largest packet of a link in bytes.
pub fn set_mtu(index: u32, mtu: u32) -> Message {
    set(format!("set the MTU of link {index} to {mtu}"), index, 0, 0).put_u32(libc::IFLA_MTU, mtu)
}

/// Sets how many packets may wait to be sent.
pub fn set_transmit_queue(index: u32, packets: u32) -> Message {
    set(format!("set the transmit queue of link {index} to {packets}"), index, 0, 0)
        .put_u32(libc::IFLA_TXQLEN, packets)
}

/// Makes a link a port of another, or of none.
pub fn set_master(index: u32, master: Option<u32>) -> Message {
    let what = match master {
        Some(master) => format!("make link {index} a port of link {master}"),
        None => format!("make link {index} a port of none"),
    };
    set(what, index, 0, 0).put_u32(libc::IFLA_MASTER, master.unwrap_or(0))
}

/// Moves a link to another namespace and gives it this name there. It is down afterwards, without
/// addresses. `EEXIST` if both its old name and this one are taken there; then nothing has happened.
/// If only this one is, the link has moved under its old name.
pub fn move_to(index: u32, namespace: &NetNs, name: &str) -> Message {
    let what = format!("move link {index} to another namespace as {name:?}");
    set(what, index, 0, libc::IFF_UP)
        .put(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
        .put_text(libc::IFLA_IFNAME, name)
}

/// Removes a link; a veth's other end goes with it.
pub fn delete(index: u32) -> Message {
    Message::new(format!("delete link {index}"), libc::RTM_DELLINK, 0, &header(index, 0, 0))
}

/// Removes a veth by way of its other end, wherever that is: so this end is the last of which the
/// kernel tells that it is gone. `None` for other links, and if there is no way to the other end.
pub fn delete_other_end(link: &Link) -> Option<Message> {
    let peer = link.peer.filter(|_| link.kind == "veth")?;
    let namespace = link.peer_namespace.filter(|number| *number >= 0)?;
    let what = format!("delete link {}, the other end of {:?}", peer, link.name);
    let message = Message::new(what, libc::RTM_DELLINK, 0, &header(peer, 0, 0));
    Some(message.put(IFLA_TARGET_NETNSID, &namespace.to_ne_bytes()))
}

fn set(what: String, index: u32, flags: i32, change: i32) -> Message {
    Message::new(what, libc::RTM_SETLINK, 0, &header(index, flags, change))
}
