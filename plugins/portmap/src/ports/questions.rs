//! What is asked about the mapped ports: whether they are as they should be, and whose they are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni_conf::attachment::Attachment;
use plugin_interface::Result;

use super::wanted::{Wanted, elements};
use super::{Ports, mapped};
use crate::claims;
use crate::mapping::{Mapping, Place};
use crate::record::{self, Line, Pod, Written};
use crate::table::{self, Maps, TABLE, key};

/// Who has a place, and what it leads to.
pub(super) struct Holder {
    pub(super) owner: String,
    /// Who it is, for people.
    pub(super) label: String,
}

impl Ports {
    /// Whether the attachment has anything of this plugin's.
    pub(crate) fn owns(&mut self, attachment: &Attachment) -> Result<bool> {
        Ok(record::read(&mut self.nft, &attachment.owner_key())?.is_some())
    }

    /// What is not as [`Ports::add`] made it.
    pub(crate) fn difference(&mut self, wanted: &Wanted<'_>) -> Result<Option<String>> {
        let owner = wanted.attachment.owner_key();
        let record = record::read(&mut self.nft, &owner)?.unwrap_or_default();
        let maps = wanted.maps();
        for mapping in &wanted.mappings {
            let is_it = |line: &Written| match &line.line {
                Line::Map { mapping: has, .. } | Line::Wait { mapping: has, .. } => has == mapping,
                _ => false,
            };
            let leads = match record.iter().find(|line| is_it(line)).map(|line| &line.line) {
                Some(Line::Map { .. }) => {
                    let there = self.nft.element(&maps.of(&mapping.place), &key(&mapping.place))?;
                    there.and_then(|it| it.target) == Some(mapping.target)
                }
                // It is another network's turn, of the same container.
                Some(_) => self
                    .holders_of(&mapping.place, &maps)?
                    .iter()
                    .any(|holder| is_same_container(&holder.label, wanted.attachment)),
                None => false,
            };
            if !leads {
                let Mapping { place, target } = mapping;
                return Ok(Some(format!("{place} does not lead to {target} any more")));
            }
        }
        self.lost_disguise(&wanted.pods)
    }

    fn lost_disguise(&mut self, pods: &[Pod]) -> Result<Option<String>> {
        for pod in pods {
            for (set, element) in elements(pod) {
                if self.nft.element(&set, &element)?.is_none() {
                    let address = pod.address;
                    return Ok(Some(format!("{address} is not in set {:?} any more", set.name)));
                }
            }
        }
        let rules = self.nft.rules(&TABLE)?;
        let damaged = table::damaged(|name| rules.iter().filter(|it| it.chain == name).count());
        Ok(damaged.map(|chain| format!("nf_tables chain {chain:?} has lost rules")))
    }

    /// Who has a place that is wanted, or one that overlaps it.
    pub(super) fn holders(
        &mut self,
        wanted: &Wanted<'_>,
        maps: &Maps,
    ) -> Result<Vec<(Mapping, Holder)>> {
        let mut holders = Vec::new();
        for mapping in &wanted.mappings {
            let found = self.holders_of(&mapping.place, maps)?;
            holders.extend(found.into_iter().map(|holder| (*mapping, holder)));
        }
        Ok(holders)
    }

    fn holders_of(&mut self, place: &Place, maps: &Maps) -> Result<Vec<Holder>> {
        let mut holders = Vec::new();
        let anywhere = Place { address: None, ..*place };
        for place in BTreeSet::from([*place, anywhere]) {
            let there = self.nft.element(&maps.of(&place), &key(&place))?;
            holders.extend(there.map(|it| Holder::of_label(&it.comment)));
        }
        if place.address.is_none() {
            for owner in claims::owners(&mut self.nft, maps, place)? {
                let label = self.label_of(&owner)?;
                holders.push(Holder { owner, label });
            }
        }
        Ok(holders)
    }

    pub(super) fn label_of(&mut self, owner: &str) -> Result<String> {
        let record = record::read(&mut self.nft, owner)?.unwrap_or_default();
        let label = record.into_iter().find_map(|written| match written.line {
            Line::For { label } => Some(label),
            _ => None,
        });
        Ok(label.unwrap_or_else(|| owner.to_owned()))
    }

    /// Whether one of an owner's ports leads to such an address.
    pub(super) fn leads_to(
        &mut self,
        owner: &str,
        is_meant: impl Fn(IpAddr) -> bool,
    ) -> Result<bool> {
        let record = record::read(&mut self.nft, owner)?.unwrap_or_default();
        Ok(mapped(&record).any(|(mapping, _)| is_meant(mapping.target.ip())))
    }
}

impl Holder {
    fn of_label(label: &str) -> Holder {
        Holder { owner: owner_of(label), label: label.to_owned() }
    }
}

/// The owner's key behind a comment, which holds the triple in clear if it fits.
pub(super) fn owner_of(label: &str) -> String {
    Attachment::parse_alias(label).map_or_else(|| label.to_owned(), |it| it.owner_key())
}

/// Whether a label names an attachment of the same container.
pub(super) fn is_same_container(label: &str, attachment: &Attachment) -> bool {
    Attachment::parse_alias(label).is_some_and(|it| it.container_id == attachment.container_id)
}
