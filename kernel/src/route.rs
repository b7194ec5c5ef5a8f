//! Routes (`ip-route(8)`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::libc;

use crate::Rtnl;
use crate::address::{from_octets, octets};
use crate::link::Link;
use crate::netlink::{Attributes, Message, Reply, Result};

/// `struct rtmsg`.
const HEADER: usize = 12;
/// `RTNH_F_ONLINK` of `linux/rtnetlink.h`.
const ON_LINK: u8 = 4;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

/// The main routing table, which routes without a table of their own are in.
pub const TABLE_MAIN: u32 = libc::RT_TABLE_MAIN as u32;
/// The scope of destinations beyond a gateway (`RT_SCOPE_UNIVERSE`).
pub const SCOPE_UNIVERSE: u8 = libc::RT_SCOPE_UNIVERSE;
/// The scope of destinations on the link itself (`RT_SCOPE_LINK`).
pub const SCOPE_LINK: u8 = libc::RT_SCOPE_LINK;
/// The protocol of routes that an administrator or a start-up script made (`RTPROT_BOOT`).
pub const PROTOCOL_BOOT: u8 = libc::RTPROT_BOOT;

/// A unicast route with at most one next hop. One with several is listed once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub destination: IpNetwork,
    /// The next hop; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Whether the next hop is taken for one on the link, whatever the routes say (`onlink`).
    pub on_link: bool,
    /// The index of the link that packets leave by.
    pub link: Option<u32>,
    /// The address that packets of this namespace leave with, if one is preferred (`src`).
    pub source: Option<IpAddr>,
    /// The routing table.
    pub table: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// How far the destination is (`RT_SCOPE_*`): 0 beyond a gateway, 253 on the link.
    pub scope: u8,
    /// The metric: of two routes to a destination the one with the lower is used. Zero stands for
    /// the kernel's default, which is 0 in IPv4 and 1024 in IPv6.
    pub priority: u32,
    /// The largest packet in bytes on this route.
    pub mtu: Option<u32>,
    /// The segment size in bytes that TCP advertises on this route.
    pub advmss: Option<u32>,
    /// The kind (`RTN_*`): 1 unicast.
    pub kind: u8,
    /// In a list: whether this is one of several next hops of one route. The kernel replaces such a
    /// route as a whole, and tells the protocol of its first hop for all of them.
    pub one_of_several: bool,
}

impl Route {
    /// A route in the main table, with the kernel's defaults.
    pub fn new(destination: IpNetwork) -> Self {
        Route {
            destination,
            gateway: None,
            on_link: false,
            link: None,
            source: None,
            table: TABLE_MAIN,
            protocol: PROTOCOL_BOOT,
            scope: SCOPE_UNIVERSE,
            priority: 0,
            mtu: None,
            advmss: None,
            kind: libc::RTN_UNICAST,
            one_of_several: false,
        }
    }

    /// The same route through a gateway.
    #[must_use]
    pub fn via(self, gateway: IpAddr) -> Self {
        Route { gateway: Some(gateway), ..self }
    }

    /// The same route out of a link.
    #[must_use]
    pub fn dev(self, link: u32) -> Self {
        Route { link: Some(link), ..self }
    }
}

/// Adds a route; `EEXIST` if there is one to the destination with the same metric, whoever made it.
pub fn add(route: &Route) -> Message {
    request("add", libc::RTM_NEWROUTE, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16, route)
}

