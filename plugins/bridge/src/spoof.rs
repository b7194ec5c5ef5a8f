//! `macspoofchk`: a container's port takes in only frames from the container's own MAC.
//!
//! ```text
//! table bridge cbr0_macspoofchk {
//!     set ports { vethkt4dxjzron6 comment "cbr0/<container>/eth0" }
//!     set sources { vethkt4dxjzron6 . 0a:58:0a:00:01:05 comment … }
//!     set att-<owner's key> { vethkt4dxjzron6 . 0a:58:0a:00:01:05 }    one an attachment: its keys
//!     chain prerouting { iifname @ports iifname . ether saddr != @sources drop }
//! }
//! ```
//!
//! A frame costs two lookups however many containers there are, and a change asks only for what is
//! the attachment's own. The table, its two sets and the chain stay, empty.

use std::collections::HashSet;

use cni_conf::attachment::{Attachment, network_key};
use kernel::MacAddress;
use kernel::netlink::Message;
use kernel::nft::{
    Chain, Element, Expression, Family, Field, Hook, KeyType, Nft, Set, SetKind, Table, Verdict,
};
use nix::errno::Errno;
use plugin_interface::{Error, Result, Valid};

const TABLE: Table<'static> = Table { family: Family::Bridge, name: "cbr0_macspoofchk" };
const PORTS: Set<'static> =
    Set { table: TABLE, name: "ports", key: KeyType::Port, kind: SetKind::Keys };
const SOURCES: Set<'static> =
    Set { table: TABLE, name: "sources", key: KeyType::PortAndMac, kind: SetKind::Keys };
const PREROUTING: Chain<'static> = Chain { table: TABLE, name: "prerouting" };
/// What the names of the owners' sets begin with.
const OWNER: &str = "att-";
/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;

/// The check of source addresses on this host.
pub(crate) struct SpoofCheck {
    nft: Nft,
}

impl SpoofCheck {
    pub(crate) fn open() -> Result<Self> {
        Ok(SpoofCheck { nft: Nft::open()? })
    }

    /// Lets only frames from this MAC in by the attachment's port. Who else has a port of this name
    /// in the sets is dead: the name is now this attachment's.
    pub(crate) fn add(
        &mut self,
        attachment: &Attachment,
        port: &str,
        mac: MacAddress,
    ) -> Result<()> {
        let source = source(attachment, port, mac);
        let keys = attach(attachment, &source);
        let mut changes = keys.clone();
        for _ in 0..TRIES {
            match self.nft.commit(&changes) {
                // The first has to make the table, or somebody dead has to make room.
                Err(error) if error.is(Errno::ENOENT) || error.is(Errno::EEXIST) => {}
                done => return Ok(done?),
            }
            changes = self.evict(attachment, &source)?;
            changes.extend(frame());
            changes.extend(keys.iter().cloned());
        }
        Ok(self.nft.commit(&changes)?)
    }

    /// Removes what the attachment owns.
    pub(crate) fn remove(attachment: &Attachment) -> Result<()> {
        Self::where_there_is_any(|check| check.remove_owner(&attachment.owner_key()))
    }

    /// Removes what the network's attachments own that are not valid any more.
    pub(crate) fn collect(valid: &Valid<'_>) -> Result<()> {
        Self::where_there_is_any(|check| {
            let prefix = format!("{OWNER}{}-", network_key(valid.network));
            let alive = valid.owner_keys();
            let sets = check.nft.sets(&TABLE)?;
            let of_network = sets.iter().filter(|set| set.name.starts_with(&prefix));
            let owners = of_network.filter_map(|set| set.name.strip_prefix(OWNER));
            let dead = owners.filter(|owner| !alive.contains(*owner));
            Error::all(dead.map(|owner| check.remove_owner(owner)))
        })
    }

