//! ADD of a bridge with host-local.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};

use crate::masquerade;
use crate::netlink::{Datagram, Netlink, Reply, attribute, find, nested, number};
use crate::reservation::{Addresses, Reservations, read_text};
use crate::{Job, Result};

pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 1);
pub(crate) const PREFIX_V4: u8 = 16;
pub(crate) const PREFIX_V6: u8 = 64;

/// `struct ifinfomsg`.
pub(crate) const LINK: usize = 16;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_STATE: u16 = 1;
const BR_STATE_FORWARDING: u8 = 3;
const IF_OPER_UP: u8 = 6;

pub(crate) fn attach(job: &Job) -> Result<()> {
    // Before the first change: is the namespace a container's, does the host forward, is there the
    // bridge, with which addresses, and is the container's name free.
    let netns = File::open(&job.netns)?;
    if fs::metadata(&job.netns)?.ino() == fs::metadata("/proc/self/ns/net")?.ino() {
        return Err("the container's namespace is the host's".into());
    }
    check_forwarding(job)?;
    let host = Netlink::route()?;
    let bridge = link_number(&host, "cbr0")?.ok_or("there is no bridge")?;
    host.list(&addresses_of(bridge))?;
    let rules = job.masquerade.then(Netlink::netfilter).transpose()?;
    // From here on inside: the host's sockets stay where they are.
    setns(&netns, CloneFlags::CLONE_NEWNET)?;
    let container = Netlink::route()?;
    if link_number(&container, "eth0")?.is_some() {
        return Err("the container has an eth0".into());
    }

    let reservations = Reservations::lock(job)?;
    let addresses = reservations.reserve(job)?;
    drop(reservations);

    let made = host.ask(&veth(job, Some(bridge), addresses.v4, &netns))?;
    let port = made.number(4).ok_or("the kernel told no index")?;
    let inside = made.attribute(LINK, libc::IFLA_LINK).and_then(number);
    let inside = inside.ok_or("the kernel told no index of the peer")?;
    write_settings(job)?;
    container.ask(&configuration(inside, addresses))?;
    if let Some(rules) = rules {
        masquerade::add(&rules, job, addresses.v4)?;
    }
    wait_for_port(&host, job, bridge, port)?;
    if let Some(v6) = addresses.v6 {
        // It is taken in a moment after it is there.
        patiently("the address", || Ok(is_local(&container.ask(&route_to(v6))?)))?;
    }
    // The kernel tells the neighbours when the address is set to what it is.
    let announce = set_link(Datagram::new(), inside, libc::NLM_F_ACK, 0);
    container.ask(&announce.put(libc::IFLA_ADDRESS, &mac(addresses.v4)))?;
    Ok(())
}

pub(crate) fn check_forwarding(job: &Job) -> Result<()> {
    let v4 = "/proc/sys/net/ipv4/ip_forward";
    let v6 = "/proc/sys/net/ipv6/conf/all/forwarding";
    let settings: &[&str] = if job.dual_stack { &[v4, v6] } else { &[v4] };
    for setting in settings {
        if !read_text(&mut File::open(setting)?)?.starts_with('1') {
            return Err(format!("{setting} is off").into());
        }
    }
    Ok(())
}

/// Settings that must stand before the link comes up: routers cannot give it addresses, and
/// neighbours are told.
pub(crate) fn write_settings(job: &Job) -> Result<()> {
    fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0")?;
    fs::write("/proc/sys/net/ipv4/conf/eth0/arp_notify", "1")?;
    if job.dual_stack {
        fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0")?;
        fs::write("/proc/sys/net/ipv6/conf/eth0/ndisc_notify", "1")?;
    }
    Ok(())
}

/// The index of the link of this name.
pub(crate) fn link_number(socket: &Netlink, name: &str) -> Result<Option<u32>> {
    let ask = Datagram::new().message(libc::RTM_GETLINK, 0, &[0; LINK]);
    match socket.ask(&ask.put_text(libc::IFLA_IFNAME, name)) {
        Err(error) if error.downcast_ref() == Some(&Errno::ENODEV) => Ok(None),
        reply => Ok(reply?.number(4)),
    }
}

fn addresses_of(link: u32) -> Datagram {
    let mut fixed = [0; 8];
    fixed[4..].copy_from_slice(&link.to_ne_bytes());
    Datagram::new().message(libc::RTM_GETADDR, libc::NLM_F_DUMP, &fixed)
}

