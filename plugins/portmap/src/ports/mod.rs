//! The mapped ports of this host: who has which, and how they change hands.

mod questions;
mod wanted;

use std::collections::BTreeSet;

use cni_conf::attachment::network_key;
use kernel::conntrack::Flows;
use kernel::netlink::Message;
use kernel::nft::{Element, Nft, Set};
use nix::errno::Errno;
use plugin_interface::{Error, Result, Valid};

use crate::claims;
use crate::mapping::Mapping;
use crate::record::{self, Line, Pod, Written};
use crate::table::{self, Maps, TABLE, key};
use questions::{is_same_container, owner_of};
pub(crate) use wanted::Wanted;
use wanted::{elements, give, map};

/// How often a change is tried that others get in the way of. Each time one of them has come further.
const TRIES: usize = 20;

/// The mapped ports.
pub(crate) struct Ports {
    nft: Nft,
}

impl Ports {
    pub(crate) fn open() -> Result<Ports> {
        Ok(Ports { nft: Nft::open()? })
    }

    /// Has flows forgotten: their next packets go where the ports lead now.
    pub(crate) fn forget(&mut self, flows: &[Flows]) -> Result<()> {
        flows.iter().try_for_each(|flows| match self.nft.conntrack().forget(flows) {
            // Without the module nobody can look at the flows; the kernel forgets them in its own time.
            Err(error) if error.is_unsupported() => Ok(()),
            done => Ok(done?),
        })
    }

    /// Ends the use of the packet filter, without waiting for it to forget what is gone.
    pub(crate) fn leave(self) {
        self.nft.leave();
    }

    /// Gives an attachment its ports, all in one transaction. Those that the same container has by
    /// way of another network it gets when that one is done with them.
    pub(crate) fn add(&mut self, wanted: &Wanted<'_>) -> Result<()> {
        let maps = wanted.maps();
        let mut changes = Vec::new();
        if wanted.has_own_maps() && maps.with_chain(|chain| self.nft.exist(&[chain]))? == [true] {
            changes.extend(maps.conditional(&wanted.conditions, false));
        }
        changes.extend(give(wanted, &maps, &[], &[]));
        for _ in 0..TRIES {
            match self.nft.commit(&changes) {
                // The first has to make the table, somebody has to make room, or came in between.
                Err(error) if is_in_the_way(&error) => {}
                done => return Ok(done?),
            }
            changes = self.make_room(wanted, &maps)?;
        }
        Ok(self.nft.commit(&changes)?)
    }

    /// Takes an attachment's ports back; who waits for one of them has it from now on. Tells which
    /// they were.
    pub(crate) fn remove(&mut self, owner: &str) -> Result<Vec<Mapping>> {
        let mut tries = 0;
        loop {
            let Some(record) = record::read(&mut self.nft, owner)? else { return Ok(Vec::new()) };
            let mut changes = self.removal(owner, &record)?;
            changes.extend(self.hand_over(&record)?);
            tries += 1;
            match self.nft.commit(&changes) {
                // Somebody else has just changed some of it: what is left is looked at again.
                Err(error) if tries < TRIES && is_in_the_way(&error) => {}
                done => {
                    done?;
                    return Ok(mapped(&record).map(|(mapping, _)| mapping).collect());
                }
            }
        }
    }

    /// Takes back the ports of the network's attachments that are not valid any more.
    pub(crate) fn collect(&mut self, valid: &Valid<'_>) -> Result<Vec<Mapping>> {
        let alive = valid.owner_keys();
        let chains = self.nft.chains(&TABLE)?;
        let owners = record::owners_of(&chains, &network_key(valid.network)).into_iter();
        let mut freed = Vec::new();
        let steps: Vec<_> = owners
            .filter(|owner| !alive.contains(*owner))
            .map(|owner| self.remove(owner).map(|mappings| freed.extend(mappings)))
            .collect();
        Error::all(steps).map(|()| freed)
    }

    /// The changes that give an attachment its ports, after all that is in the way has been removed:
    /// what it has of an earlier ADD, and owners that are dead. IPAM gave it the address, so who else
    /// has ports that lead there is dead.
    fn make_room(&mut self, wanted: &Wanted<'_>, maps: &Maps) -> Result<Vec<Message>> {
        let own = wanted.attachment.owner_key();
        let mut dead = BTreeSet::from([own.clone()]);
        let mut waiting = Vec::new();
        let holders = self.holders(wanted, maps)?;
        for (mapping, holder) in &holders {
            if holder.owner == own {
                continue;
            }
            if self.leads_to(&holder.owner, |address| wanted.has(address))? {
                dead.insert(holder.owner.clone());
            } else if is_same_container(&holder.label, wanted.attachment) {
                waiting.push((*mapping, holder.owner.clone()));
            } else {
                return Err(Error::HostPortHeld {
                    place: mapping.place.to_string(),
                    holder: holder.label.clone(),
                });
            }
        }
        let mut changes = table::frame();
        if wanted.has_own_maps() {
            let is_there = maps.with_chain(|chain| self.nft.exist(&[chain]))? == [true];
            changes.extend(maps.conditional(&wanted.conditions, !is_there));
        }
        // Who waits for one of them waits for this attachment now.
        let mut heirs = Vec::new();
        for owner in dead {
            if let Some(record) = record::read(&mut self.nft, &owner)? {
                changes.extend(self.removal(&owner, &record)?);
                heirs.extend(nexts(&record).map(str::to_owned));
            }
        }
        changes.extend(give(wanted, maps, &waiting, &heirs));
        Ok(changes)
    }

