//! `ipMasq`: what a container sends out of its network leaves with the host's address.
//!
//! ```text
//! table inet cbr0_masquerade {
//!     map sources4 { 10.0.1.5 : jump net-10.0.1.0/24 comment "cbr0/<container>/eth0" }
//!     map sources6 { … }
//!     set att-<owner's key> { ::ffff:10.0.1.5 }         one an attachment: the keys it owns
//!     chain postrouting { multicast return; ip saddr vmap @sources4; ip6 saddr vmap @sources6 }
//!     chain net-10.0.1.0/24 { ip daddr != 10.0.1.0/24 jump leaving }  while somebody jumps there
//!     chain leaving { masquerade }
//! }
//! ```
//!
//! A packet costs one lookup however many containers there are. A change asks only for what is the
//! attachment's own: its keys stand in the set of its name. What nobody uses but us stays: the
//! table, the two maps, the base chain and the one that masquerades: while there is such a rule, connection
//! tracking keeps its hooks, which to take away and to put back costs the kernel some ten milliseconds.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_conf::attachment::{Attachment, network_key};
use cni_conf::result::IpConfig;
use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::netlink::Message;
use kernel::nft::{
    Chain, Element, Expression, Family, Field, Hook, KeyType, Nft, Set, SetKind, Table, Verdict,
};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::valid::Valid;

const TABLE: Table<'static> = Table { family: Family::Inet, name: "cbr0_masquerade" };
const SOURCES4: Set<'static> =
    Set { table: TABLE, name: "sources4", key: KeyType::Ipv4, kind: SetKind::VerdictMap };
const SOURCES6: Set<'static> =
    Set { table: TABLE, name: "sources6", key: KeyType::Ipv6, kind: SetKind::VerdictMap };
const POSTROUTING: Chain<'static> = Chain { table: TABLE, name: "postrouting" };
/// What leaves its network comes here.
const LEAVING: Chain<'static> = Chain { table: TABLE, name: "leaving" };
/// How many rules [`POSTROUTING`] has.
const RULES: u32 = 4;
/// What the names of the owners' sets begin with.
const OWNER: &str = "att-";
/// What the names of the networks' chains begin with.
const SUBNET: &str = "net-";
/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;

/// The masquerading of this host.
#[derive(Debug)]
pub struct Masquerade {
    nft: Nft,
}

impl Masquerade {
    /// Opens the host's nf_tables.
    ///
    /// # Errors
    /// The kernel has none.
    pub fn open() -> Result<Masquerade> {
        Ok(Masquerade { nft: Nft::open()? })
    }

    /// Masquerades what these addresses send out of their networks.
    ///
    /// # Errors
    /// Another attachment that is alive has one of the addresses, or the kernel refuses.
    pub fn add(&mut self, attachment: &Attachment, ips: &[IpConfig]) -> Result<()> {
        let networks: Vec<_> = ips.iter().map(|ip| ip.address).collect();
        let keys = attach(attachment, &networks);
        // The first of its network makes the chain, or all but the keys. It is asked for, since the
        // kernel takes tens of milliseconds to undo a transaction that does not hold.
        let mut changes = self.missing_frame(&networks)?;
        changes.extend(keys.iter().cloned());
        for _ in 0..TRIES {
            match self.nft.commit(&changes) {
                // The chain has just gone; or somebody dead has to make room.
                Err(error) if error.is(Errno::ENOENT) || error.is(Errno::EEXIST) => {}
                done => return Ok(done?),
            }
            changes = self.evict_dead(attachment, &networks)?;
            changes.extend(frame(&networks));
            changes.extend(keys.iter().cloned());
        }
        Ok(self.nft.commit(&changes)?)
    }

