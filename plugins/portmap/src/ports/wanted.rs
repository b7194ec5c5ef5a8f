//! What an attachment shall have, and the changes that give it that.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni_conf::attachment::{Attachment, network_key};
use kernel::netlink::Message;
use kernel::nft::{Element, Set};

use crate::claims;
use crate::conditions::Condition;
use crate::mapping::Mapping;
use crate::record::{self, Line, Pod};
use crate::table::{GUARDED, Maps, key};

/// What an attachment shall have.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) attachment: &'a Attachment,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) pods: Vec<Pod>,
    /// Of IPv4 and of IPv6; with any, the network has maps of its own.
    pub(crate) conditions: [&'a [Condition]; 2],
}

impl Wanted<'_> {
    pub(super) fn has_own_maps(&self) -> bool {
        self.conditions.iter().any(|conditions| !conditions.is_empty())
    }

    pub(crate) fn maps(&self) -> Maps {
        let own = self.has_own_maps().then(|| network_key(&self.attachment.network));
        Maps::new(own.as_deref())
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.pods.iter().any(|pod| pod.address == address)
    }
}

/// The elements by which what goes to a container is disguised.
pub(super) fn elements(pod: &Pod) -> impl Iterator<Item = (Set<'static>, Element)> {
    pod.disguises.iter().filter_map(|disguise| {
        let set = disguise.set(pod.address.is_ipv6())?;
        Some((set, disguise.element(&pod.link, pod.address)))
    })
}

/// The changes that are an attachment's own. For the ports in `waiting` it waits, and `heirs` wait for
/// its.
pub(super) fn give(
    wanted: &Wanted<'_>,
    maps: &Maps,
    waiting: &[(Mapping, String)],
    heirs: &[String],
) -> Vec<Message> {
    let owner = wanted.attachment.owner_key();
    let label = record::label(wanted.attachment);
    let own_maps = wanted.has_own_maps();
    let waits = |mapping: &Mapping| waiting.iter().any(|(it, _)| it == mapping);
    let lines = wanted.mappings.iter().map(|mapping| match waits(mapping) {
        true => Line::Wait { mapping: *mapping, own_maps },
        false => Line::Map { mapping: *mapping, own_maps },
    });
    let pods = wanted.pods.iter().cloned().map(Line::Pod);
    let who = Line::For { label: label.clone() };
    let heirs = heirs.iter().map(|heir| Line::Next { owner: heir.clone() });
    let lines: Vec<_> = [who].into_iter().chain(pods).chain(lines).chain(heirs).collect();
    let mut changes = record::create(&owner, &lines);
    let now: Vec<_> = wanted.mappings.iter().filter(|it| !waits(it)).copied().collect();
    changes.extend(map(maps, &now, &owner, &label));
    for pod in &wanted.pods {
        changes.extend(
            elements(pod).flat_map(|(set, element)| {
                set.add_elements(&[element.with_comment(label.clone())])
            }),
        );
        changes.extend(GUARDED.ensure_elements(&[Element::port(&pod.link)]));
    }
    let holders: BTreeSet<_> = waiting.iter().map(|(_, holder)| holder).collect();
    let next = Line::Next { owner };
    changes.extend(holders.into_iter().map(|holder| record::append(holder, &next)));
    changes
}

/// The changes by which these ports lead to an owner.
pub(super) fn map(maps: &Maps, mappings: &[Mapping], owner: &str, label: &str) -> Vec<Message> {
    let mut changes = Vec::new();
    for ipv6 in [false, true] {
        for addressed in [false, true] {
            let of_map =
                |it: &&Mapping| it.place.ipv6 == ipv6 && it.place.address.is_some() == addressed;
            let elements: Vec<_> = mappings
                .iter()
                .filter(of_map)
                .map(|it| key(&it.place).to_target(it.target).with_comment(label))
                .collect();
            if let Some(first) = mappings.iter().find(of_map) {
                changes.extend(maps.of(&first.place).add_elements(&elements));
            }
        }
    }
    changes.extend(mappings.iter().flat_map(|mapping| claims::claim(maps, mapping, owner)));
    changes
}
