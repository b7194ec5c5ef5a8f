//! Neighbours: which hardware address an address on a link has (`ip-neighbour(8)`).

use std::net::IpAddr;

use nix::libc;

use crate::address::{from_octets, octets};
use crate::netlink::{Message, Reply, Result};
use crate::{MacAddress, Rtnl};

/// `struct ndmsg`.
const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// `NUD_STALE`: the hardware address is used at once, and confirmed in use.
const STALE: u16 = 0x04;
/// `NUD_PERMANENT`: it is neither confirmed nor forgotten.
const PERMANENT: u16 = 0x80;

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// The hardware address that is used for it, if one is known.
    pub mac: Option<MacAddress>,
    /// Whether it stays as it is until it is deleted.
    pub permanent: bool,
}

/// Tells the namespace which hardware address an address on the link has, whatever it believed
/// before. Packets are sent there at once; the kernel confirms it while it does so.
pub fn set(link: u32, address: IpAddr, mac: MacAddress) -> Message {
    set_in_state(STALE, link, address, mac)
}

/// As [`set`], once and for all: the kernel neither asks for the address nor forgets it.
pub fn set_permanent(link: u32, address: IpAddr, mac: MacAddress) -> Message {
    set_in_state(PERMANENT, link, address, mac)
}

/// Deletes a neighbour, whatever it is; `ENOENT` if it is not there.
pub fn delete(link: u32, address: IpAddr) -> Message {
    let what = format!("delete the neighbour {address} of link {link}");
    Message::new(what, libc::RTM_DELNEIGH, 0, &header(link, address, 0))
        .put(NDA_DST, &octets(address))
}

fn set_in_state(state: u16, link: u32, address: IpAddr, mac: MacAddress) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    let what = format!("set the neighbour {address} of link {link} to {mac}");
    Message::new(what, libc::RTM_NEWNEIGH, flags, &header(link, address, state))
        .put(NDA_DST, &octets(address))
        .put(NDA_LLADDR, &mac.0)
}

impl Rtnl {
    /// The neighbours on a link, of both families.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn neighbours(&mut self, link: u32) -> Result<Vec<Neighbour>> {
        const NDA_IFINDEX: u16 = 8;
        let what = format!("list the neighbours of link {link}");
        let message = Message::new(what, libc::RTM_GETNEIGH, 0, &[0; HEADER]);
        let replies = self.socket.dump(&message.put_u32(NDA_IFINDEX, link))?;
        Ok(replies.iter().filter(|reply| reply.u32_at(4) == link).filter_map(parse).collect())
    }
}

fn header(link: u32, address: IpAddr, state: u16) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header
}

fn parse(reply: &Reply) -> Option<Neighbour> {
    let attributes = reply.attributes(HEADER);
    let mac = attributes.get(NDA_LLADDR).and_then(|mac| MacAddress::from_bytes(mac.value));
    let state = u16::from_ne_bytes([reply.u8_at(8), reply.u8_at(9)]);
    let address = from_octets(attributes.get(NDA_DST)?.value)?;
    Some(Neighbour { address, mac, permanent: state & PERMANENT != 0 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{NetNs, address, link};

    #[test]
    fn a_neighbour_is_set_and_set_anew() {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let mac = |last| MacAddress([2, 0, 0, 0, 0, last]);
        let bridge = link::Bridge { name: "br0", mac: mac(1), mtu: None };
        rtnl.request(&bridge.create()).unwrap();
        let index = rtnl.link_by_name("br0").unwrap().unwrap().index;
        for (own, other) in [("10.0.1.1/24", "10.0.1.2"), ("fd00::1/64", "fd00::2")] {
            rtnl.request(&address::add(index, own.parse().unwrap(), false)).unwrap();
            let other: IpAddr = other.parse().unwrap();
            for last in [2, 3] {
                rtnl.request(&set(index, other, mac(last))).unwrap();
                let found = rtnl.neighbours(index).unwrap();
                let wanted = Neighbour { address: other, mac: Some(mac(last)), permanent: false };
                assert!(found.contains(&wanted), "{found:?}");
                assert_eq!(found.iter().filter(|one| one.address == other).count(), 1);
            }
            rtnl.request(&set_permanent(index, other, mac(4))).unwrap();
            let wanted = Neighbour { address: other, mac: Some(mac(4)), permanent: true };
            assert!(rtnl.neighbours(index).unwrap().contains(&wanted));
            rtnl.request(&delete(index, other)).unwrap();
            let found = rtnl.neighbours(index).unwrap();
            assert!(found.iter().all(|one| one.address != other || !one.permanent), "{found:?}");
        }
    }
}
