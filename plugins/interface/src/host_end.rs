//! The host's end of a veth: how it is made, named, found and removed by the attachment alone.
//!
//! The name is the owner's mark from the veth's first instant, the alias tells who it is in clear.
//! An alias cannot be given at creation, so an ADD killed at the wrong moment leaves a veth with
//! our name and no alias: that is ours, too.

use std::collections::HashSet;
use std::path::Path;

use cni_conf::attachment::{Attachment, may_be_host_veth_of};
use cni_conf::plugin::Call;
use kernel::link::{self, Link, Veth, VethPeer};
use kernel::netlink::{Error as KernelError, Message};
use kernel::{MacAddress, NetNs, Rtnl};

use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::valid::Valid;
use crate::{mac, removal};

/// A veth pair to be made, beyond what follows from the attachment.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The container's namespace.
    pub container: &'a NetNs,
    /// The MAC of the container's end.
    pub container_mac: MacAddress,
    /// The link that the host's end becomes a port of.
    pub master: Option<u32>,
    /// The MTU of both ends; the kernel's default if none is given.
    pub mtu: Option<u32>,
}

/// What is on the host under the attachment's names.
#[derive(Debug)]
pub struct Names {
    /// The first name that nobody else has.
    free: String,
    /// The attachment's own links, from an ADD that was killed.
    leftovers: Vec<Link>,
}

impl Names {
    /// Looks at the names, and for what the plugin itself needs at links of other names, which come
    /// back in their order.
    ///
    /// # Errors
    /// Other attachments have all the names, or the kernel refuses.
    pub fn look(
        host: &mut Rtnl,
        attachment: &Attachment,
        others: &[&str],
    ) -> Result<(Self, Vec<Option<Link>>)> {
        let Found { names, own, foreign, others } = look(host, attachment, others)?;
        let free = names.into_iter().find(|name| !foreign.contains(name));
        let none = || Error::NoFreeName { alias: attachment.alias(), tried: foreign.join(", ") };
        Ok((Names { free: free.ok_or_else(none)?, leftovers: own }, others))
    }
}

/// Makes the pair in one request, the container's end directly in its namespace, in the place of
/// what an ADD that was killed has left. It is to be marked by [`mark`] next.
///
/// # Errors
/// The name was taken meanwhile, or the kernel refuses.
pub fn make(
    host: &mut Rtnl,
    attachment: &Attachment,
    names: &Names,
    pair: &Pair<'_>,
) -> Result<Link> {
    delete(host, &names.leftovers)?;
    let veth = Veth {
        name: &names.free,
        mac: mac::of_host_end(attachment),
        master: pair.master,
        mtu: pair.mtu,
        peer: VethPeer {
            namespace: pair.container,
            name: &attachment.ifname,
            mac: Some(pair.container_mac),
        },
    };
    let made = host.make_veth(&veth)?;
    made.ok_or_else(|| Error::Vanished { thing: format!("veth {:?}", names.free) })
}

/// Writes on the host's end in clear whose it is.
pub fn mark(made: &Link, attachment: &Attachment) -> Message {
    link::set_alias(made.index, &attachment.alias())
}

/// The links that the attachment owns: at most one, unless an ADD was killed.
///
/// # Errors
/// The links cannot be read.
pub fn find(host: &mut Rtnl, attachment: &Attachment) -> Result<Vec<Link>> {
    Ok(look(host, attachment, &[])?.own)
}

/// Removes what the attachment owns on the host; the container's end goes with it.
///
/// # Errors
/// The kernel refuses, or does not tell in time that it is gone.
pub fn remove(attachment: &Attachment) -> Result<()> {
    let mut host = Rtnl::open()?;
    match &find(&mut host, attachment)?[..] {
        [own] => removal::of_link(host, own),
        all => delete(&mut host, all),
    }
}

