//! The VLANs of bridge ports (`bridge-vlan(8)`).

use std::ops::RangeInclusive;

use nix::libc;

use super::header;
use crate::Rtnl;
use crate::netlink::{Message, Reply, Result};

const RTM_NEWVLAN: u16 = 112;
const RTM_GETVLAN: u16 = 114;
/// `struct br_vlan_msg`.
const VLAN_HEADER: usize = 8;
const BRIDGE_VLANDB_ENTRY: u16 = 1;
const BRIDGE_VLANDB_ENTRY_INFO: u16 = 1;
const BRIDGE_VLANDB_ENTRY_RANGE: u16 = 2;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;

/// VLANs of a bridge port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortVlan {
    /// Their IDs, 1 to 4094.
    pub ids: RangeInclusive<u16>,
    /// Whether frames that come in without a tag are of this VLAN: of one at most.
    pub pvid: bool,
    /// Whether its frames go out without a tag.
    pub untagged: bool,
}

impl PortVlan {
    /// The VLAN of frames without a tag, in both directions.
    pub fn native(id: u16) -> Self {
        PortVlan { ids: id..=id, pvid: true, untagged: true }
    }

    /// VLANs whose frames have their tag.
    pub fn tagged(ids: RangeInclusive<u16>) -> Self {
        PortVlan { ids, pvid: false, untagged: false }
    }

    fn flags(&self) -> u16 {
        (if self.pvid { PVID } else { 0 }) | if self.untagged { UNTAGGED } else { 0 }
    }

    /// `struct bridge_vlan_info`, one for a single VLAN and two for a range.
    fn put(&self, list: Message) -> Message {
        let info = |list: Message, id: u16, flags: u16| {
            let [[a, b], [c, d]] = [flags.to_ne_bytes(), id.to_ne_bytes()];
            list.put(IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d])
        };
        let (first, last) = (*self.ids.start(), *self.ids.end());
        if first == last {
            return info(list, first, self.flags());
        }
        let list = info(list, first, self.flags() | RANGE_BEGIN);
        info(list, last, self.flags() | RANGE_END)
    }
}

/// Makes a bridge port one of these VLANs, in addition to those that it is in.
pub fn add_vlans(port: u32, vlans: &[PortVlan]) -> Message {
    let what = format!("add VLANs to bridge port {port}");
    change(what, libc::RTM_SETLINK, port, vlans)
}

/// Takes a bridge port out of these VLANs; one that it is not in is passed over.
pub fn delete_vlans(port: u32, vlans: &[PortVlan]) -> Message {
    let what = format!("delete VLANs of bridge port {port}");
    change(what, libc::RTM_DELLINK, port, vlans)
}

fn change(what: String, kind: u16, port: u32, vlans: &[PortVlan]) -> Message {
    let mut header = header(port, 0, 0);
    header[0] = libc::AF_BRIDGE as u8;
    Message::new(what, kind, 0, &header)
        .nest(libc::IFLA_AF_SPEC, |list| vlans.iter().fold(list, |list, vlan| vlan.put(list)))
}

impl Rtnl {
    /// The VLANs of a bridge port, those that are alike and next to each other as one.
    ///
    /// # Errors
    /// The kernel cannot filter by VLAN, or there is no such port.
    pub fn vlans(&mut self, port: u32) -> Result<Vec<PortVlan>> {
        let mut header = [0; VLAN_HEADER];
        header[0] = libc::AF_BRIDGE as u8;
        header[4..].copy_from_slice(&port.to_ne_bytes());
        let what = format!("list VLANs of bridge port {port}");
        let replies = self.socket.dump(&Message::new(what, RTM_GETVLAN, 0, &header))?;
        Ok(replies.iter().filter(|reply| reply.kind == RTM_NEWVLAN).flat_map(parse).collect())
    }
}

fn parse(reply: &Reply) -> Vec<PortVlan> {
    let entries = reply.attributes(VLAN_HEADER).filter(|entry| entry.kind == BRIDGE_VLANDB_ENTRY);
    let vlan = |entry: crate::netlink::Attribute<'_>| {
        let entry = entry.nested();
        let info = entry.get(BRIDGE_VLANDB_ENTRY_INFO)?.value.first_chunk::<4>()?;
        let (flags, first) =
            (u16::from_ne_bytes([info[0], info[1]]), u16::from_ne_bytes([info[2], info[3]]));
        let last = entry.get(BRIDGE_VLANDB_ENTRY_RANGE).and_then(|last| last.value.first_chunk());
        let last = last.map_or(first, |last| u16::from_ne_bytes(*last));
        Some(PortVlan {
            ids: first..=last,
            pvid: flags & PVID != 0,
            untagged: flags & UNTAGGED != 0,
        })
    };
    entries.filter_map(vlan).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netlink::Attributes;

    #[test]
    fn the_kernels_answer_is_read() {
        let number = |value: u16| value.to_ne_bytes();
        let info = [number(PVID | UNTAGGED), number(100)].concat();
        let range = [number(0), number(200)].concat();
        let message = Message::new("", RTM_NEWVLAN, 0, &[0; VLAN_HEADER])
            .nest(BRIDGE_VLANDB_ENTRY, |entry| entry.put(BRIDGE_VLANDB_ENTRY_INFO, &info))
            .nest(BRIDGE_VLANDB_ENTRY, |entry| {
                entry
                    .put(BRIDGE_VLANDB_ENTRY_INFO, &range)
                    .put(BRIDGE_VLANDB_ENTRY_RANGE, &number(210))
            });
        let payload = message.to_bytes()[16..].to_vec();
        let reply = Reply { kind: RTM_NEWVLAN, payload };
        assert_eq!(parse(&reply), [PortVlan::native(100), PortVlan::tagged(200..=210)]);
    }

    #[test]
    fn a_range_is_written_by_its_ends() {
        let bytes = add_vlans(7, &[PortVlan::tagged(200..=210)]).to_bytes();
        let spec = Attributes::new(&bytes[32..]).get(libc::IFLA_AF_SPEC).unwrap();
        let ends: Vec<_> = spec.nested().map(|one| one.value.to_vec()).collect();
        let number = |value: u16| value.to_ne_bytes();
        assert_eq!(
            ends,
            [
                [number(RANGE_BEGIN), number(200)].concat(),
                [number(RANGE_END), number(210)].concat()
            ]
        );
    }
}
