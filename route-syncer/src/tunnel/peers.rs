//! The other ends of the tunnel: for each range that is reached through it, a neighbour that stands
//! for the range's node, and a forwarding entry that tells where the node is.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::netlink::Message;
use kernel::{MacAddress, fdb};

use super::Family;
use super::seen::Seen;

/// The other end of the tunnel for one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The neighbour that stands for the node, see [`neighbour`].
    pub neighbour: IpAddr,
    /// The hardware address of the node's end.
    pub mac: MacAddress,
    /// The node's address.
    pub remote: IpAddr,
}

impl Peer {
    /// The other end for a range of a node.
    pub fn of(range: IpNetwork, mac: MacAddress, remote: IpAddr) -> Self {
        Self { neighbour: neighbour(range, mac), mac, remote }
    }
}

/// The neighbour that stands for a node: for IPv4, as with flannel, the first address of the range,
/// which no Pod has. For IPv6 the link-local address that follows from the hardware address (RFC 4291):
/// a gateway of another kind the kernel refuses while a route to it leads elsewhere, `onlink` or not,
/// and so no direct route could be replaced by one through the tunnel.
pub fn neighbour(range: IpNetwork, mac: MacAddress) -> IpAddr {
    let [a, b, c, d, e, f] = mac.0;
    match range {
        IpNetwork::V4(v4) => v4.ip().into(),
        IpNetwork::V6(_) => {
            let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(u64::from_be_bytes(id))).into()
        }
    }
}

/// One step towards the ends that should be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Let a neighbour have a hardware address, whatever it had.
    SetNeighbour(u32, IpAddr, MacAddress),
    /// Let a hardware address be behind a node, wherever it was.
    SetEntry(u32, MacAddress, IpAddr),
    /// Forget a neighbour.
    DeleteNeighbour(u32, IpAddr),
    /// Forget where a hardware address is.
    DeleteEntry(u32, MacAddress, IpAddr),
}

/// What must be there before the routes that use it.
pub fn missing(wanted: &BTreeSet<Peer>, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    // Several ranges of one node share an entry, and IPv6 ones the neighbour.
    let (mut neighbours, mut entries) = (BTreeSet::new(), BTreeSet::new());
    for peer in wanted {
        let Some(device) = seen.devices.get(&Family::of(peer.remote)) else { continue };
        let is_new = neighbours.insert((device.index, peer.neighbour));
        if is_new && device.neighbours.get(&peer.neighbour) != Some(&peer.mac) {
            changes.push(Change::SetNeighbour(device.index, peer.neighbour, peer.mac));
        }
        let is_new = entries.insert((device.index, peer.mac));
        if is_new && device.entries.get(&peer.mac) != Some(&peer.remote) {
            changes.push(Change::SetEntry(device.index, peer.mac, peer.remote));
        }
    }
    changes
}

/// What may go once no route uses it.
pub fn superfluous(wanted: &BTreeSet<Peer>, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    for (family, device) in &seen.devices {
        let peers = || wanted.iter().filter(|peer| Family::of(peer.remote) == *family);
        let used: BTreeSet<IpAddr> = peers().map(|peer| peer.neighbour).collect();
        let unused = device.neighbours.keys().filter(|address| !used.contains(address));
        changes.extend(unused.map(|&address| Change::DeleteNeighbour(device.index, address)));
        let used: BTreeSet<MacAddress> = peers().map(|peer| peer.mac).collect();
        let unused = device.entries.iter().filter(|(mac, _)| !used.contains(mac));
        changes.extend(unused.map(|(&mac, &to)| Change::DeleteEntry(device.index, mac, to)));
    }
    changes
}

/// The neighbours of the ends that are not known as they should be.
pub fn lacking(wanted: &BTreeSet<Peer>, seen: &Seen) -> BTreeSet<IpAddr> {
    let lacks = |peer: &&Peer| !missing(&BTreeSet::from([**peer]), seen).is_empty();
    wanted.iter().filter(lacks).map(|peer| peer.neighbour).collect()
}