/// A veth that the reference plugin made has a name of its own on the host: it is removed from the
/// container's side, where the attachment names it. What another attachment owns stays: the path
/// may have become another container's, or the name another network's. Tells whether there was one.
///
/// # Errors
/// The kernel refuses, or it cannot be told what is at the path.
pub fn remove_unclaimed(call: &Call, netns: Option<&Path>) -> Result<bool> {
    let Some(mut container) = Container::find(call, netns)? else { return Ok(false) };
    let found = container.rtnl.link_by_name(&call.attachment.ifname)?;
    match found.filter(|link| link.kind == "veth") {
        Some(found) if is_unclaimed(&found)? => {
            removal::of_link(container.rtnl, &found)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The other end of the container's interface, if no attachment has written its name on it: the
/// reference plugin's.
///
/// # Errors
/// The kernel refuses.
pub fn find_unclaimed(host: &mut Rtnl, inside: &Link) -> Result<Option<Link>> {
    let Some(peer) = inside.peer.filter(|_| inside.kind == "veth") else { return Ok(None) };
    let found = host.link_by_index(peer)?;
    Ok(found.filter(|link| {
        link.kind == "veth" && link.alias.is_empty() && link.peer == Some(inside.index)
    }))
}

/// Removes the veths of the network's attachments that are not valid any more.
///
/// # Errors
/// The kernel refuses.
pub fn collect(valid: &Valid<'_>) -> Result<()> {
    let mut host = Rtnl::open()?;
    let names: HashSet<_> =
        valid.attachments.iter().flat_map(Attachment::host_veth_names).collect();
    let is_garbage = |link: &Link| {
        // Another network may begin its names alike; its aliases tell it apart. A veth without an
        // alias is of an ADD that was killed, or is a valid one's in the making.
        let own = link.kind == "veth" && may_be_host_veth_of(&link.name, valid.network);
        let unnamed = link.alias.is_empty() && !names.contains(&link.name);
        own && (valid.is_garbage(&link.alias) || unnamed)
    };
    let garbage: Vec<_> = host.links()?.into_iter().filter(is_garbage).collect();
    delete(&mut host, &garbage)
}

/// Removes links, and waits until the kernel has forgotten them; one that is gone already is no
/// error.
///
/// # Errors
/// The kernel refuses one of them. The others have been tried all the same.
pub fn delete(rtnl: &mut Rtnl, links: &[Link]) -> Result<()> {
    let requests: Vec<_> = links.iter().map(|link| link::delete(link.index)).collect();
    let failed = |answer: std::result::Result<(), KernelError>| {
        answer.err().filter(|error| !error.is_absent())
    };
    match rtnl.batch(&requests)?.into_iter().find_map(failed) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Links under the attachment's names, and others.
struct Found {
    /// The attachment's names.
    names: Vec<String>,
    /// The attachment's own.
    own: Vec<Link>,
    /// The names that other attachments have.
    foreign: Vec<String>,
    /// The others that were asked for.
    others: Vec<Option<Link>>,
}

fn look(host: &mut Rtnl, attachment: &Attachment, others: &[&str]) -> Result<Found> {
    let names = attachment.host_veth_names();
    let asked: Vec<&str> = names.iter().map(String::as_str).chain(others.iter().copied()).collect();
    let mut found = host.links_by_name(&asked)?;
    let others = found.split_off(names.len());
    let alias = attachment.alias();
    let is_own =
        |link: &Link| link.kind == "veth" && (link.alias == alias || link.alias.is_empty());
    let (own, foreign): (Vec<_>, Vec<_>) = found.into_iter().flatten().partition(is_own);
    let foreign = foreign.into_iter().map(|link| link.name).collect();
    Ok(Found { names, own, foreign, others })
}

/// Whether no attachment has written its name on the other end of this link, which is on the host.
fn is_unclaimed(link: &Link) -> Result<bool> {
    let Some(peer) = link.peer else { return Ok(false) };
    let peer = Rtnl::open()?.link_by_index(peer)?;
    Ok(peer.is_some_and(|peer| peer.kind == "veth" && peer.alias.is_empty()))
}
