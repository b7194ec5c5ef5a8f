//! Forwarding entries of links that have a table of them (`bridge-fdb(8)`): for a vxlan, the host
//! behind which a hardware address is.

use std::net::IpAddr;

use nix::libc;

use crate::address::{from_octets, octets};
use crate::netlink::{Message, Reply, Result};
use crate::{MacAddress, Rtnl};

/// `struct ndmsg`.
const HEADER: usize = 12;
const STATE: usize = 8;
const FLAGS: usize = 10;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
/// `NUD_PERMANENT`: it does not age.
const PERMANENT: u16 = 0x80;
/// `NTF_SELF`: the entry is the link's own, not that of a bridge which the link is a port of.
const SELF: u8 = 0x02;

/// A forwarding entry of a vxlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The hardware address.
    pub mac: MacAddress,
    /// The host behind which it is.
    pub remote: IpAddr,
    /// Whether it stays until it is deleted. What a link has learnt does not.
    pub permanent: bool,
}

/// Tells a vxlan behind which host a hardware address is, whatever it believed before, in one step.
pub fn set(link: u32, mac: MacAddress, remote: IpAddr) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    let what = format!("set the forwarding entry of {mac} on link {link} to {remote}");
    put(Message::new(what, libc::RTM_NEWNEIGH, flags, &header(link)), mac, remote)
}

/// Deletes a forwarding entry; `ENOENT` if it is not there.
pub fn delete(link: u32, mac: MacAddress, remote: IpAddr) -> Message {
    let what = format!("delete the forwarding entry of {mac} to {remote} on link {link}");
    put(Message::new(what, libc::RTM_DELNEIGH, 0, &header(link)), mac, remote)
}

impl Rtnl {
    /// The forwarding entries of a vxlan, but those that lead to no host.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn forwarding_entries(&mut self, link: u32) -> Result<Vec<Entry>> {
        let what = format!("list the forwarding entries of link {link}");
        let mut header = [0; HEADER];
        header[0] = libc::AF_BRIDGE as u8;
        let message = Message::new(what, libc::RTM_GETNEIGH, 0, &header);
        let replies = self.socket.dump(&message.put_u32(NDA_IFINDEX, link))?;
        Ok(replies.iter().filter(|reply| reply.u32_at(4) == link).filter_map(parse).collect())
    }
}

fn put(message: Message, mac: MacAddress, remote: IpAddr) -> Message {
    message.put(NDA_LLADDR, &mac.0).put(NDA_DST, &octets(remote))
}

fn header(link: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[STATE..FLAGS].copy_from_slice(&PERMANENT.to_ne_bytes());
    header[FLAGS] = SELF;
    header
}

fn parse(reply: &Reply) -> Option<Entry> {
    let attributes = reply.attributes(HEADER);
    let state = u16::from_ne_bytes([reply.u8_at(STATE), reply.u8_at(STATE + 1)]);
    Some(Entry {
        mac: MacAddress::from_bytes(attributes.get(NDA_LLADDR)?.value)?,
        remote: from_octets(attributes.get(NDA_DST)?.value)?,
        permanent: state & PERMANENT != 0,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    };
    use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

    use super::*;
    use crate::NetNs;
    use crate::link::{Kind, NewLink, Vxlan};

    const MAC: MacAddress = MacAddress([0x0e, 0xcb, 10, 100, 0, 3]);

    /// An encoder that is not ours sees in a request what we meant.
    #[test]
    fn requests_say_what_they_mean() {
        let remote: IpAddr = "10.100.0.3".parse().unwrap();
        let read = |message: &Message| {
            let bytes = message.to_bytes();
            let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();
            match parsed.payload {
                NetlinkPayload::InnerMessage(inner) => (parsed.header.flags, inner),
                other => panic!("no request: {other:?}"),
            }
        };
        let (flags, RouteNetlinkMessage::NewNeighbour(new)) = read(&set(7, MAC, remote)) else {
            panic!("no new entry")
        };
        let wanted = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        assert_eq!(flags, wanted as u16);
        let (_, RouteNetlinkMessage::DelNeighbour(old)) = read(&delete(7, MAC, remote)) else {
            panic!("no deletion")
        };
        let is_meant = |message: &NeighbourMessage| {
            let header = &message.header;
            assert_eq!((header.family, header.ifindex), (AddressFamily::Bridge, 7));
            assert_eq!(header.state, NeighbourState::Permanent);
            assert_eq!(header.flags, NeighbourFlags::Own);
            let to = NeighbourAttribute::Destination(NeighbourAddress::Other(vec![10, 100, 0, 3]));
            let mac = NeighbourAttribute::LinkLayerAddress(MAC.0.to_vec());
            assert_eq!(message.attributes, [mac, to]);
        };
        is_meant(&new);
        is_meant(&old);
    }

    #[test]
    fn entries_are_set_set_anew_and_deleted_in_both_families() {
        for (local, remotes) in
            [("10.100.0.2", ["10.100.0.3", "10.100.0.4"]), ("fd00::2", ["fd00::3", "fd00::4"])]
        {
            let mut rtnl = Rtnl::open_in(&NetNs::create().unwrap()).unwrap();
            let local = local.parse().ok();
            let kind = Kind::Vxlan(Vxlan { id: 1, local, port: 8472, learning: false });
            let (namespace, lower, mac, mtu) = (None, None, Some(MAC), Some(1400));
            let new = NewLink { name: "vx", kind, namespace, lower, mac, mtu, up: true };
            rtnl.request(&new.create()).unwrap();
            let made = rtnl.link_by_name("vx").unwrap().unwrap();
            assert_eq!((made.made_as, made.mac, made.mtu), (Some(kind), Some(MAC), 1400));
            assert!(made.is_up());

            let link = made.index;
            for remote in remotes.map(|remote| remote.parse().unwrap()) {
                rtnl.request(&set(link, MAC, remote)).unwrap();
                let entry = Entry { mac: MAC, remote, permanent: true };
                assert_eq!(rtnl.forwarding_entries(link).unwrap(), [entry]);
            }
            let last = remotes[1].parse().unwrap();
            rtnl.request(&delete(link, MAC, last)).unwrap();
            assert_eq!(rtnl.forwarding_entries(link).unwrap(), []);
            assert!(rtnl.request(&delete(link, MAC, last)).unwrap_err().is_absent());
        }
    }
}
