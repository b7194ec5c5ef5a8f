//! The host's end of the veth: how it is named, found and removed by the attachment alone.
//!
//! The name is the owner's mark from the veth's first instant, the alias tells who it is in clear.
//! An alias cannot be given at creation, so an ADD killed at the wrong moment leaves a veth with
//! our name and no alias: that is ours, too.

use cni_conf::attachment::{Attachment, SALTS};
use kernel::Rtnl;
use kernel::link::{self, Link};
use kernel::netlink::Error as KernelError;

use crate::error::{Error, Result};

/// The links that the attachment owns: at most one, unless an ADD was killed.
pub(crate) fn find(host: &mut Rtnl, attachment: &Attachment) -> Result<Vec<Link>> {
    let (own, _) = look(host, attachment)?;
    Ok(own)
}

/// Removes what the attachment owns and returns the first of its names that nobody has.
///
/// # Errors
/// Other attachments have all the names.
pub(crate) fn free_name(host: &mut Rtnl, attachment: &Attachment) -> Result<String> {
    let (own, foreign) = look(host, attachment)?;
    delete(host, &own)?;
    let mut names = names(attachment).into_iter();
    names
        .find(|name| !foreign.contains(name))
        .ok_or_else(|| Error::NoFreeName { alias: attachment.alias(), tried: foreign.join(", ") })
}

/// Removes links; one that is gone already is no error.
pub(crate) fn delete(host: &mut Rtnl, links: &[Link]) -> Result<()> {
    let requests: Vec<_> = links.iter().map(|link| link::delete(link.index)).collect();
    let failed = |answer: std::result::Result<(), KernelError>| {
        answer.err().filter(|error| !error.is_absent())
    };
    match host.batch(&requests)?.into_iter().find_map(failed) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// The links under the attachment's names: its own, and the names of others'.
fn look(host: &mut Rtnl, attachment: &Attachment) -> Result<(Vec<Link>, Vec<String>)> {
    let names = names(attachment);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = host.links_by_name(&names)?.into_iter().flatten();
    let alias = attachment.alias();
    let is_own =
        |link: &Link| link.kind == "veth" && (link.alias == alias || link.alias.is_empty());
    let (own, foreign): (Vec<_>, Vec<_>) = found.partition(is_own);
    Ok((own, foreign.into_iter().map(|link| link.name).collect()))
}

fn names(attachment: &Attachment) -> Vec<String> {
    (0..SALTS).map(|salt| attachment.host_veth_name(salt)).collect()
}
