//! The tunnel's devices: one for each family of addresses that this node has.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::link::{self, Kind, NewLink, Vxlan};
use kernel::netlink::Message;
use kernel::{MacAddress, address};

use super::seen::{self, Seen};
use super::{Family, PORT, VNI, derived_mac};
use crate::claims::{Judged, Verdict};
use crate::node_files::uplink_mtu;
use crate::observed::{Link, Observed};

/// A device as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The family of addresses that it is between.
    pub family: Family,
    /// This node's address, from which its datagrams come.
    pub local: IpAddr,
    /// Its hardware address, by which other nodes know it.
    pub mac: MacAddress,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its one address: the first one of this node's Pod range. What this node itself sends through
    /// the tunnel comes from there, so that at the other end even a strict reverse path filter
    /// (`rp_filter`) finds that it came by the way that leads back. No Pod is ever given it.
    pub address: IpNetwork,
}

/// After so many looks, with the steps of each made, all devices are as they should be: the first finds
/// that one must be made, the next one that it has no address yet.
pub const LOOKS: usize = 2;

/// One step towards the devices that should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make it, up from the first instant. It has no address yet.
    Create(Device),
    /// Remove it, with all that is on it.
    Remove(Family, u32),
    /// Bring it up.
    Raise(Family, u32),
    /// Give it another MTU.
    Resize(Family, u32, u32),
    /// Give it its address.
    AddAddress(Family, u32, IpNetwork),
    /// Take an address from it.
    DeleteAddress(Family, u32, IpNetwork),
}

/// Why a device cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Something else has the name.
    #[error(
        "there is no tunnel to nodes behind routers: the name {0} is that of another kind of link; \
         rename or remove that (ip link del {0}), or start with --off-link skip"
    )]
    Name(&'static str),
    /// The kernel makes no two of a number and port. Most often it is flannel's.
    #[error(
        "there is no tunnel to nodes behind routers: {other} has its VNI {VNI} and UDP port {PORT}; \
         stop whoever made it (flannel, if it is flannel.1) and remove it (ip link del {other}), or \
         start with --off-link skip"
    )]
    Tunnel {
        /// The other device.
        other: String,
    },
    /// Without it packets would not fit.
    #[error(
        "there is no tunnel to nodes behind routers: no link has this node's address {0}, so the \
         MTU of the uplink is not known; is the node's address right?"
    )]
    Uplink(IpAddr),
}

/// The devices that this node should have, and why one cannot be. None of a family in which the
/// source tells no Pods or no address of this node: then what is there stays as it is.
pub fn wanted(judged: &[Judged], observed: &Observed) -> (Vec<Device>, Vec<Obstacle>) {
    let (mut devices, mut obstacles) = (Vec::new(), Vec::new());
    let mtu = uplink_mtu(judged, observed);
    for family in Family::ALL {
        let own =
            judged.iter().filter(|judged| judged.verdict == Verdict::Own).find_map(|judged| {
                let local = judged.claim.gateway.filter(|&local| Family::of(local) == family)?;
                Some((local, judged.claim.cidr))
            });
        let Some((local, range)) = own else { continue };
        let Some(mtu) = mtu else {
            obstacles.push(Obstacle::Uplink(local));
            continue;
        };
        let mtu = mtu.saturating_sub(family.overhead());
        let (address, mac) = (IpNetwork::from(range.ip()), derived_mac(local));
        devices.push(Device { family, local, mac, mtu, address });
    }
    (devices, obstacles)
}

/// The next steps towards the wanted devices. What is made has an address only after another look.
pub fn changes(wanted: &[Device], seen: &Seen) -> (Vec<Change>, Vec<Obstacle>) {
    let (mut changes, mut obstacles) = (Vec::new(), Vec::new());
    for device in wanted {
        match seen.devices.get(&device.family) {
            Some(there) if device.is_made_as(there) => changes.extend(device.changes(there)),
            there => {
                if let Some(obstacle) = device.obstacle(seen) {
                    obstacles.push(obstacle);
                    continue;
                }
                changes.extend(there.map(|there| Change::Remove(device.family, there.index)));
                changes.push(Change::Create(*device));
            }
        }
    }
    (changes, obstacles)
}