    /// The changes that remove what an owner has. Somebody may have flushed a map: only what is
    /// there can be deleted.
    fn removal(&mut self, owner: &str, record: &[Written]) -> Result<Vec<Message>> {
        let maps = MapsOf::owner(owner);
        let places: Vec<_> =
            mapped(record).map(|(mapping, own_maps)| (maps.get(own_maps), mapping.place)).collect();
        let mut wanted: Vec<(Set<'_>, Element)> =
            places.iter().map(|(maps, place)| (maps.of(place), key(place))).collect();
        for pod in pods(record) {
            for (set, element) in elements(pod) {
                wanted.push((set, element));
            }
        }
        let asked: Vec<_> = wanted.iter().map(|(set, element)| (*set, element)).collect();
        let there = self.nft.each_element(&asked)?;
        let is_own = |it: &Element| owner_of(&it.comment) == owner;
        let mut changes = Vec::new();
        for ((set, _), found) in wanted.iter().zip(there) {
            changes.extend(set.delete_elements(found.filter(is_own).as_slice()));
        }
        changes.extend(claims::give_up(&mut self.nft, &places, owner)?);
        changes.extend(record::delete(owner, record));
        Ok(changes)
    }

    /// The changes that give an owner's ports to those who wait for them: to the first of them that
    /// still does. The others wait for that one.
    fn hand_over(&mut self, record: &[Written]) -> Result<Vec<Message>> {
        let mut free: Vec<Mapping> = mapped(record).map(|(mapping, _)| mapping).collect();
        let mut changes = Vec::new();
        let mut heir: Option<String> = None;
        for next in nexts(record) {
            let Some(lines) = record::read(&mut self.nft, next)? else { continue };
            if let Some(heir) = &heir {
                changes.push(record::append(heir, &Line::Next { owner: next.to_owned() }));
            }
            let label = self.label_of(next)?;
            for line in &lines {
                let Line::Wait { mapping, own_maps } = &line.line else { continue };
                let Some(at) = free.iter().position(|it| it.place == mapping.place) else {
                    continue;
                };
                free.swap_remove(at);
                let maps = MapsOf::owner(next);
                let line_now = Line::Map { mapping: *mapping, own_maps: *own_maps };
                changes.extend([record::strike(next, line), record::append(next, &line_now)]);
                changes.extend(map(maps.get(*own_maps), &[*mapping], next, &label));
                heir.get_or_insert_with(|| next.to_owned());
            }
        }
        Ok(changes)
    }
}

/// The maps that an owner's ports may be in.
struct MapsOf {
    all: Maps,
    own: Maps,
}

impl MapsOf {
    fn owner(owner: &str) -> MapsOf {
        let key = record::network_key_of(owner);
        MapsOf { all: Maps::new(None), own: Maps::new(Some(key)) }
    }

    fn get(&self, own: bool) -> &Maps {
        if own { &self.own } else { &self.all }
    }
}

/// Whether a transaction did not hold because of what others have, or have not.
fn is_in_the_way(error: &kernel::Error) -> bool {
    error.is_absent() || error.is(Errno::EEXIST) || error.is(Errno::EBUSY)
}

/// The ports that lead to the owner of a record, and whether they are in its network's own maps.
fn mapped(record: &[Written]) -> impl Iterator<Item = (Mapping, bool)> {
    record.iter().filter_map(|written| match &written.line {
        Line::Map { mapping, own_maps } => Some((*mapping, *own_maps)),
        _ => None,
    })
}

fn pods(record: &[Written]) -> impl Iterator<Item = &Pod> {
    record.iter().filter_map(|written| match &written.line {
        Line::Pod(pod) => Some(pod),
        _ => None,
    })
}

/// Who waits for a port of this record's owner.
fn nexts(record: &[Written]) -> impl Iterator<Item = &str> {
    record.iter().filter_map(|written| match &written.line {
        Line::Next { owner } => Some(owner.as_str()),
        _ => None,
    })
}
