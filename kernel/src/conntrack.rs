//! Connection tracking: flows that the kernel remembers, over ctnetlink
//! (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! A flow keeps the way that it was given with its first packet. When a port leads elsewhere from now
//! on, flows that have no end of their own must be forgotten.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::libc;

use crate::address::{from_octets, octets};
use crate::netlink::{Message, Reply, Result, Socket};
#[cfg(doc)]
use crate::nft::Nft;

/// `struct nfgenmsg`.
const HEADER: usize = 4;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_CTNETLINK as u16;
const GET: u16 = 1;
const DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// What a filter looks at: bits by the number of the attribute in the kernel's own list.
const BY_SOURCE: u32 = 1 << 0;
const BY_DESTINATION: u32 = 1 << 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_SOURCE_PORT: u32 = 1 << 4;
const BY_DESTINATION_PORT: u32 = 1 << 5;

/// Flows of one family that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// Whether those of IPv6 are meant, and not those of IPv4.
    pub ipv6: bool,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// The port that they were first sent to.
    pub port: u16,
    /// The address that they were first sent to; any if none is given.
    pub destination: Option<IpAddr>,
    /// Who answers; anybody if none is given.
    pub answered_by: Option<SocketAddr>,
}

/// The connection tracking of a socket's namespace; see [`Nft::conntrack`]. It is asked on the socket of
/// the packet filter: to close another one would wait for what was just deleted there ([`Nft::leave`]).
#[derive(Debug)]
pub struct Conntrack<'a> {
    socket: &'a mut Socket,
}

impl<'a> Conntrack<'a> {
    pub(crate) fn on(socket: &'a mut Socket) -> Self {
        Conntrack { socket }
    }

    /// Forgets these flows: their next packets are those of new ones.
    ///
    /// # Errors
    /// The kernel refuses. A kernel without ctnetlink says so (`is_unsupported`).
    pub fn forget(&mut self, flows: &Flows) -> Result<()> {
        if flows.kernel_would_err() {
            return self.forget_one_by_one(flows);
        }
        match self.socket.request(&flows.request(DELETE)) {
            // Before Linux 6.6 or so only a list can be filtered.
            Err(error) if error.is(Errno::EINVAL) => self.forget_one_by_one(flows),
            done => done,
        }
    }