impl Device {
    fn vxlan(&self) -> Vxlan {
        Vxlan { id: VNI, local: Some(self.local), port: PORT, learning: false }
    }

    /// Whether it need not be made anew.
    fn is_made_as(&self, there: &seen::Device) -> bool {
        there.vxlan == self.vxlan() && there.mac == Some(self.mac)
    }

    fn changes(&self, there: &seen::Device) -> Vec<Change> {
        let (family, index) = (self.family, there.index);
        let mut changes = Vec::new();
        if there.mtu != self.mtu {
            changes.push(Change::Resize(family, index, self.mtu));
        }
        if !there.up {
            changes.push(Change::Raise(family, index));
        }
        if !there.addresses.contains(&self.address) {
            changes.push(Change::AddAddress(family, index, self.address));
        }
        let superfluous = there.addresses.iter().filter(|&&address| address != self.address);
        changes.extend(superfluous.map(|&other| Change::DeleteAddress(family, index, other)));
        changes
    }

    fn obstacle(&self, seen: &Seen) -> Option<Obstacle> {
        let name = self.family.device();
        if seen.taken.contains(name) {
            return Some(Obstacle::Name(name));
        }
        let is_same = |other: &Vxlan| {
            let family = other.local.map_or(Family::V4, Family::of);
            (other.id, other.port, family) == (VNI, PORT, self.family)
        };
        let other = seen.others.iter().find(|(_, other)| is_same(other));
        other.map(|(other, _)| Obstacle::Tunnel { other: other.clone() })
    }

    fn create(&self) -> Message {
        let new = NewLink {
            name: self.family.device(),
            kind: Kind::Vxlan(self.vxlan()),
            namespace: None,
            lower: None,
            mac: Some(self.mac),
            mtu: Some(self.mtu),
            up: true,
        };
        new.create()
    }
}

impl Change {
    /// The request that makes it.
    pub fn message(&self) -> Message {
        match *self {
            Self::Create(device) => device.create(),
            Self::Remove(_, index) => link::delete(index),
            Self::Raise(_, index) => link::set_up(index),
            Self::Resize(_, index, mtu) => link::set_mtu(index, mtu),
            Self::AddAddress(_, index, new) => address::add(index, new, false),
            Self::DeleteAddress(_, index, old) => address::delete(index, old),
        }
    }

    /// What would be seen after it. A device that does not exist yet gets an index that none has.
    pub fn foresee(&self, observed: &mut Observed) {
        let devices = &mut observed.tunnel.devices;
        let mut of = |family: &Family, change: &dyn Fn(&mut seen::Device)| {
            devices.get_mut(family).map(change);
        };
        match self {
            Self::Create(device) => {
                let index = u32::MAX - device.family as u32;
                devices.insert(device.family, device.foreseen(index));
                let name = device.family.device().to_owned();
                let mtu = Some(device.mtu);
                observed.links.push(Link { index, name, up: true, carrier: true, mtu });
            }
            Self::Remove(family, index) => {
                devices.remove(family);
                observed.links.retain(|link| link.index != *index);
                observed.routes.retain(|route| route.link != Some(*index));
            }
            Self::Raise(family, _) => of(family, &|device| device.up = true),
            Self::Resize(family, _, mtu) => of(family, &|device| device.mtu = *mtu),
            Self::AddAddress(family, _, new) => of(family, &|device| {
                device.addresses.insert(*new);
            }),
            Self::DeleteAddress(family, _, old) => of(family, &|device| {
                device.addresses.remove(old);
            }),
        }
    }
}

impl Device {
    fn foreseen(&self, index: u32) -> seen::Device {
        seen::Device {
            index,
            vxlan: self.vxlan(),
            mac: Some(self.mac),
            mtu: self.mtu,
            up: true,
            addresses: Default::default(),
            neighbours: Default::default(),
            entries: Default::default(),
        }
    }
}

/// The steps that remove all our devices.
pub fn removal(seen: &Seen) -> Vec<Change> {
    seen.devices.iter().map(|(family, device)| Change::Remove(*family, device.index)).collect()
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
