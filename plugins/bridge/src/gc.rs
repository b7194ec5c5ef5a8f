//! GC: removes what no valid attachment of this network owns.

use std::collections::HashSet;

use cni_conf::attachment::{Attachment, SALTS, alias_names_network, may_be_host_veth_of};
use cni_conf::conf::ValidAttachments;
use cni_conf::plugin::Upkeep;
use ipam::Ipam;
use kernel::Rtnl;
use kernel::link::Link;

use crate::error::{Error, Result};
use crate::host_end;
use crate::masquerade::Masquerade;

/// Removes the veths, masquerading and addresses of attachments that the runtime does not name.
/// Nothing is done when it names none at all, not even an empty list: then nothing is known.
pub(crate) fn gc(upkeep: &Upkeep) -> Result<()> {
    let ValidAttachments::Only(valid) = upkeep.conf.valid_attachments()? else { return Ok(()) };
    let network = &upkeep.conf.name;
    let valid: Vec<_> =
        valid.iter().filter_map(|(id, ifname)| Attachment::new(network, id, ifname).ok()).collect();
    let steps = [
        remove_veths(network, &valid),
        remove_masquerading(network, &valid),
        collect_addresses(upkeep),
    ];
    Error::all(steps.into_iter().filter_map(std::result::Result::err))
}

fn remove_veths(network: &str, valid: &[Attachment]) -> Result<()> {
    let mut host = Rtnl::open()?;
    let names: HashSet<_> =
        valid.iter().flat_map(|one| (0..SALTS).map(|salt| one.host_veth_name(salt))).collect();
    let aliases: HashSet<_> = valid.iter().map(Attachment::alias).collect();
    let is_garbage = |link: &Link| {
        // Another network may begin its names alike; its aliases tell it apart. A veth without an
        // alias is of an ADD that was killed, or is a valid one's in the making.
        let own = link.kind == "veth" && may_be_host_veth_of(&link.name, network);
        let named = alias_names_network(&link.alias, network) && !aliases.contains(&link.alias);
        own && (named || link.alias.is_empty() && !names.contains(&link.name))
    };
    let garbage: Vec<_> = host.links()?.into_iter().filter(is_garbage).collect();
    host_end::delete(&mut host, &garbage)
}

fn remove_masquerading(network: &str, valid: &[Attachment]) -> Result<()> {
    let valid: HashSet<_> = valid.iter().map(Attachment::owner_key).collect();
    Masquerade::collect(network, &valid)
}

fn collect_addresses(upkeep: &Upkeep) -> Result<()> {
    match Ipam::resolve(&upkeep.conf, &upkeep.env)? {
        Some(ipam) => Ok(ipam.gc(upkeep)?),
        None => Ok(()),
    }
}