    /// Ends the masquerading of whatever the attachment owns.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(attachment: &Attachment) -> Result<()> {
        Self::where_there_is_any(|masquerade| masquerade.remove_owner(&attachment.owner_key()))
    }

    /// Ends the masquerading of all attachments of a network but the valid ones, and removes
    /// chains that nobody uses: of a DEL that was killed, too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn collect(valid: &Valid<'_>) -> Result<()> {
        Self::where_there_is_any(|masquerade| {
            let prefix = format!("{OWNER}{}-", network_key(valid.network));
            let valid = valid.owner_keys();
            let sets = masquerade.nft.sets(&TABLE)?;
            let of_network = sets.iter().filter(|set| set.name.starts_with(&prefix));
            let owners = of_network
                .filter_map(|set| set.name.strip_prefix(OWNER))
                .filter(|owner| !valid.contains(*owner));
            let mut steps: Vec<_> = owners.map(|owner| masquerade.remove_owner(owner)).collect();
            let chains = masquerade.nft.chains(&TABLE)?;
            let of_subnets = chains.into_iter().filter(|chain| chain.starts_with(SUBNET));
            steps.push(masquerade.remove_unused(of_subnets));
            Error::all(steps)
        })
    }

    /// What is not as [`Masquerade::add`] made it.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn difference(
        &mut self,
        attachment: &Attachment,
        ips: &[IpConfig],
    ) -> Result<Option<String>> {
        let rules = self.nft.rules(&TABLE)?;
        let has_rules =
            |chain: &str, count| rules.iter().filter(|rule| rule.chain == chain).count() == count;
        for IpConfig { address, .. } in ips {
            let wanted = source(attachment, address);
            let there = self.nft.element(&map_of(address), &wanted)?;
            if there.as_ref() != Some(&wanted) || !has_rules(&chain_name(address), 1) {
                return Ok(Some(format!("{address} is not masqueraded any more")));
            }
        }
        let wanted = [(POSTROUTING, RULES as usize), (LEAVING, 1)];
        let lost = wanted.into_iter().find(|(chain, count)| !has_rules(chain.name, *count));
        Ok(lost.map(|(chain, _)| format!("nf_tables chain {:?} has lost rules", chain.name)))
    }

    /// Without nf_tables in the kernel nothing is masqueraded, and there is nothing to remove.
    fn where_there_is_any(work: impl FnOnce(&mut Masquerade) -> Result<()>) -> Result<()> {
        match Self::open() {
            Err(Error::Kernel(error)) if error.is_unsupported() => Ok(()),
            opened => {
                let mut masquerade = opened?;
                let done = work(&mut masquerade);
                masquerade.nft.leave();
                done
            }
        }
    }

    fn remove_owner(&mut self, owner: &str) -> Result<()> {
        for _ in 0..TRIES {
            let Some((changes, chains)) = self.removal(owner)? else { break };
            match self.nft.commit(&changes) {
                // Somebody else has just removed some of it: what is left is looked at again.
                Err(error) if error.is(Errno::ENOENT) => {}
                done => {
                    done?;
                    return self.remove_unused(chains);
                }
            }
        }
        Ok(())
    }

    /// What lacks of what all attachments share. What is there is not made again: where a
    /// transaction replaces rules, the kernel waits for all CPUs to forget the old ones when the socket
    /// is closed, some ten milliseconds.
    fn missing_frame(&mut self, networks: &[IpNetwork]) -> Result<Vec<Message>> {
        let names: Vec<_> = networks.iter().map(chain_name).collect();
        let chains = names.iter().map(|name| Chain { table: TABLE, name });
        let uses = self.nft.uses(&[POSTROUTING].into_iter().chain(chains).collect::<Vec<_>>())?;
        let missing = networks.iter().zip(uses.iter().skip(1)).filter(|(_, uses)| uses.is_none());
        let missing: Vec<_> = missing.map(|(network, _)| *network).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        // Each rule in the chain is a use of it.
        let has_rules = uses.first() == Some(&Some(RULES));
        Ok(if has_rules { subnets(&missing) } else { frame(&missing) })
    }

    fn remove_unused(&mut self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let names: Vec<_> = names.into_iter().collect();
        let chains: Vec<_> = names.iter().map(|name| Chain { table: TABLE, name }).collect();
        let uses = self.nft.uses(&chains)?;
        // Its own rule is one use; every container of the network that jumps there is another.
        let is_unused = |uses: Option<u32>| uses.is_some_and(|uses| uses <= 1);
        let unused = chains.iter().zip(uses).filter(|(_, uses)| is_unused(*uses));
        for (chain, _) in unused {
            match self.nft.commit(&[chain.delete()]) {
                // Somebody has just come, or the last one just left.
                Err(error) if !error.is(Errno::EBUSY) && !error.is_absent() => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What takes an owner's keys out of the maps, and the chains that they led to; nothing if
    /// there is no such owner.
    fn removal(&mut self, owner: &str) -> Result<Option<(Vec<Message>, HashSet<String>)>> {
        let name = format!("{OWNER}{owner}");
        let Some(keys) = self.nft.elements(&owned(&name))? else { return Ok(None) };
        let mut changes = Vec::new();
        let mut chains = HashSet::new();
        for address in keys.iter().filter_map(Element::address) {
            let address = address.to_canonical();
            let map = if address.is_ipv4() { SOURCES4 } else { SOURCES6 };
            // Somebody may have flushed the map: only what is there can be deleted.
            if let Some(element) = self.nft.element(&map, &Element::new(address))? {
                if let Some(Verdict::Jump(chain)) = &element.verdict {
                    chains.insert(chain.clone());
                }
                changes.extend(map.delete_elements(&[element]));
            }
        }
        changes.push(owned(&name).delete());
        Ok(Some((changes, chains)))
    }

    /// What removes the owners that stand in the way: this attachment itself, from an ADD that was
    /// killed, and others whose veth is gone. IPAM gave us the address, so nobody else has it.
    fn evict_dead(
        &mut self,
        attachment: &Attachment,
        networks: &[IpNetwork],
    ) -> Result<Vec<Message>> {
        let own = attachment.owner_key();
        let mut dead = HashSet::from([own.clone()]);
        for network in networks {
            let Some(found) = self.nft.element(&map_of(network), &Element::new(network.ip()))?
            else {
                continue;
            };
            let owner = owner_of(&found.comment);
            if owner != own && is_alive(&owner)? {
                return Err(Error::AddressHeld { address: *network, holder: found.comment });
            }
            dead.insert(owner);
        }
        let mut changes = Vec::new();
        for owner in dead {
            changes.extend(self.removal(&owner)?.map(|(changes, _)| changes).unwrap_or_default());
        }
        Ok(changes)
    }
}

/// Whether a veth of this owner is on the host.
fn is_alive(owner: &str) -> Result<bool> {
    Ok(Rtnl::open()?
        .links()?
        .iter()
        .any(|link| !link.alias.is_empty() && owner_of(&link.alias) == owner))
}

/// The owner's key behind a comment or an alias: those hold the triple in clear if it fits.
fn owner_of(text: &str) -> String {
    Attachment::parse_alias(text)
        .map_or_else(|| text.to_owned(), |attachment| attachment.owner_key())
}

/// The changes that are an attachment's own: its set with its keys, and the keys in the maps.
fn attach(attachment: &Attachment, networks: &[IpNetwork]) -> Vec<Message> {
    let name = format!("{OWNER}{}", attachment.owner_key());
    let set = owned(&name);
    let keys: Vec<_> =
        networks.iter().map(|network| Element::new(as_ipv6(network.ip()).into())).collect();
    let mut changes = vec![set.create(&attachment.label())];
    changes.extend(set.add_elements(&keys));
    for network in networks {
        changes.extend(map_of(network).add_elements(&[source(attachment, network)]));
    }
    changes
}

/// The changes that all attachments share. Each can be made again and again: rules are replaced
/// within the transaction.
fn frame(networks: &[IpNetwork]) -> Vec<Message> {
    let mut changes = base();
    changes.extend(subnets(networks));
    changes
}

/// The table, its maps, and the chain that looks at them.
fn base() -> Vec<Message> {
    let mut changes = vec![
        TABLE.add(),
        SOURCES4.add(""),
        SOURCES6.add(""),
        POSTROUTING.add_at(Hook::SourceNat),
        POSTROUTING.flush(),
        LEAVING.add(),
        LEAVING.flush(),
        LEAVING.append(&[Expression::Masquerade], ""),
    ];
    for (map, multicast, prefix) in
        [(SOURCES4, vec![224, 0, 0, 0], 4), (SOURCES6, [&[0xff], &[0; 15][..]].concat(), 8)]
    {
        let to_multicast = Expression::Matches {
            field: Field::Destination,
            network: multicast,
            prefix,
            negated: false,
        };
        let by_source = Expression::InSet { field: Field::Source, set: &map, negated: false };
        changes.push(POSTROUTING.append(
            &[Expression::Is(map.key), to_multicast, Expression::Act(Verdict::Return)],
            "",
        ));
        changes.push(POSTROUTING.append(&[Expression::Is(map.key), by_source], ""));
    }
    changes
}

/// The chains of these networks.
fn subnets(networks: &[IpNetwork]) -> Vec<Message> {
    let mut changes = Vec::new();
    for network in networks {
        let name = chain_name(network);
        let chain = Chain { table: TABLE, name: &name };
        let bytes = match network.network() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let leaves = Expression::Matches {
            field: Field::Destination,
            network: bytes,
            prefix: network.prefix(),
            negated: true,
        };
        changes.extend([chain.add(), chain.flush()]);
        let jump = Expression::Act(Verdict::Jump(LEAVING.name.to_owned()));
        changes.push(chain.append(&[Expression::Is(map_of(network).key), leaves, jump], ""));
    }
    changes
}

fn source(attachment: &Attachment, network: &IpNetwork) -> Element {
    Element::new(network.ip())
        .to(Verdict::Jump(chain_name(network)))
        .with_comment(attachment.label())
}

fn map_of(network: &IpNetwork) -> Set<'static> {
    if network.is_ipv4() { SOURCES4 } else { SOURCES6 }
}

fn owned(name: &str) -> Set<'_> {
    Set { table: TABLE, name, key: KeyType::Ipv6, kind: SetKind::Keys }
}

/// `nft` takes letters, digits and `/\_-.` in a name.
fn chain_name(network: &IpNetwork) -> String {
    format!("{SUBNET}{}/{}", network.network(), network.prefix()).replace(':', "-")
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
        IpAddr::V6(v6) => v6,
    }
}
