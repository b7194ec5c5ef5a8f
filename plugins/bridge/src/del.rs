//! DEL: removes what the attachment owns, by its triple alone; also undoes an ADD that failed.

use std::path::Path;

use cni_conf::plugin::Call;
use ipam::Ipam;
use kernel::Rtnl;
use kernel::link::{self, Link};

use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::host_end;
use crate::masquerade::Masquerade;

/// Removes everything of the attachment.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let own = remove_veth(call);
    let links = own.and_then(|()| netns.map_or(Ok(()), |netns| remove_from_container(call, netns)));
    remove_all_but_links(call, netns, links)
}

/// Removes what an ADD of ours made. An interface of the container that was not made by us is none
/// of its business.
pub(crate) fn undo(call: &Call, netns: Option<&Path>) -> Result<()> {
    remove_all_but_links(call, netns, remove_veth(call))
}

/// Each step is tried, whatever became of the others; but the addresses are released last, and
/// only if the links are gone: nobody may get them while the container still uses them.
fn remove_all_but_links(call: &Call, netns: Option<&Path>, links: Result<()>) -> Result<()> {
    let masquerading = Masquerade::remove(&call.attachment);
    let addresses = if links.is_ok() { release(call, netns) } else { Ok(()) };
    let steps = [links, masquerading, addresses];
    Error::all(steps.into_iter().filter_map(std::result::Result::err))
}

fn remove_veth(call: &Call) -> Result<()> {
    let mut host = Rtnl::open()?;
    let own = host_end::find(&mut host, &call.attachment)?;
    host_end::delete(&mut host, &own)
}

/// A veth that the reference plugin made has a name of its own on the host: it is removed from the
/// container's side, where the attachment names it. A namespace that is gone has nothing left, and
/// one that is the host's own, or none, is not the container's. What another attachment owns stays:
/// the path may have become another container's, or the name another network's.
fn remove_from_container(call: &Call, netns: &Path) -> Result<()> {
    let mut container = match Container::open(call, netns) {
        Err(Error::Netns(error)) if error.is_no_container() => return Ok(()),
        opened => opened?,
    };
    let found = container.rtnl.link_by_name(&call.attachment.ifname)?;
    match found.filter(|link| link.kind == "veth") {
        Some(found) if is_unclaimed(&found)? => {
            match container.rtnl.request(&link::delete(found.index)) {
                Err(error) if !error.is_absent() => Err(error.into()),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether no attachment has written its name on the other end of this link, which is on the host.
fn is_unclaimed(link: &Link) -> Result<bool> {
    let Some(peer) = link.peer else { return Ok(false) };
    let peer = Rtnl::open()?.link_by_index(peer)?;
    Ok(peer.is_some_and(|peer| peer.kind == "veth" && peer.alias.is_empty()))
}

fn release(call: &Call, netns: Option<&Path>) -> Result<()> {
    match Ipam::resolve(&call.conf, &call.env)? {
        Some(ipam) => Ok(ipam.del(call, netns)?),
        None => Ok(()),
    }
}