    /// What is not as [`SpoofCheck::add`] made it.
    pub(crate) fn difference(
        &mut self,
        attachment: &Attachment,
        port: &str,
        mac: MacAddress,
    ) -> Result<Option<String>> {
        let source = source(attachment, port, mac);
        for (set, wanted) in [(PORTS, port_of(&source)), (SOURCES, source)] {
            if self.nft.element(&set, &wanted)?.as_ref() != Some(&wanted) {
                return Ok(Some(format!("frames of {port:?} are not checked for {mac} any more")));
            }
        }
        let rules = self.nft.rules(&TABLE)?;
        let lost = format!("nf_tables chain {:?} has lost its rule", PREROUTING.name);
        Ok((rules.len() != 1).then_some(lost))
    }

    /// Without nf_tables in the kernel nothing is checked, and there is nothing to remove.
    fn where_there_is_any(work: impl FnOnce(&mut SpoofCheck) -> Result<()>) -> Result<()> {
        match Self::open() {
            Err(Error::Kernel(error)) if error.is_unsupported() => Ok(()),
            opened => {
                let mut check = opened?;
                let done = work(&mut check);
                check.nft.leave();
                done
            }
        }
    }

    fn remove_owner(&mut self, owner: &str) -> Result<()> {
        for _ in 0..TRIES {
            let changes = self.removal(owner)?;
            match self.nft.commit(&changes) {
                // Somebody else has just removed some of it: what is left is looked at again.
                Err(error) if error.is(Errno::ENOENT) => {}
                done => return Ok(done?),
            }
        }
        Ok(())
    }

    /// What takes an owner's keys out of the sets; nothing if there is no such owner.
    fn removal(&mut self, owner: &str) -> Result<Vec<Message>> {
        let name = format!("{OWNER}{owner}");
        let Some(keys) = self.nft.elements(&owned(&name))? else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        for source in keys {
            for (set, key) in [(PORTS, source.port_alone()), (SOURCES, source)] {
                // Somebody may have flushed the set: only what is there can be deleted.
                let there = self.nft.element(&set, &key)?;
                changes.extend(set.delete_elements(there.as_slice()));
            }
        }
        changes.push(owned(&name).delete());
        Ok(changes)
    }

    /// What removes this attachment itself, from an ADD that was killed, and the port's last owner.
    fn evict(&mut self, attachment: &Attachment, source: &Element) -> Result<Vec<Message>> {
        let mut owners = HashSet::from([attachment.owner_key()]);
        if let Some(found) = self.nft.element(&PORTS, &source.port_alone())? {
            let named = Attachment::parse_alias(&found.comment);
            owners.insert(named.map_or(found.comment, |attachment| attachment.owner_key()));
        }
        let mut changes = Vec::new();
        for owner in owners {
            changes.extend(self.removal(&owner)?);
        }
        Ok(changes)
    }
}

/// The changes that are an attachment's own.
fn attach(attachment: &Attachment, source: &Element) -> Vec<Message> {
    let name = format!("{OWNER}{}", attachment.owner_key());
    let set = owned(&name);
    let own = [set.create(&attachment.label())];
    let keys = [(set, source.clone()), (PORTS, port_of(source)), (SOURCES, source.clone())];
    own.into_iter()
        .chain(keys.into_iter().flat_map(|(set, key)| set.add_elements(&[key])))
        .collect()
}

/// The changes that all attachments share. They can be made again and again: the rule is replaced
/// within the transaction.
fn frame() -> [Message; 6] {
    let is_checked = Expression::InSet { field: Field::Port, set: &PORTS, negated: false };
    let is_forged = Expression::InSet { field: Field::PortAndMac, set: &SOURCES, negated: true };
    [
        TABLE.add(),
        PORTS.add(""),
        SOURCES.add(""),
        PREROUTING.add_at(Hook::BridgeIngress),
        PREROUTING.flush(),
        PREROUTING.append(&[is_checked, is_forged, Expression::Act(Verdict::Drop)], ""),
    ]
}

fn source(attachment: &Attachment, port: &str, mac: MacAddress) -> Element {
    Element::port_and_mac(port, mac).with_comment(attachment.label())
}

fn port_of(source: &Element) -> Element {
    source.port_alone().with_comment(source.comment.clone())
}

fn owned(name: &str) -> Set<'_> {
    Set { table: TABLE, name, key: KeyType::PortAndMac, kind: SetKind::Keys }
}
