//! What the kernel was seen to have of the tunnel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::link::{Kind, Link, Vxlan};
use kernel::{MacAddress, Rtnl, address, fdb};

use super::Family;

/// Devices of ours, and who is in their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Our devices.
    pub devices: BTreeMap<Family, Device>,
    /// Other vxlans, by their names.
    pub others: BTreeMap<String, Vxlan>,
    /// The names of ours that other kinds of links have.
    pub taken: BTreeSet<String>,
}

/// A device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// What it was told when it was made.
    pub vxlan: Vxlan,
    /// Its hardware address.
    pub mac: Option<MacAddress>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses, but the link-local ones that the kernel makes.
    pub addresses: BTreeSet<IpNetwork>,
    /// The permanent neighbours.
    pub neighbours: BTreeMap<IpAddr, MacAddress>,
    /// The permanent forwarding entries.
    pub entries: BTreeMap<MacAddress, IpAddr>,
}

impl Seen {
    /// Looks at the tunnel, given all links and addresses.
    ///
    /// # Errors
    /// The kernel refuses, or a list changes each time it is read.
    pub fn read(
        rtnl: &mut Rtnl,
        links: &[Link],
        addresses: &[address::Address],
    ) -> kernel::Result<Self> {
        let mut seen = Self::default();
        for link in links {
            let family = Family::ALL.into_iter().find(|family| family.device() == link.name);
            match (family, link.made_as) {
                (Some(family), Some(Kind::Vxlan(vxlan))) => {
                    let device = read_device(rtnl, link, vxlan, addresses)?;
                    seen.devices.insert(family, device);
                }
                (Some(_), _) => {
                    seen.taken.insert(link.name.clone());
                }
                (None, Some(Kind::Vxlan(vxlan))) => {
                    seen.others.insert(link.name.clone(), vxlan);
                }
                (None, _) => {}
            }
        }
        Ok(seen)
    }

    /// Whether a link is a device of ours.
    pub fn has(&self, link: u32) -> bool {
        self.devices.values().any(|device| device.index == link)
    }
}

fn read_device(
    rtnl: &mut Rtnl,
    link: &Link,
    vxlan: Vxlan,
    addresses: &[address::Address],
) -> kernel::Result<Device> {
    let own = addresses.iter().filter(|one| one.link == link.index && !one.link_local);
    let neighbours = rtnl.neighbours(link.index)?.into_iter().filter(|one| one.permanent);
    let entries = rtnl.forwarding_entries(link.index)?.into_iter().filter(|one| one.permanent);
    Ok(Device {
        index: link.index,
        vxlan,
        mac: link.mac,
        mtu: link.mtu,
        up: link.is_up(),
        addresses: own.map(|one| one.address).collect(),
        neighbours: neighbours.filter_map(|one| Some((one.address, one.mac?))).collect(),
        entries: entries.map(|fdb::Entry { mac, remote, .. }| (mac, remote)).collect(),
    })
}