/// Both ends at once, each where it belongs, and a question for what was made. That one names the
/// link, but changes nothing: had another the name, the first message has failed.
pub(crate) fn veth(job: &Job, bridge: Option<u32>, v4: Ipv4Addr, netns: &File) -> Datagram {
    let mut peer = vec![0; LINK];
    attribute(&mut peer, libc::IFLA_IFNAME, b"eth0\0");
    // With more queues than it uses, the kernel waits for a grace period.
    let one = 1u32.to_ne_bytes();
    attribute(&mut peer, libc::IFLA_NUM_TX_QUEUES, &one);
    attribute(&mut peer, libc::IFLA_NUM_RX_QUEUES, &one);
    attribute(&mut peer, libc::IFLA_ADDRESS, &mac(v4));
    attribute(&mut peer, libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    let data = nested(&[(VETH_INFO_PEER, &peer)]);
    let info = nested(&[(libc::IFLA_INFO_KIND, b"veth"), (libc::IFLA_INFO_DATA, &data)]);
    let name = job.host_end();
    let [_, _, a, b, c, d, e, f] = job.number().to_be_bytes();
    let up = link(0, libc::IFF_UP);
    let made = Datagram::new()
        .message(RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &up)
        .put_text(libc::IFLA_IFNAME, &name)
        .put(libc::IFLA_NUM_TX_QUEUES, &one)
        .put(libc::IFLA_NUM_RX_QUEUES, &one)
        .put(libc::IFLA_ADDRESS, &[a & 0xfc | 2, b, c, d, e, f]);
    let made = match bridge {
        Some(bridge) => made.put(libc::IFLA_MASTER, &bridge.to_ne_bytes()),
        None => made,
    };
    made.put(libc::IFLA_LINKINFO, &info)
        .message(libc::RTM_GETLINK, 0, &[0; LINK])
        .put_text(libc::IFLA_IFNAME, &name)
}

/// Up, addresses, default routes: the last message is acknowledged, so all others were done.
fn configuration(inside: u32, addresses: Addresses) -> Datagram {
    let v4 = addresses.v4.octets();
    let [a, b, ..] = v4;
    let datagram = set_link(Datagram::new(), inside, 0, libc::IFF_UP)
        .message(libc::RTM_NEWADDR, CREATE, &address(libc::AF_INET, PREFIX_V4, inside))
        .put(libc::IFA_LOCAL, &v4)
        .put(libc::IFA_ADDRESS, &v4)
        .put(libc::IFA_BROADCAST, &[a, b, 255, 255]);
    match addresses.v6 {
        None => default_route(datagram, libc::AF_INET, libc::NLM_F_ACK, &GATEWAY_V4.octets()),
        Some(v6) => {
            let datagram = default_route(datagram, libc::AF_INET, 0, &GATEWAY_V4.octets())
                .message(libc::RTM_NEWADDR, CREATE, &address(libc::AF_INET6, PREFIX_V6, inside))
                .put(libc::IFA_LOCAL, &v6.octets())
                .put(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
            default_route(datagram, libc::AF_INET6, libc::NLM_F_ACK, &GATEWAY_V6.octets())
        }
    }
}

/// Marks the host's end in clear, and asks for it and for the bridge: that settles the state of the
/// link, of its port, and of the bridge, whose first one it may be.
fn wait_for_port(host: &Netlink, job: &Job, bridge: u32, port: u32) -> Result<()> {
    let alias = format!("cbr0/{}/eth0", job.container_id);
    let mark = set_link(Datagram::new(), port, 0, 0).put(libc::IFLA_IFALIAS, alias.as_bytes());
    let states = |datagram: Datagram| {
        datagram.message(libc::RTM_GETLINK, 0, &link(port, 0)).message(
            libc::RTM_GETLINK,
            0,
            &link(bridge, 0),
        )
    };
    let mut ask = states(mark);
    patiently("the bridge's port", || {
        let (port, bridge) = (host.ask(&ask)?, host.answer()?);
        ask = states(Datagram::new());
        Ok(is_running(&port) && is_running(&bridge) && is_forwarding(&port))
    })
}

/// Looks until it is so: nearly always once. In between it sleeps, since the kernel gets there in a
/// process of its own, which may need this CPU.
pub(crate) fn patiently(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    const PAUSE: Duration = Duration::from_micros(50);
    const LOOKS: u32 = 20_000;
    for _ in 0..LOOKS {
        if look()? {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(format!("{what} is never ready").into())
}

pub(crate) fn is_running(link: &Reply) -> bool {
    let state = link.attribute(LINK, libc::IFLA_OPERSTATE);
    state.and_then(|state| state.first()) == Some(&IF_OPER_UP)
}

fn is_forwarding(link: &Reply) -> bool {
    let info = link.attribute(LINK, libc::IFLA_LINKINFO);
    let port = info.and_then(|info| find(info, libc::IFLA_INFO_SLAVE_DATA));
    let state = port.and_then(|port| find(port, IFLA_BRPORT_STATE));
    state.and_then(|state| state.first()) == Some(&BR_STATE_FORWARDING)
}

/// Whether the route of `struct rtmsg` ends here.
pub(crate) fn is_local(route: &Reply) -> bool {
    route.number(4).is_some_and(|number| number.to_ne_bytes()[3] == libc::RTN_LOCAL)
}

pub(crate) fn route_to(v6: Ipv6Addr) -> Datagram {
    let mut fixed = [0; 12];
    fixed[0] = libc::AF_INET6 as u8;
    fixed[1] = 128;
    Datagram::new().message(libc::RTM_GETROUTE, 0, &fixed).put(libc::RTA_DST, &v6.octets())
}

const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
pub(crate) const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

pub(crate) fn set_link(datagram: Datagram, index: u32, flags: i32, up: i32) -> Datagram {
    datagram.message(libc::RTM_SETLINK, flags, &link(index, up))
}

/// `struct ifinfomsg`, which brings the link up or leaves it as it is.
pub(crate) fn link(index: u32, up: i32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&up.to_ne_bytes());
    fixed[12..].copy_from_slice(&up.to_ne_bytes());
    fixed
}

/// `struct ifaddrmsg`.
pub(crate) fn address(family: i32, prefix: u8, link: u32) -> [u8; 8] {
    let mut fixed = [family as u8, prefix, 0, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&link.to_ne_bytes());
    fixed
}

/// `struct rtmsg`, and the one attribute that a default route needs.
fn default_route(datagram: Datagram, family: i32, flags: i32, gateway: &[u8]) -> Datagram {
    let fixed = [
        family as u8,
        0,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    datagram.message(libc::RTM_NEWROUTE, CREATE | flags, &fixed).put(libc::RTA_GATEWAY, gateway)
}

/// The container's address, from which its hardware address follows.
fn mac(v4: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = v4.octets();
    [0x0a, 0x58, a, b, c, d]
}
