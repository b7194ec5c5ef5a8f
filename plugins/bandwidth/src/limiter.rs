//! The limiter: the link of kind `ifb` that sends what a container has sent, through a bucket. Its
//! name is the owner's mark from its first instant, its alias tells who it is in clear; as with the
//! host's ends of veths.

use std::collections::HashSet;

use cni_conf::attachment::{Attachment, SALTS, may_be_limiter_of};
use kernel::Rtnl;
use kernel::link::{self, Kind, Link, NewLink};
use kernel::traffic::TokenBucket;
use nix::errno::Errno;
use plugin_interface::{Error, Result, Valid, host_end};

/// Makes the attachment's limiter anew.
///
/// # Errors
/// Other attachments have all its names, or the kernel refuses.
pub(crate) fn make(
    host: &mut Rtnl,
    attachment: &Attachment,
    bucket: &TokenBucket,
    mtu: u32,
) -> Result<Link> {
    let name = free_name(host, attachment)?;
    let kind = Kind::Ifb;
    let new = NewLink {
        name: &name,
        kind,
        namespace: None,
        lower: None,
        mac: None,
        mtu: Some(mtu),
        up: true,
    };
    host.request(&new.create()).map_err(|error| match error {
        error if error.is(Errno::EOPNOTSUPP) => {
            Error::UnknownKind { kind: kind.name(), feature: kind.feature(), source: error }
        }
        error => error.into(),
    })?;
    let vanished = || Error::Vanished { thing: format!("limiter {name:?}") };
    let made = host.link_by_name(&name)?.ok_or_else(vanished)?;
    host.request_all(&[
        link::set_alias(made.index, &attachment.alias()),
        bucket.replace_root(made.index),
    ])?;
    Ok(made)
}

/// The limiters that the attachment owns: at most one, unless an ADD was killed.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn find(host: &mut Rtnl, attachment: &Attachment) -> Result<Vec<Link>> {
    Ok(look(host, attachment)?.0)
}

/// Removes the limiters of the network's attachments that are not valid any more.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn collect(valid: &Valid<'_>) -> Result<()> {
    let mut host = Rtnl::open()?;
    let alive: HashSet<_> = valid.attachments.iter().flat_map(names).collect();
    let is_garbage = |link: &Link| {
        let own = link.kind == Kind::Ifb.name() && may_be_limiter_of(&link.name, valid.network);
        let unnamed = link.alias.is_empty() && !alive.contains(&link.name);
        own && (valid.is_garbage(&link.alias) || unnamed)
    };
    let garbage: Vec<_> = host.links()?.into_iter().filter(is_garbage).collect();
    host_end::delete(&mut host, &garbage)
}

/// Removes what the attachment owns and returns the first of its names that nobody has.
fn free_name(host: &mut Rtnl, attachment: &Attachment) -> Result<String> {
    let (own, foreign) = look(host, attachment)?;
    host_end::delete(host, &own)?;
    names(attachment)
        .find(|name| !foreign.contains(name))
        .ok_or_else(|| Error::NoFreeName { alias: attachment.alias(), tried: foreign.join(", ") })
}

/// The links under the attachment's names: its own, and the names of others'.
fn look(host: &mut Rtnl, attachment: &Attachment) -> Result<(Vec<Link>, Vec<String>)> {
    let names: Vec<_> = names(attachment).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let alias = attachment.alias();
    let is_own = |link: &Link| {
        link.kind == Kind::Ifb.name() && (link.alias == alias || link.alias.is_empty())
    };
    let found = host.links_by_name(&names)?.into_iter().flatten();
    let (own, foreign): (Vec<_>, Vec<_>) = found.partition(is_own);
    Ok((own, foreign.into_iter().map(|link| link.name).collect()))
}

fn names(attachment: &Attachment) -> impl Iterator<Item = String> {
    (0..SALTS).map(|salt| attachment.limiter_name(salt))
}
