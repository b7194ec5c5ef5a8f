//! GC: which attachments of a network are alive.

use std::collections::HashSet;

use cni_conf::attachment::{Attachment, alias_names_network};
use cni_conf::conf::ValidAttachments;
use cni_conf::plugin::Upkeep;

use crate::error::Result;

/// The attachments of a network that the runtime names; all others of it are garbage.
#[derive(Debug)]
pub struct Valid<'a> {
    /// The network.
    pub network: &'a str,
    /// The attachments.
    pub attachments: Vec<Attachment>,
}

impl<'a> Valid<'a> {
    /// `None` when the runtime names none at all, not even an empty list: then nothing is known,
    /// and nothing may be removed.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn of(upkeep: &'a Upkeep) -> Result<Option<Self>> {
        let ValidAttachments::Only(valid) = upkeep.conf.valid_attachments()? else {
            return Ok(None);
        };
        let network = upkeep.conf.name.as_str();
        let attachments = valid
            .iter()
            .filter_map(|(id, ifname)| Attachment::new(network, id, ifname).ok())
            .collect();
        Ok(Some(Valid { network, attachments }))
    }

    /// Whether an alias names an attachment of the network that is not alive any more.
    pub fn is_garbage(&self, alias: &str) -> bool {
        alias_names_network(alias, self.network)
            && !self.attachments.iter().any(|attachment| attachment.alias() == alias)
    }

    /// The owner's keys of all that are alive.
    pub fn owner_keys(&self) -> HashSet<String> {
        self.attachments.iter().map(Attachment::owner_key).collect()
    }
}
