//! What the Go plugin made for an attachment, so that a node can be switched in place: a DEL of ours
//! ends what an ADD of its began.
//!
//! Its rules are found by the names and comments that it derives from network and container
//! ([`names`]), wherever it has put them: [`iptables_nft`], [`iptables_legacy`], [`nftables`]. An
//! attachment that has nothing of all this costs one datagram.
//!
//! None of its names tells the interface. So what leads to an address that another interface of the
//! container still has stays ([`chain`]).

mod chain;
mod iptables_legacy;
mod iptables_nft;
mod names;
mod nftables;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use kernel::nft::{Family, Nft};
use plugin_interface::reference::LegacyTable;
use plugin_interface::{Container, Error, Result, Valid};

use crate::mapping::Mapping;

const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// Removes what it made for the attachment.
pub(crate) fn remove(call: &Call, netns: Option<&Path>) -> Result<()> {
    let Attachment { network, container_id, .. } = &call.attachment;
    let owner = (network.as_str(), container_id.as_str());
    let of_nft = remove_from_nft(call, netns);
    let of_legacy = legacy_tables()
        .map(|table| iptables_legacy::remove(&table, owner, || addresses_in_use(call, netns)));
    Error::all([of_nft].into_iter().chain(of_legacy))
}

/// Removes what it made with either iptables for containers of the network of which no attachment is
/// valid. Its rules in nftables do not name the network.
pub(crate) fn collect(valid: &Valid<'_>) -> Result<()> {
    let of_nft = open().and_then(|nft| nft.map_or(Ok(()), |nft| collect_in_nft(nft, valid)));
    let of_legacy = legacy_tables().flat_map(|table| {
        let stale = stale(&iptables_legacy::comments(&table), valid).into_iter();
        let owners =
            stale.map(|id| iptables_legacy::remove(&table, (valid.network, &id), Vec::new));
        owners.collect::<Vec<_>>()
    });
    Error::all([of_nft].into_iter().chain(of_legacy))
}

/// Whether it makes all of these ports lead where they should.
pub(crate) fn serves(attachment: &Attachment, mappings: &[Mapping]) -> Result<bool> {
    let families = FAMILIES.into_iter().map(|family| {
        let is_of = |mapping: &&Mapping| mapping.place.ipv6 == (family == Family::Ip6);
        let own: Vec<_> = mappings.iter().filter(is_of).copied().collect();
        Ok(own.is_empty() || serves_in(family, attachment, &own)?)
    });
    families.collect::<Result<Vec<_>>>().map(|served| served.iter().all(|served| *served))
}

fn serves_in(family: Family, attachment: &Attachment, mappings: &[Mapping]) -> Result<bool> {
    let Attachment { network, container_id, .. } = attachment;
    if let Some(mut nft) = open()? {
        let shared = iptables_nft::look(&mut nft, family, network, container_id)?;
        let rules = nft.rules_of(&nftables::host_ports(family))?;
        let comment = names::nftables_comment(attachment);
        let leads = |it: &Mapping| {
            shared.leads_to(it.place.protocol, it.place.port, it.target)
                || nftables::leads(&rules, comment, it)
        };
        if mappings.iter().all(leads) {
            return Ok(true);
        }
    }
    let Some(table) = LegacyTable::of_family(family, "nat")? else { return Ok(false) };
    let shared = iptables_legacy::look(&table, network, container_id);
    let leads = |it: &Mapping| shared.leads_to(it.place.protocol, it.place.port, it.target);
    Ok(mappings.iter().all(leads))
}

fn remove_from_nft(call: &Call, netns: Option<&Path>) -> Result<()> {
    let Attachment { network, container_id, .. } = &call.attachment;
    let Some(mut nft) = open()? else { return Ok(()) };
    let name = names::chain(network, container_id);
    let chains = FAMILIES.map(|it| [iptables_nft::chain(it, &name), nftables::host_ports(it)]);
    let there = nft.exist(chains.as_flattened())?;
    if !there.contains(&true) {
        return Ok(());
    }
    let in_use = addresses_in_use(call, netns);
    let mut steps = Vec::new();
    for (family, there) in FAMILIES.into_iter().zip(there.chunks(2)) {
        if there.first() == Some(&true) {
            steps.push(iptables_nft::remove(&mut nft, family, (network, container_id), &in_use));
        }
        if there.last() == Some(&true) {
            let comment = names::nftables_comment(&call.attachment);
            steps.push(nftables::remove(&mut nft, family, comment, &in_use));
        }
    }
    Error::all(steps)
}

fn collect_in_nft(mut nft: Nft, valid: &Valid<'_>) -> Result<()> {
    let mut steps = Vec::new();
    for family in FAMILIES {
        for id in stale(&iptables_nft::comments(&mut nft, family)?, valid) {
            steps.push(iptables_nft::remove(&mut nft, family, (valid.network, &id), &[]));
        }
    }
    Error::all(steps)
}

/// The containers of the network that these comments name, but those with a valid attachment.
fn stale(comments: &[String], valid: &Valid<'_>) -> BTreeSet<String> {
    let named = comments.iter().filter_map(|it| names::container_of(it, valid.network));
    let is_valid = |id: &str| valid.attachments.iter().any(|one| one.container_id == id);
    named.filter(|id| !is_valid(id)).map(str::to_owned).collect()
}

/// The addresses of the container's other interfaces. The attachment's own is still there, since
/// DEL goes through the plugins from the last to the first.
fn addresses_in_use(call: &Call, netns: Option<&Path>) -> Vec<IpAddr> {
    // What cannot be looked into has no other interfaces that anybody could name.
    let Ok(Some(mut container)) = Container::find(call, netns) else { return Vec::new() };
    let own = container.rtnl.link_by_name(&call.attachment.ifname).ok().flatten();
    let own = own.map(|link| link.index);
    let found = container.rtnl.addresses(0).unwrap_or_default().into_iter();
    found.filter(|it| Some(it.link) != own).map(|it| it.address.ip()).collect()
}

/// The tables of `iptables-legacy` that are loaded. Where its program is not there, or fails, it
/// cannot be known whether there is anything, and a DEL that fails for ever would be worse.
fn legacy_tables() -> impl Iterator<Item = LegacyTable> {
    FAMILIES.into_iter().filter_map(|family| LegacyTable::of_family(family, "nat").ok().flatten())
}

/// A socket, unless this kernel has no nf_tables and so no rules in them.
fn open() -> Result<Option<Nft>> {
    match Nft::open() {
        Err(error) if error.is_unsupported() => Ok(None),
        opened => Ok(Some(opened?)),
    }
}
