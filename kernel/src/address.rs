//! Addresses of links (`ip-address(8)`).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::libc;

use crate::Rtnl;
use crate::netlink::{Message, Reply, Result};

/// `struct ifaddrmsg`.
const HEADER: usize = 8;
/// `IFA_F_PERMANENT` of `linux/if_addr.h`.
const PERMANENT: u32 = 0x80;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address with the length of its network's prefix.
    pub address: IpNetwork,
    /// Whether IPv6 still checks that nobody else has it, and does not use it until then.
    pub tentative: bool,
    /// Whether IPv6 found that somebody else has it, and does not use it.
    pub duplicate: bool,
    /// Whether the kernel made it: IPv6 link-local addresses are.
    pub link_local: bool,
    /// Whether it stays until it is deleted. What a router advertised does not.
    pub permanent: bool,
    /// Whether it came without the route to its network ([`add_alone`]).
    pub alone: bool,
}

/// Gives a link an address; `EEXIST` if it has it. An IPv6 address is usable at once unless
/// duplicate address detection (`dad`, RFC 4862) is asked for.
pub fn add(link: u32, address: IpNetwork, dad: bool) -> Message {
    add_with(if dad { 0 } else { libc::IFA_F_NODAD }, link, address)
}

/// As [`add`], usable at once and without the route to the address's network that comes with one.
pub fn add_alone(link: u32, address: IpNetwork) -> Message {
    add_with(libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE, link, address)
}

/// `flags` are `IFA_F_*`. To IPv4 the absence of duplicate address detection is nothing new.
fn add_with(flags: u32, link: u32, address: IpNetwork) -> Message {
    let new = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let what = format!("add address {address} to link {link}");
    let message = request(what, libc::RTM_NEWADDR, new, link, address);
    let (message, flags) = match address {
        // As `ip address add … brd +`: prefixes of 31 and 32 bits have no broadcast address (RFC 3021).
        IpNetwork::V4(v4) if v4.prefix() < 31 => {
            let broadcast = v4.broadcast().octets();
            (message.put(libc::IFA_BROADCAST, &broadcast), flags & !libc::IFA_F_NODAD)
        }
        IpNetwork::V4(_) => (message, flags & !libc::IFA_F_NODAD),
        IpNetwork::V6(_) => (message, flags),
    };
    if flags == 0 { message } else { message.put_u32(libc::IFA_FLAGS, flags) }
}

/// Takes an address from a link; `EADDRNOTAVAIL` if it does not have it.
pub fn delete(link: u32, address: IpNetwork) -> Message {
    request(
        format!("delete address {address} from link {link}"),
        libc::RTM_DELADDR,
        0,
        link,
        address,
    )
}

impl Rtnl {
    /// The addresses of the link of this index, of both families; of all links if it is zero.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn addresses(&mut self, link: u32) -> Result<Vec<Address>> {
        let mut header = [0; HEADER];
        header[4..].copy_from_slice(&link.to_ne_bytes());
        let message =
            Message::new(format!("list addresses of link {link}"), libc::RTM_GETADDR, 0, &header);
        Ok(self.socket.dump(&message)?.iter().filter_map(parse).collect())
    }
}

fn request(what: String, kind: u16, flags: u16, link: u32, address: IpNetwork) -> Message {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut header = [0; HEADER];
    header[0] = family as u8;
    header[1] = address.prefix();
    header[4..].copy_from_slice(&link.to_ne_bytes());
    let bytes = octets(address.ip());
    Message::new(what, kind, flags, &header)
        .put(libc::IFA_LOCAL, &bytes)
        .put(libc::IFA_ADDRESS, &bytes)
}

fn parse(reply: &Reply) -> Option<Address> {
    let attributes = reply.attributes(HEADER);
    // On a point-to-point link IFA_ADDRESS is the other side's; IFA_LOCAL is ours where it is given.
    let own = attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS))?;
    let ip = from_octets(own.value)?;
    let flags = attributes.get(libc::IFA_FLAGS).and_then(|flags| flags.u32());
    let flags = flags.unwrap_or_else(|| u32::from(reply.u8_at(2)));
    Some(Address {
        link: reply.u32_at(4),
        address: IpNetwork::new(ip, reply.u8_at(1)).ok()?,
        // One that was found to be somebody else's stays tentative for ever.
        tentative: flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) == libc::IFA_F_TENTATIVE,
        duplicate: flags & libc::IFA_F_DADFAILED != 0,
        link_local: matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()),
        permanent: flags & PERMANENT != 0,
        alone: flags & libc::IFA_F_NOPREFIXROUTE != 0,
    })
}

/// An address in network byte order.
pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address of four or sixteen bytes in network byte order.
pub(crate) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::NetNs;

    #[test]
    fn addresses_are_added_listed_and_deleted() {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let lo = rtnl.link_by_name("lo").unwrap().unwrap().index;
        let v4: IpNetwork = "10.1.2.3/24".parse().unwrap();
        let v6: IpNetwork = "fd00::3/64".parse().unwrap();
        rtnl.request_all(&[crate::link::set_up(lo), add(lo, v4, false), add(lo, v6, false)])
            .unwrap();
        assert!(rtnl.request(&add(lo, v4, false)).unwrap_err().is(nix::errno::Errno::EEXIST));

        let found = rtnl.addresses(lo).unwrap();
        let own = |address| Address {
            link: lo,
            address,
            tentative: false,
            duplicate: false,
            link_local: false,
            permanent: true,
            alone: false,
        };
        assert!(found.contains(&own(v4)), "{found:?}");
        assert!(found.contains(&own(v6)), "{found:?}");

        rtnl.request(&delete(lo, v4)).unwrap();
        assert!(rtnl.request(&delete(lo, v4)).unwrap_err().is_absent());
        assert!(!rtnl.addresses(lo).unwrap().iter().any(|address| address.address == v4));
    }

    #[test]
    fn an_address_alone_brings_no_route_to_its_network() {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let mac = crate::MacAddress([2, 0, 0, 0, 0, 1]);
        let bridge = crate::link::Bridge { name: "br0", mac, mtu: None };
        rtnl.request(&bridge.create()).unwrap();
        let index = rtnl.link_by_name("br0").unwrap().unwrap().index;
        for (address, network) in [("10.1.2.3/24", "10.1.2.0/24"), ("fd00::3/64", "fd00::/64")] {
            let (address, network): (IpNetwork, IpNetwork) =
                (address.parse().unwrap(), network.parse().unwrap());
            let has_route = |rtnl: &mut Rtnl| {
                let routes = rtnl.routes(crate::route::TABLE_MAIN).unwrap();
                routes.iter().any(|route| route.destination == network)
            };
            rtnl.request(&add_alone(index, address)).unwrap();
            let found = rtnl.addresses(index).unwrap();
            let is_it = |own: &&Address| own.address == address;
            let own = found.iter().find(is_it).unwrap();
            assert!(own.alone && own.permanent && !own.tentative, "{found:?}");
            assert!(!has_route(&mut rtnl));

            rtnl.request_all(&[delete(index, address), add(index, address, false)]).unwrap();
            assert!(has_route(&mut rtnl));
        }
    }
}
