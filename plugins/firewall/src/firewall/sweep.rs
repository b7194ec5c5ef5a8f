//! GC: what is left of owners that have no map any more. A transaction never leaves that, but somebody
//! who deletes a table, or a part of it, does.

use std::collections::HashSet;

use cni_conf::attachment::network_key;
use kernel::netlink::Message;
use plugin_interface::{Result, Valid};

use super::questions::owner_of;
use super::{Changes, Firewall};
use crate::filter::Filter;
use crate::policy::{self, BRIDGE_TABLE, ISOLATED, OWNER, PORTS};

/// The owners that are meant: those of a network that are not alive.
struct Dead {
    prefix: String,
    alive: HashSet<String>,
}

impl Dead {
    fn has(&self, owner: &str) -> bool {
        owner.starts_with(&self.prefix) && !self.alive.contains(owner)
    }
}

impl Firewall {
    /// Removes all rules, elements and sets of the network's attachments that are not valid.
    pub(super) fn sweep(&mut self, valid: &Valid<'_>) -> Result<()> {
        let prefix = format!("{}-", network_key(valid.network));
        let dead = Dead { prefix, alive: valid.owner_keys() };
        self.persist(|firewall| {
            let mut list = firewall.rules_of(&dead)?;
            list.extend(firewall.elements_of(&dead)?);
            list.extend(firewall.sets_of(&dead)?);
            Ok(Changes { list, of_what_was_seen: false })
        })
    }

    fn rules_of(&mut self, dead: &Dead) -> Result<Vec<Message>> {
        let filters = Filter::look(&mut self.nft, "")?;
        Ok(filters.iter().flat_map(|filter| filter.take_all(|owner| dead.has(owner))).collect())
    }

    fn elements_of(&mut self, dead: &Dead) -> Result<Vec<Message>> {
        let mut changes = Vec::new();
        for set in ISOLATED.into_iter().chain([PORTS]) {
            let mut elements = self.nft.elements(&set)?.unwrap_or_default();
            elements.retain(|element| dead.has(&owner_of(&element.comment)));
            changes.extend(set.delete_elements(&elements));
        }
        Ok(changes)
    }

    /// Those of the bridges' table; the others' have gone with their owners.
    fn sets_of(&mut self, dead: &Dead) -> Result<Vec<Message>> {
        let sets = self.nft.sets(&BRIDGE_TABLE)?.into_iter();
        let dead = sets.filter(|set| set.name.strip_prefix(OWNER).is_some_and(|it| dead.has(it)));
        Ok(dead.map(|set| policy::owned_ports(&set.name).delete()).collect())
    }
}
