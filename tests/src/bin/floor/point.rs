//! ADD of a ptp with host-local: the host's end has the gateways, and nothing else is on the link.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;

use nix::libc;
use nix::sched::{CloneFlags, setns};

use crate::attach::{
    CREATE, GATEWAY_V4, GATEWAY_V6, LINK, PREFIX_V4, PREFIX_V6, address, check_forwarding,
    is_local, is_running, link, link_number, patiently, route_to, set_link, veth, write_settings,
};
use crate::masquerade;
use crate::netlink::{Datagram, Netlink, number};
use crate::reservation::{Addresses, Reservations};
use crate::{Job, Result};

const INTO: CloneFlags = CloneFlags::CLONE_NEWNET;
const HOST: &str = "/proc/self/ns/net";

pub(crate) fn attach(job: &Job) -> Result<()> {
    let (home, netns) = (File::open(HOST)?, File::open(&job.netns)?);
    if fs::metadata(&job.netns)?.ino() == home.metadata()?.ino() {
        return Err("the container's namespace is the host's".into());
    }
    check_forwarding(job)?;
    let host = Netlink::route()?;
    let rules = job.masquerade.then(Netlink::netfilter).transpose()?;
    setns(&netns, INTO)?;
    let container = Netlink::route()?;
    setns(&home, INTO)?;
    if link_number(&container, "eth0")?.is_some() {
        return Err("the container has an eth0".into());
    }
    let reservations = Reservations::lock(job)?;
    let addresses = reservations.reserve(job)?;
    drop(reservations);

    let made = host.ask(&veth(job, None, addresses.v4, &netns))?;
    let port = made.number(4).ok_or("the kernel told no index")?;
    let inside = made.attribute(LINK, libc::IFLA_LINK).and_then(number);
    let inside = inside.ok_or("the kernel told no index of the peer")?;
    let setting = |key: &str| format!("/proc/sys/net/ipv6/conf/{}/{key}", job.host_end());
    fs::write(setting("accept_ra"), "0")?;
    if job.dual_stack {
        fs::write(setting("accept_dad"), "0")?;
    }
    host.ask(&host_end(job, port, addresses))?;
    setns(&netns, INTO)?;
    write_settings(job)?;
    container.ask(&container_end(inside, addresses))?;
    if let Some(rules) = rules {
        masquerade::add(&rules, job, addresses.v4)?;
    }
    let state = Datagram::new().message(libc::RTM_GETLINK, 0, &link(port, 0));
    patiently("the host's end", || Ok(is_running(&host.ask(&state)?)))?;
    if let Some(v6) = addresses.v6 {
        patiently("the gateway", || Ok(is_local(&host.ask(&route_to(GATEWAY_V6))?)))?;
        patiently("the address", || Ok(is_local(&container.ask(&route_to(v6))?)))?;
    }
    Ok(())
}

/// Marked, with the gateways, and the ways to the addresses. The last message is acknowledged.
fn host_end(job: &Job, port: u32, addresses: Addresses) -> Datagram {
    let alias = format!("cbr0/{}/eth0", job.container_id);
    let marked = set_link(Datagram::new(), port, 0, 0).put(libc::IFLA_IFALIAS, alias.as_bytes());
    let v4 = addresses.v4;
    let datagram = alone(marked, libc::AF_INET, 32, port, &GATEWAY_V4.octets());
    match addresses.v6 {
        None => on_link(datagram, libc::AF_INET, ACK, port, &v4.octets()),
        Some(v6) => {
            let datagram = on_link(datagram, libc::AF_INET, 0, port, &v4.octets());
            let datagram = alone(datagram, libc::AF_INET6, 128, port, &GATEWAY_V6.octets());
            on_link(datagram, libc::AF_INET6, ACK, port, &v6.octets())
        }
    }
}

/// Up, with its addresses, and through the gateways to their networks.
fn container_end(inside: u32, addresses: Addresses) -> Datagram {
    let up = set_link(Datagram::new(), inside, 0, libc::IFF_UP);
    let v4 = addresses.v4;
    let datagram = alone(up, libc::AF_INET, PREFIX_V4, inside, &v4.octets());
    let datagram = on_link(datagram, libc::AF_INET, 0, inside, &GATEWAY_V4.octets());
    let network = Ipv4Addr::from_bits(v4.to_bits() >> 16 << 16).octets();
    let last = if addresses.v6.is_some() { 0 } else { ACK };
    let datagram =
        beyond(datagram, libc::AF_INET, last, (&network, PREFIX_V4), &GATEWAY_V4.octets());
    let Some(v6) = addresses.v6 else { return datagram };
    let datagram = alone(datagram, libc::AF_INET6, PREFIX_V6, inside, &v6.octets());
    let datagram = on_link(datagram, libc::AF_INET6, 0, inside, &GATEWAY_V6.octets());
    let network = Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).octets();
    beyond(datagram, libc::AF_INET6, ACK, (&network, PREFIX_V6), &GATEWAY_V6.octets())
}

const ACK: i32 = libc::NLM_F_ACK;

/// An address in use at once, and no route to its network.
fn alone(datagram: Datagram, family: i32, prefix: u8, link: u32, own: &[u8]) -> Datagram {
    let nodad = if family == libc::AF_INET6 { libc::IFA_F_NODAD } else { 0 };
    let flags = nodad | libc::IFA_F_NOPREFIXROUTE;
    datagram
        .message(libc::RTM_NEWADDR, CREATE, &address(family, prefix, link))
        .put(libc::IFA_LOCAL, own)
        .put(libc::IFA_ADDRESS, own)
        .put(libc::IFA_FLAGS, &flags.to_ne_bytes())
}

/// The way to an address on the link.
fn on_link(datagram: Datagram, family: i32, flags: i32, link: u32, to: &[u8]) -> Datagram {
    let prefix = if family == libc::AF_INET6 { 128 } else { 32 };
    datagram
        .message(libc::RTM_NEWROUTE, CREATE | flags, &route(family, prefix, libc::RT_SCOPE_LINK))
        .put(libc::RTA_DST, to)
        .put(libc::RTA_OIF, &link.to_ne_bytes())
}

/// The way to a network behind a gateway.
fn beyond(
    datagram: Datagram,
    family: i32,
    flags: i32,
    (network, prefix): (&[u8], u8),
    gateway: &[u8],
) -> Datagram {
    datagram
        .message(
            libc::RTM_NEWROUTE,
            CREATE | flags,
            &route(family, prefix, libc::RT_SCOPE_UNIVERSE),
        )
        .put(libc::RTA_DST, network)
        .put(libc::RTA_GATEWAY, gateway)
}

/// `struct rtmsg`.
fn route(family: i32, prefix: u8, scope: u8) -> [u8; 12] {
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
    [family as u8, prefix, 0, 0, table, protocol, scope, libc::RTN_UNICAST, 0, 0, 0, 0]
}
