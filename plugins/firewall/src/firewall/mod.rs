//! What attachments own in the packet filter: how it is made, found and removed.
//!
//! Everything of an attachment is made and removed in one transaction, with the map that tells its
//! addresses, by the owner's key.

mod questions;
mod sweep;

use std::collections::HashSet;

use cni_conf::attachment::{Attachment, network_key};
use kernel::netlink::Message;
use kernel::nft::{Chain, Element, Nft, Verdict, is_outdated};
use nix::errno::Errno;
use plugin_interface::{Error, Result, Valid};

use crate::filter::{Filter, Owned};
use crate::plan::{Place, Plan};
use crate::policy::{self, OF_BRIDGE, OWNER, TABLE};
use questions::{elements, owner_of};

/// How often a change is tried that others get in the way of. Each time one of them has come
/// further.
const TRIES: usize = 100;

/// The packet filter of this host.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft: Nft,
}

/// Changes that belong together.
struct Changes {
    list: Vec<Message>,
    /// Whether they are right only for what was seen before.
    of_what_was_seen: bool,
}

impl Firewall {
    /// The host's nf_tables; `None` without any in the kernel, where `iptables-nft` has none either.
    pub(crate) fn open() -> Result<Option<Self>> {
        match Nft::open() {
            Err(error) if error.is_unsupported() => Ok(None),
            opened => Ok(Some(Firewall { nft: opened? })),
        }
    }

    /// Ends the use of the packet filter, without waiting for it to forget what is gone.
    pub(crate) fn leave(self) {
        self.nft.leave();
    }

    /// Makes what the plan says, in place of what the attachment has, all of it or nothing.
    pub(crate) fn add(&mut self, attachment: &Attachment, plan: &Plan) -> Result<()> {
        let key = attachment.owner_key();
        // An ADD that was killed, and no DEL after it.
        self.remove_owner(&key)?;
        let owned: Vec<_> = plan.addresses.iter().map(|it| (*it, key.clone())).collect();
        self.persist(|firewall| {
            let filters = Filter::look(&mut firewall.nft, &plan.admin_chain)?;
            let mut changes = firewall.frame(&filters, plan)?;
            changes.list.extend(firewall.attach(attachment, plan)?);
            changes.list.extend(rules(&filters, &owned));
            Ok(changes)
        })
    }

    /// Removes whatever the attachment owns; whether it did own something.
    pub(crate) fn remove(&mut self, attachment: &Attachment) -> Result<bool> {
        self.remove_owner(&attachment.owner_key())
    }

    /// Removes what attachments of the network own that are not valid, and chains of bridges that
    /// nobody uses: of a DEL that was killed, too.
    pub(crate) fn collect(&mut self, valid: &Valid<'_>) -> Result<()> {
        let prefix = format!("{}-", network_key(valid.network));
        let alive = valid.owner_keys();
        let owners = self.owners()?.into_iter();
        let dead = owners.filter(|owner| owner.starts_with(&prefix) && !alive.contains(owner));
        let dead: Vec<_> = dead.collect();
        let mut steps: Vec<_> =
            dead.iter().map(|owner| self.remove_owner(owner).map(drop)).collect();
        steps.push(self.sweep(valid));
        let chains = self.nft.chains(&TABLE)?.into_iter();
        let bridges = chains.filter_map(|chain| Some(chain.strip_prefix(OF_BRIDGE)?.to_owned()));
        steps.push(self.remove_unused(&bridges.collect()));
        Error::all(steps)
    }

    /// Gives all attachments their rules in tables that were made or emptied after them.
    pub(crate) fn catch_up(&mut self, admin_chain: &str) -> Result<()> {
        self.persist(|firewall| {
            let filters = Filter::look(&mut firewall.nft, admin_chain)?;
            firewall.catching_up(&filters)
        })
    }

    /// The socket, to look for what is nobody's.
    pub(crate) fn nft(&mut self) -> &mut Nft {
        &mut self.nft
    }

    /// Looks, and makes the changes that follow, until nobody is in between.
    fn persist(&mut self, mut look: impl FnMut(&mut Self) -> Result<Changes>) -> Result<()> {
        let mut tries = 0;
        loop {
            let generation = self.nft.generation()?;
            let changes = look(self)?;
            let done = if changes.of_what_was_seen {
                self.nft.commit_at(generation, &changes.list)
            } else {
                self.nft.commit(&changes.list)
            };
            tries += 1;
            match done {
                Err(error) if tries < TRIES && is_others_doing(&error) => {}
                done => return Ok(done?),
            }
        }
    }

    fn remove_owner(&mut self, owner: &str) -> Result<bool> {
        let mut tries = 0;
        loop {
            let Some((changes, bridges)) = self.removal(owner)? else { return Ok(tries > 0) };
            tries += 1;
            match self.nft.commit(&changes) {
                Err(error) if tries < TRIES && is_others_doing(&error) => {}
                done => {
                    done?;
                    self.remove_unused(&bridges)?;
                    return Ok(true);
                }
            }
        }
    }