impl Change {
    /// The request that makes it.
    pub fn message(&self) -> Message {
        match *self {
            Self::SetNeighbour(link, address, mac) => {
                kernel::neighbour::set_permanent(link, address, mac)
            }
            Self::SetEntry(link, mac, remote) => fdb::set(link, mac, remote),
            Self::DeleteNeighbour(link, address) => kernel::neighbour::delete(link, address),
            Self::DeleteEntry(link, mac, remote) => fdb::delete(link, mac, remote),
        }
    }

    /// Whether its object is to go: that it is gone already is as good.
    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::DeleteNeighbour(..) | Self::DeleteEntry(..))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use kernel::link::Vxlan;

    use super::super::{PORT, VNI};
    use super::*;
    use crate::tunnel::seen::Device;

    fn mac(last: u8) -> MacAddress {
        MacAddress([0x0e, 0, 0, 0, 0, last])
    }

    fn peer(range: u8, end: u8, node: u8) -> Peer {
        let neighbour = [10, 0, range, 0].into();
        Peer { neighbour, mac: mac(end), remote: [10, 101, 0, node].into() }
    }

    fn seen() -> Seen {
        let vxlan = Vxlan { id: VNI, local: None, port: PORT, learning: false };
        let device = Device {
            index: 7,
            vxlan,
            mac: None,
            mtu: 1450,
            up: true,
            addresses: BTreeSet::new(),
            neighbours: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        Seen { devices: BTreeMap::from([(Family::V4, device)]), ..Seen::default() }
    }

    /// The kernel's rules.
    fn make(seen: &mut Seen, changes: &[Change]) {
        let device = seen.devices.get_mut(&Family::V4).unwrap();
        for change in changes {
            match *change {
                Change::SetNeighbour(7, to, mac) => device.neighbours.insert(to, mac).map(|_| ()),
                Change::SetEntry(7, mac, to) => device.entries.insert(mac, to).map(|_| ()),
                Change::DeleteNeighbour(7, to) => device.neighbours.remove(&to).map(|_| ()),
                Change::DeleteEntry(7, mac, _) => device.entries.remove(&mac).map(|_| ()),
                other => panic!("{other:?}"),
            };
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_set_once_and_what_is_unused_goes() {
        let mut seen = seen();
        let two_ranges = BTreeSet::from([peer(2, 2, 2), peer(3, 2, 2), peer(4, 4, 4)]);
        let changes = missing(&two_ranges, &seen);
        assert_eq!(changes.len(), 5, "{changes:?}");
        assert_eq!(lacking(&two_ranges, &seen).len(), 3);
        make(&mut seen, &changes);
        assert_eq!(missing(&two_ranges, &seen), []);
        assert_eq!(superfluous(&two_ranges, &seen), []);

        // One range is gone, one has moved to another end, whose node has another address.
        let changed = BTreeSet::from([peer(2, 4, 5)]);
        let set = [
            Change::SetNeighbour(7, [10, 0, 2, 0].into(), mac(4)),
            Change::SetEntry(7, mac(4), [10, 101, 0, 5].into()),
        ];
        assert_eq!(missing(&changed, &seen), set);
        make(&mut seen, &set);
        let gone = superfluous(&changed, &seen);
        assert_eq!(gone.len(), 3, "{gone:?}");
        assert!(gone.iter().all(Change::is_deletion));
        make(&mut seen, &gone);
        assert_eq!(superfluous(&changed, &seen), []);
        assert_eq!(lacking(&changed, &seen), BTreeSet::new());
    }

    #[test]
    fn the_neighbour_of_ipv6_is_the_link_local_address_of_the_other_end() {
        let of = |range: &str| neighbour(range.parse().unwrap(), mac(2)).to_string();
        assert_eq!(of("fd00:2::/64"), "fe80::c00:ff:fe00:2");
        assert_eq!(of("10.0.2.0/24"), "10.0.2.0");
    }

    #[test]
    fn without_a_device_nothing_can_be_set() {
        let wanted = BTreeSet::from([peer(2, 2, 2)]);
        assert_eq!(missing(&wanted, &Seen::default()), []);
        let v6 = Peer::of("fd00:2::/64".parse().unwrap(), mac(2), "fd00::2".parse().unwrap());
        assert_eq!(missing(&BTreeSet::from([v6]), &seen()), []);
    }
}
