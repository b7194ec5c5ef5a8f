//! The observed state: what the kernel has now, as far as routes to Pods are concerned.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::route::TABLE_MAIN;
use nix::libc;

use crate::tunnel::seen::Seen;

/// A link by which another node may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether a route through it can be made: it is administratively up and not the loopback.
    pub up: bool,
    /// Whether the other end is there. Without a carrier the kernel still takes routes.
    pub carrier: bool,
    /// The largest packet it takes, in bytes. None for the loopback: nobody else is behind it.
    pub mtu: Option<u32>,
}

/// An address of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the link that has it.
    pub link: u32,
    /// The address.
    pub local: IpAddr,
    /// The address with its prefix: all of this subnet is on the link.
    pub subnet: IpNetwork,
}

/// What the kernel was seen to have, of all protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// The routes of the main table, of both families.
    pub routes: Vec<Route>,
    /// The tunnel to nodes behind routers.
    pub tunnel: Seen,
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its destination.
    pub destination: IpNetwork,
    /// Its metric, as the kernel tells it: an IPv6 route made without one has 1024.
    pub metric: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// Its kind (`RTN_*`): unicast, blackhole, …
    pub kind: u8,
    /// Its scope (`RT_SCOPE_*`).
    pub scope: u8,
    /// Its next hop, if it has exactly one.
    pub gateway: Option<IpAddr>,
    /// Whether that is taken for a neighbour, whatever the addresses say (`onlink`).
    pub on_link: bool,
    /// The index of the link it leaves by, if it has exactly one. None for a dead end: to IPv6 those
    /// lead to the loopback.
    pub link: Option<u32>,
}

impl Observed {
    /// Reads the kernel's state. The lists are read one after the other; whatever changes in
    /// between comes again as an event, which leads to another reading.
    ///
    /// # Errors
    /// The kernel refuses, or a list changes each time it is read.
    pub fn read(rtnl: &mut Rtnl) -> kernel::Result<Self> {
        let mut routes: Vec<_> = rtnl.routes(TABLE_MAIN)?.iter().map(route).collect();
        // A route with several next hops is listed once for each, and is one route all the same.
        routes.dedup();
        let links = rtnl.links()?;
        let addresses = rtnl.addresses(0)?;
        Ok(Self {
            links: links.iter().map(link).collect(),
            addresses: addresses.iter().map(address).collect(),
            routes,
            tunnel: Seen::read(rtnl, &links, &addresses)?,
        })
    }

    /// The name of the link with this index; the index in words where there is none.
    pub fn link_name(&self, index: u32) -> String {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("link {index}"), |link| link.name.clone())
    }
}

fn link(link: &kernel::link::Link) -> Link {
    let flag = |flag: i32| link.flags & flag as u32 != 0;
    Link {
        index: link.index,
        name: link.name.clone(),
        up: flag(libc::IFF_UP) && !flag(libc::IFF_LOOPBACK),
        carrier: flag(libc::IFF_RUNNING),
        mtu: Some(link.mtu).filter(|_| !flag(libc::IFF_LOOPBACK)),
    }
}

fn address(address: &kernel::address::Address) -> Address {
    Address { link: address.link, local: address.address.ip(), subnet: address.address }
}

/// What counts of a route of the main table.
pub fn route(route: &kernel::route::Route) -> Route {
    let dead_ends = [libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT];
    let is_dead_end = dead_ends.contains(&route.kind);
    Route {
        destination: route.destination,
        metric: route.priority,
        protocol: route.protocol,
        kind: route.kind,
        scope: route.scope,
        gateway: route.gateway.filter(|_| !route.one_of_several),
        on_link: route.on_link && !route.one_of_several,
        link: route.link.filter(|_| !route.one_of_several && !is_dead_end),
    }
}