    /// What removes an owner, and the bridges that it uses; `None` if there is no such owner.
    fn removal(&mut self, owner: &str) -> Result<Option<(Vec<Message>, HashSet<String>)>> {
        let name = format!("{OWNER}{owner}");
        let Some(elements) = self.nft.elements(&policy::owned(&name))? else { return Ok(None) };
        let filters = Filter::look(&mut self.nft, "")?;
        let (mut changes, mut bridges) = (Vec::new(), HashSet::new());
        for element in &elements {
            let Some(address) = element.address().map(|address| address.to_canonical()) else {
                continue;
            };
            let is_for = filters.iter().filter(|filter| filter.is_for(address));
            changes.extend(is_for.flat_map(|filter| filter.take(address, owner)));
            if let Some(Verdict::Jump(chain)) = &element.verdict {
                bridges.extend(chain.strip_prefix(OF_BRIDGE).map(str::to_owned));
                let set = policy::isolated(address);
                // Another attachment may have the address by now.
                let found = self.nft.element(&set, &Element::new(address))?;
                let own = found.filter(|found| owner_of(&found.comment) == owner);
                changes.extend(set.delete_elements(own.as_slice()));
            }
        }
        if !bridges.is_empty() {
            changes.extend(self.removal_of_ports(&name, owner)?);
        }
        changes.push(policy::owned(&name).delete());
        Ok(Some((changes, bridges)))
    }

    fn removal_of_ports(&mut self, name: &str, owner: &str) -> Result<Vec<Message>> {
        let set = policy::owned_ports(name);
        let Some(ports) = self.nft.elements(&set)? else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        for port in ports {
            let found = self.nft.element(&policy::PORTS, &port)?;
            let own = found.filter(|found| owner_of(&found.comment) == owner);
            changes.extend(policy::PORTS.delete_elements(own.as_slice()));
        }
        changes.push(set.delete());
        Ok(changes)
    }

    /// What all attachments share, as far as it is not there.
    fn frame(&mut self, filters: &[Filter<'_>], plan: &Plan) -> Result<Changes> {
        let bridge = plan.place.as_ref().map(|place| policy::chain_name(&place.bridge));
        let bridge = Chain { table: TABLE, name: bridge.as_deref().unwrap_or_default() };
        let chains = [policy::FORWARD, policy::BRIDGE_FORWARD, bridge];
        let asked = if plan.place.is_some() { &chains[..] } else { &chains[..1] };
        let there = self.nft.exist(asked)?;
        let is_missing = |number: usize| there.get(number) == Some(&false);
        let mut list = Vec::new();
        if is_missing(0) {
            list.extend(policy::frame());
        }
        if let Some(place) = &plan.place {
            if is_missing(1) && place.isolated.is_some() {
                list.extend(policy::bridge_frame());
            }
            if is_missing(2) {
                list.extend(policy::add_bridge(&place.bridge));
            }
        }
        let catching_up = self.catching_up(filters)?;
        list.extend(catching_up.list);
        Ok(Changes { list, ..catching_up })
    }

    /// The chains in the tables of `iptables-nft`. Where the plugin's own was missing, all
    /// attachments get their rules.
    fn catching_up(&mut self, filters: &[Filter<'_>]) -> Result<Changes> {
        let mut list: Vec<_> = filters.iter().flat_map(Filter::frame).collect();
        let of_what_was_seen = !list.is_empty();
        let fresh = || filters.iter().filter(|filter| filter.is_fresh());
        if fresh().next().is_some() {
            list.extend(rules(fresh(), &self.all()?));
        }
        Ok(Changes { list, of_what_was_seen })
    }

    /// The changes that are an attachment's own.
    fn attach(&mut self, attachment: &Attachment, plan: &Plan) -> Result<Vec<Message>> {
        let name = format!("{OWNER}{}", attachment.owner_key());
        let map = policy::owned(&name);
        let mut changes = vec![map.create(&attachment.label())];
        changes.extend(map.add_elements(&elements(plan)));
        let Some(Place { isolated: Some(port), .. }) = &plan.place else { return Ok(changes) };
        let ports = policy::owned_ports(&name);
        changes.push(ports.create(&attachment.label()));
        changes.extend(ports.add_elements(&[Element::port(port)]));
        let port = Element::port(port).with_comment(attachment.label());
        let addresses = plan.addresses.iter().map(|address| {
            (policy::isolated(*address), Element::new(*address).with_comment(attachment.label()))
        });
        for (set, element) in addresses.chain([(policy::PORTS, port)]) {
            // Whoever had it is dead: it is this attachment's now.
            let dead = self.nft.element(&set, &element)?;
            let dead = dead.filter(|dead| owner_of(&dead.comment) != attachment.owner_key());
            changes.extend(set.delete_elements(dead.as_slice()));
            changes.extend(set.add_elements(&[element]));
        }
        Ok(changes)
    }

    /// Removes the chains of those of these bridges that no attachment uses.
    fn remove_unused(&mut self, bridges: &HashSet<String>) -> Result<()> {
        for bridge in bridges {
            let name = policy::chain_name(bridge);
            let uses = self.nft.uses(&[Chain { table: TABLE, name: &name }])?.pop().flatten();
            if uses.is_none_or(|uses| uses > policy::USES_OF_ITS_OWN) {
                continue;
            }
            match self.nft.commit(&policy::remove_bridge(bridge)) {
                // Somebody has just come, or the last one just left.
                Err(error) if !error.is(Errno::EBUSY) && !error.is_absent() => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether somebody else changed what a change was for, between looking and changing.
fn is_others_doing(error: &kernel::Error) -> bool {
    is_outdated(error)
        || [Errno::ENOENT, Errno::EEXIST, Errno::EBUSY].into_iter().any(|errno| error.is(errno))
}

/// The rules of addresses in the tables that their packets pass.
fn rules<'a>(filters: impl IntoIterator<Item = &'a Filter<'a>>, owned: &[Owned]) -> Vec<Message> {
    let give = |filter: &Filter<'_>| -> Vec<Message> {
        let own = owned.iter().filter(|(address, _)| filter.is_for(*address));
        own.flat_map(|one| filter.give(one)).collect()
    };
    filters.into_iter().flat_map(give).collect()
}