/// Adds a route behind those to the same destination with the same metric; `EEXIST` only if one is
/// the same in everything. To IPv6 they are one route with several next hops.
pub fn append(route: &Route) -> Message {
    request("add", libc::RTM_NEWROUTE, (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16, route)
}

/// Puts a route in the place of the one to the same destination with the same metric, in one step.
/// The kernel does not look at whose that is: the caller must know that it is its own.
pub fn replace(route: &Route) -> Message {
    request("replace", libc::RTM_NEWROUTE, (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16, route)
}

/// Deletes exactly this route: all that is given must match, the protocol too; else `ESRCH`.
pub fn delete(route: &Route) -> Message {
    request("delete", libc::RTM_DELROUTE, 0, route)
}

impl Rtnl {
    /// The routes of one table, of both families; of all tables if it is zero. Copies that the
    /// kernel keeps for itself (cloned routes) are left out.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn routes(&mut self, table: u32) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; HEADER];
            header[0] = family as u8;
            let message = Message::new("list routes", libc::RTM_GETROUTE, 0, &header);
            let message =
                if table == 0 { message } else { message.put_u32(libc::RTA_TABLE, table) };
            match self.socket.dump(&message) {
                // Without IPv6 the kernel answers the question for it with all it has.
                Ok(replies) => routes.extend(
                    replies
                        .iter()
                        .filter(|reply| i32::from(reply.u8_at(0)) == family)
                        .flat_map(parse),
                ),
                // A table that was never used, or a kernel without IPv6, has no routes.
                Err(error) if error.is_absent() || error.is(Errno::EAFNOSUPPORT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }
}

impl Rtnl {
    /// Whether packets to this address of a link are for this namespace. An IPv4 address is local as soon as
    /// it is added; for an IPv6 address, also one without duplicate address detection, the kernel
    /// sees to it some time later.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that it knows no way to the address.
    pub fn is_local(&mut self, link: u32, address: IpAddr) -> Result<bool> {
        // A link in a VRF has its local routes in the VRF's table.
        let found = self.way(way_to(address).put_u32(libc::RTA_OIF, link))?;
        Ok(found.is_some_and(|reply| reply.u8_at(7) == libc::RTN_LOCAL))
    }

    /// The link by which packets to this address leave; `None` if no way leads there.
    ///
    /// # Errors
    /// As [`Rtnl::is_local`].
    pub fn link_towards(&mut self, address: IpAddr) -> Result<Option<Link>> {
        let found = self.way(way_to(address))?;
        let link = found.and_then(|reply| reply.attributes(HEADER).get(libc::RTA_OIF)?.u32());
        link.map_or(Ok(None), |index| self.link_by_index(index))
    }

    /// The answer to a question for a way, if there is one.
    fn way(&mut self, question: Message) -> Result<Option<Reply>> {
        match self.socket.get(&[question])?.pop().transpose() {
            Err(error) if error.is(Errno::ENETUNREACH) || error.is(Errno::EHOSTUNREACH) => Ok(None),
            found => found,
        }
    }
}

fn way_to(address: IpAddr) -> Message {
    let (family, all) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    let mut header = [0; HEADER];
    header[0] = family as u8;
    header[1] = all;
    Message::new(format!("look up the route to {address}"), libc::RTM_GETROUTE, 0, &header)
        .put(libc::RTA_DST, &octets(address))
}

fn request(verb: &str, kind: u16, flags: u16, route: &Route) -> Message {
    let family = if route.destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let header = [
        family as u8,
        route.destination.prefix(),
        0,
        0,
        // Tables beyond a byte are given by the attribute.
        u8::try_from(route.table).unwrap_or(libc::RT_TABLE_UNSPEC),
        route.protocol,
        route.scope,
        route.kind,
    ];
    let hop_flags = if route.on_link { u32::from(ON_LINK) } else { 0 };
    let header = [&header[..], &hop_flags.to_ne_bytes()].concat();
    let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let what = format!("{verb} route to {}{via}", route.destination);
    let mut message = Message::new(what, kind, flags, &header)
        .put_some(
            libc::RTA_DST,
            Some(&octets(route.destination.network())[..])
                .filter(|_| route.destination.prefix() > 0),
        )
        .put_some(libc::RTA_GATEWAY, route.gateway.map(octets).as_deref())
        .put_some(libc::RTA_PREFSRC, route.source.map(octets).as_deref())
        .put_u32(libc::RTA_TABLE, route.table);
    if let Some(link) = route.link {
        message = message.put_u32(libc::RTA_OIF, link);
    }
    if route.priority != 0 {
        message = message.put_u32(libc::RTA_PRIORITY, route.priority);
    }
    if route.mtu.is_none() && route.advmss.is_none() {
        return message;
    }
    message.nest(libc::RTA_METRICS, |metrics| {
        let put = |metrics: Message, kind, value: Option<u32>| match value {
            Some(value) => metrics.put_u32(kind, value),
            None => metrics,
        };
        put(put(metrics, RTAX_MTU, route.mtu), RTAX_ADVMSS, route.advmss)
    })
}

/// The routes that a message of the kernel tells of, one for each next hop: of a list, or of an event.
/// A copy that the kernel keeps for itself (a cloned route) is none.
pub fn parse(reply: &Reply) -> Vec<Route> {
    let Some(route) = parse_one(reply) else { return Vec::new() };
    match reply.attributes(HEADER).get(libc::RTA_MULTIPATH) {
        Some(hops) => next_hops(hops.value, route),
        None => vec![route],
    }
}

/// Reads a list of `struct rtnexthop`, each with attributes behind it.
fn next_hops(mut list: &[u8], route: Route) -> Vec<Route> {
    const HOP: usize = 8;
    let mut routes = Vec::new();
    while let Some(length) =
        list.first_chunk().map(|length| usize::from(u16::from_ne_bytes(*length)))
    {
        let Some(hop) = list.get(..length).filter(|hop| hop.len() >= HOP) else { break };
        let link = u32::from_ne_bytes([hop[4], hop[5], hop[6], hop[7]]);
        let gateway = Attributes::new(&hop[HOP..]).get(libc::RTA_GATEWAY);
        let gateway = gateway.and_then(|gateway| from_octets(gateway.value));
        let on_link = hop[2] & ON_LINK != 0;
        routes.push(Route { gateway, on_link, link: Some(link), one_of_several: true, ..route });
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    routes
}

fn parse_one(reply: &Reply) -> Option<Route> {
    let cloned = reply.u32_at(8) & libc::RTM_F_CLONED != 0;
    if cloned {
        return None;
    }
    let any: IpAddr = match i32::from(reply.u8_at(0)) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let attributes = reply.attributes(HEADER);
    let number = |kind| attributes.get(kind).and_then(|value| value.u32());
    let address = |kind| attributes.get(kind).and_then(|value| from_octets(value.value));
    let metrics = attributes.get(libc::RTA_METRICS).map(|metrics| metrics.nested());
    let metric =
        |kind| metrics.as_ref().and_then(|metrics: &Attributes<'_>| metrics.get(kind)?.u32());
    let destination = address(libc::RTA_DST).unwrap_or(any);
    Some(Route {
        destination: IpNetwork::new(destination, reply.u8_at(1)).ok()?,
        gateway: address(libc::RTA_GATEWAY),
        on_link: reply.u32_at(8) & u32::from(ON_LINK) != 0,
        link: number(libc::RTA_OIF),
        source: address(libc::RTA_PREFSRC),
        table: number(libc::RTA_TABLE).unwrap_or_else(|| u32::from(reply.u8_at(4))),
        protocol: reply.u8_at(5),
        scope: reply.u8_at(6),
        priority: number(libc::RTA_PRIORITY).unwrap_or(0),
        mtu: metric(RTAX_MTU),
        advmss: metric(RTAX_ADVMSS),
        kind: reply.u8_at(7),
        one_of_several: false,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::{Events, Topic};
    use crate::{MacAddress, NetNs, address, link};

    fn namespace_with_address() -> (NetNs, Rtnl, u32) {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let bridge =
            link::Bridge { name: "br0", mac: MacAddress([0x0a, 0, 0, 0, 0, 1]), mtu: None };
        rtnl.request(&bridge.create()).unwrap();
        let index = rtnl.link_by_name("br0").unwrap().unwrap().index;
        let own = |text: &str| address::add(index, text.parse().unwrap(), false);
        rtnl.request_all(&[own("10.1.0.1/24"), own("fd00::1/64")]).unwrap();
        (ns, rtnl, index)
    }

    #[test]
    fn a_route_is_added_replaced_and_deleted() {
        let (_ns, mut rtnl, link) = namespace_with_address();
        for (destination, first, second) in
            [("10.2.0.0/16", "10.1.0.7", "10.1.0.8"), ("fd01::/48", "fd00::7", "fd00::8")]
        {
            let route = Route {
                protocol: 214,
                mtu: Some(1400),
                advmss: Some(1200),
                ..Route::new(destination.parse().unwrap())
            };
            let route = route.via(first.parse().unwrap()).dev(link);
            rtnl.request(&add(&route)).unwrap();
            assert!(rtnl.request(&add(&route)).unwrap_err().is(Errno::EEXIST));
            let mine = |rtnl: &mut Rtnl| -> Vec<Route> {
                let all = rtnl.routes(TABLE_MAIN).unwrap();
                all.into_iter()
                    .filter(|other| other.protocol == 214 && other.destination == route.destination)
                    .collect()
            };
            let found = mine(&mut rtnl);
            assert_eq!(found.len(), 1);
            assert_eq!(
                (found[0].gateway, found[0].mtu, found[0].advmss, found[0].link),
                (route.gateway, Some(1400), Some(1200), Some(link))
            );

            let moved = route.via(second.parse().unwrap());
            rtnl.request(&replace(&moved)).unwrap();
            assert_eq!(mine(&mut rtnl)[0].gateway, moved.gateway);

            let foreign = Route { protocol: 4, ..moved };
            assert!(rtnl.request(&delete(&foreign)).unwrap_err().is_absent());
            rtnl.request(&delete(&moved)).unwrap();
            assert!(mine(&mut rtnl).is_empty());
        }
    }

    /// What `route` becomes in the kernel.
    fn as_listed(rtnl: &mut Rtnl, route: &Route) -> Route {
        rtnl.request(&add(route)).unwrap();
        let listed = rtnl.routes(route.table).unwrap();
        *listed.iter().find(|other| other.destination == route.destination).unwrap()
    }

    #[test]
    fn a_route_is_listed_as_it_was_made() {
        let (_ns, mut rtnl, link) = namespace_with_address();
        let ip = |text: &str| text.parse().ok();
        for (destination, gateway, source) in
            [("10.2.0.0/16", "192.0.2.1", "10.1.0.1"), ("fd01::/48", "fd09::1", "fd00::1")]
        {
            let plain = Route::new(destination.parse().unwrap()).dev(link);
            let route = Route {
                gateway: ip(gateway),
                on_link: true,
                source: ip(source),
                priority: 7,
                table: 1000,
                ..plain
            };
            assert_eq!(as_listed(&mut rtnl, &route), route);
        }
    }

    #[test]
    fn a_route_with_several_next_hops_is_listed_once_for_each() {
        let (_ns, mut rtnl, link) = namespace_with_address();
        for (destination, gateways) in
            [("10.2.0.0/16", ["10.1.0.7", "10.1.0.8"]), ("fd01::/48", ["fd00::7", "fd00::8"])]
        {
            let gateways = gateways.map(|gateway| gateway.parse().unwrap());
            let route = Route::new(destination.parse().unwrap()).dev(link);
            for gateway in gateways {
                rtnl.request(&append(&route.via(gateway))).unwrap();
            }
            let all = rtnl.routes(TABLE_MAIN).unwrap();
            let hops = all.iter().filter(|other| other.destination == route.destination);
            let mut hops: Vec<_> = hops.map(|hop| (hop.gateway, hop.link)).collect();
            hops.sort();
            assert_eq!(hops, gateways.map(|gateway| (Some(gateway), Some(link))));
        }
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let (_ns, mut rtnl, link) = namespace_with_address();
        let route =
            Route::new("10.9.0.0/16".parse().unwrap()).via("192.0.2.1".parse().unwrap()).dev(link);
        let error = rtnl.request(&add(&route)).unwrap_err().to_string();
        assert!(error.contains("add route to 10.9.0.0/16 via 192.0.2.1"), "{error}");
        assert!(error.contains("Nexthop has invalid gateway"), "{error}");
    }

    #[test]
    fn an_address_is_local_where_it_is_and_once_it_is() {
        let (ns, mut rtnl, link) = namespace_with_address();
        let ip = |text: &str| text.parse().unwrap();
        assert!(rtnl.is_local(link, ip("10.1.0.1")).unwrap());
        assert!(!rtnl.is_local(link, ip("10.1.0.2")).unwrap());
        assert!(!rtnl.is_local(link, ip("192.0.2.1")).unwrap());
        let late = ip("fd00::9");
        assert!(!rtnl.is_local(link, late).unwrap());
        let mut events = Events::open_in(&ns, Topic::Ipv6Routes).unwrap();
        rtnl.request(&address::add(link, "fd00::9/64".parse().unwrap(), false)).unwrap();
        let local =
            events.wait(Duration::from_secs(5), || Ok(rtnl.is_local(link, late)?.then_some(())));
        assert!(local.unwrap().is_some());
    }

    #[test]
    fn tables_are_listed_apart() {
        let (_ns, mut rtnl, link) = namespace_with_address();
        let route = Route { table: 1000, ..Route::new("10.3.0.0/16".parse().unwrap()).dev(link) };
        rtnl.request(&add(&Route { scope: 253, ..route })).unwrap();
        assert_eq!(rtnl.routes(1000).unwrap().len(), 1);
        assert!(
            !rtnl
                .routes(TABLE_MAIN)
                .unwrap()
                .iter()
                .any(|other| other.destination == route.destination)
        );
        assert!(rtnl.routes(4242).unwrap().is_empty());
    }
}