    fn forget_one_by_one(&mut self, flows: &Flows) -> Result<()> {
        let listed = self.socket.dump(&flows.request(GET))?;
        for flow in listed.iter().filter(|flow| flows.are(flow)) {
            let Some(tuple) = flow.attributes(HEADER).get(CTA_TUPLE_ORIG) else { continue };
            let request = flows.message(DELETE);
            let request = request.nest(CTA_TUPLE_ORIG, |nested| nested.raw(tuple.value));
            match self.socket.request(&request) {
                Err(error) if !error.is_absent() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Flows {
    fn message(&self, kind: u16) -> Message {
        let family = if self.ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let what =
            format!("find the tracked flows of protocol {} to port {}", self.protocol, self.port);
        Message::new(what, SUBSYSTEM << 8 | kind, 0, &[family as u8, 0, 0, 0])
    }

    /// Whether a filter of the kernel would let exactly those flows through that are not meant: that
    /// by an IPv6 address does (`ctnetlink_filter_match_tuple`; 6.18 is measured).
    fn kernel_would_err(&self) -> bool {
        self.ipv6 && (self.destination.is_some() || self.answered_by.is_some())
    }

    /// A request for these, or for more where the kernel cannot tell them apart.
    fn request(&self, kind: u16) -> Message {
        if self.kernel_would_err() {
            return Flows { destination: None, answered_by: None, ..*self }.request(kind);
        }
        let port = self.port.to_be_bytes();
        let first = Tuple { ip: self.destination, by_ip: 2, port: (CTA_PROTO_DST_PORT, port) };
        let mut flags = BY_PROTOCOL | BY_DESTINATION_PORT;
        flags |= self.destination.map_or(0, |_| BY_DESTINATION);
        let message = first.put(self.message(kind), CTA_TUPLE_ORIG, self.protocol);
        let Some(peer) = self.answered_by else {
            return message.nest(CTA_FILTER, |filter| filter.put_u32(CTA_FILTER_ORIG_FLAGS, flags));
        };
        let port = peer.port().to_be_bytes();
        let answer = Tuple { ip: Some(peer.ip()), by_ip: 1, port: (CTA_PROTO_SRC_PORT, port) };
        let answers = BY_SOURCE | BY_PROTOCOL | BY_SOURCE_PORT;
        answer.put(message, CTA_TUPLE_REPLY, self.protocol).nest(CTA_FILTER, |filter| {
            filter.put_u32(CTA_FILTER_ORIG_FLAGS, flags).put_u32(CTA_FILTER_REPLY_FLAGS, answers)
        })
    }

    /// Whether a flow of a list is one of these: old kernels do not filter.
    fn are(&self, flow: &Reply) -> bool {
        let first = Tuple::number_of(flow, CTA_TUPLE_ORIG, CTA_PROTO_DST_PORT);
        let destination = Tuple::ip_of(flow, CTA_TUPLE_ORIG, 2);
        let protocol = Tuple::number_of(flow, CTA_TUPLE_ORIG, CTA_PROTO_NUM);
        let answer = Tuple::ip_of(flow, CTA_TUPLE_REPLY, 1)
            .zip(Tuple::number_of(flow, CTA_TUPLE_REPLY, CTA_PROTO_SRC_PORT))
            .map(|(ip, port)| SocketAddr::new(ip, port));
        first == Some(self.port)
            && protocol == Some(self.protocol.into())
            && (self.destination.is_none() || destination == self.destination)
            && (self.answered_by.is_none() || answer == self.answered_by)
    }
}

/// One direction of a flow, as far as it is asked for.
struct Tuple {
    ip: Option<IpAddr>,
    /// 1 for the source, 2 for the destination (`CTA_IP_V4_SRC`, and two more for IPv6).
    by_ip: u16,
    port: (u16, [u8; 2]),
}

impl Tuple {
    fn put(&self, message: Message, kind: u16, protocol: u8) -> Message {
        message.nest(kind, |tuple| {
            let tuple = match self.ip {
                Some(ip) => {
                    let kind = self.by_ip + if ip.is_ipv6() { 2 } else { 0 };
                    tuple.nest(CTA_TUPLE_IP, |nested| nested.put(kind, &octets(ip)))
                }
                None => tuple,
            };
            tuple.nest(CTA_TUPLE_PROTO, |nested| {
                nested.put(CTA_PROTO_NUM, &[protocol]).put(self.port.0, &self.port.1)
            })
        })
    }

    fn ip_of(flow: &Reply, tuple: u16, by_ip: u16) -> Option<IpAddr> {
        let ips = flow.attributes(HEADER).get(tuple)?.nested().get(CTA_TUPLE_IP)?.nested();
        let found = ips.get(by_ip).or_else(|| ips.get(by_ip + 2))?;
        from_octets(found.value)
    }

    /// A number of the transport protocol: of one or two bytes.
    fn number_of(flow: &Reply, tuple: u16, kind: u16) -> Option<u16> {
        let of_protocol =
            flow.attributes(HEADER).get(tuple)?.nested().get(CTA_TUPLE_PROTO)?.nested();
        let bytes = of_protocol.get(kind)?.value;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::events::{Events, Topic};
    use crate::nft::{
        Chain, Element, Expression, Family, Field, Hook, KeyType, Nft, Set, SetKind, Table,
    };
    use crate::{NetNs, Rtnl, address, link};

    const UDP: u8 = libc::IPPROTO_UDP as u8;

    /// A namespace with this address of its own, whose UDP port 80 leads to 8080, and flows to it.
    fn scene(own: IpAddr) -> (NetNs, [UdpSocket; 2]) {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        rtnl.request_all(&[link::set_up(1), address::add(1, own.into(), false)]).unwrap();
        wait_until_local(&ns, &mut rtnl, own);
        let table = Table { family: Family::Inet, name: "test" };
        let (kind, key) = match own.is_ipv6() {
            true => (SetKind::Targets6, KeyType::Ipv6),
            false => (SetKind::Targets4, KeyType::Ipv4),
        };
        let map = Set { table, name: "any", key: KeyType::Service, kind };
        let chain = Chain { table, name: "output" };
        let redirect = Expression::Redirect { field: Field::Service, map: &map };
        let rule = [Expression::Is(key), redirect];
        let mut changes =
            vec![table.add(), map.add(""), chain.add_at(Hook::OutputNat), chain.append(&rule, "")];
        let to = Element::service(UDP, 80).to_target(SocketAddr::new(own, 8080));
        changes.extend(map.add_elements(&[to]));
        Nft::open_in(&ns).unwrap().commit(&changes).unwrap();
        let socket = |port| ns.run(|| UdpSocket::bind((own, port))).unwrap().unwrap();
        let (server, client) = (socket(8080), socket(0));
        for port in [80, 81] {
            client.send_to(b"x", (own, port)).unwrap();
        }
        (ns, [server, client])
    }

    /// An IPv6 address is not in use at once.
    fn wait_until_local(ns: &NetNs, rtnl: &mut Rtnl, own: IpAddr) {
        let look = || Ok(rtnl.is_local(1, own)?.then_some(()));
        let mut events = Events::open_in(ns, Topic::Ipv6Routes).unwrap();
        events.wait(Duration::from_secs(10), look).unwrap().unwrap();
    }

    fn count(conntrack: &mut Conntrack<'_>, flows: &Flows) -> usize {
        let listed = conntrack.socket.dump(&flows.message(GET)).unwrap();
        listed.iter().filter(|flow| flows.are(flow)).count()
    }

    #[test]
    fn only_the_flows_that_are_meant_are_forgotten() {
        type Way = fn(&mut Conntrack<'_>, &Flows) -> Result<()>;
        let ways: [Way; 2] =
            [|it, flows| it.forget(flows), |it, flows| it.forget_one_by_one(flows)];
        for forget in ways {
            for (own, other) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
                let (own, other): (IpAddr, IpAddr) = (own.parse().unwrap(), other.parse().unwrap());
                let (ns, _sockets) = scene(own);
                let mut nft = Nft::open_in(&ns).unwrap();
                let mut conntrack = nft.conntrack();
                let ipv6 = own.is_ipv6();
                let answered_by = Some(SocketAddr::new(own, 8080));
                let all =
                    Flows { ipv6, protocol: UDP, port: 80, destination: None, answered_by: None };
                let (of_server, to_81) = (Flows { answered_by, ..all }, Flows { port: 81, ..all });
                assert_eq!((count(&mut conntrack, &all), count(&mut conntrack, &to_81)), (1, 1));
                let elsewhere = Some(SocketAddr::new(own, 8081));
                for foreign in [
                    Flows { answered_by: elsewhere, ..all },
                    Flows { answered_by: Some(SocketAddr::new(other, 8080)), ..all },
                    Flows { protocol: 6, ..all },
                    Flows { destination: Some(other), ..all },
                ] {
                    forget(&mut conntrack, &foreign).unwrap();
                    assert_eq!(count(&mut conntrack, &of_server), 1, "{foreign:?}");
                }
                forget(&mut conntrack, &of_server).unwrap();
                assert_eq!(count(&mut conntrack, &all), 0);
                forget(&mut conntrack, &Flows { destination: Some(own), ..to_81 }).unwrap();
                assert_eq!(count(&mut conntrack, &to_81), 0);
            }
        }
    }
}
