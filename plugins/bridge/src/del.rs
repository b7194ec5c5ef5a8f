//! DEL: removes what the attachment owns, wherever it is, by its triple alone.

use std::path::Path;

use cni_conf::plugin::Call;
use ipam::Ipam;
use kernel::{Rtnl, link};

use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::host_end;
use crate::masquerade::Masquerade;

/// Removes link, masquerading and addresses. Each is tried, whatever became of the others; the
/// address is released last, so that nobody gets it while the container still uses it.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let steps = [
        remove_veth(call),
        netns.map_or(Ok(()), |netns| remove_from_container(call, netns)),
        Masquerade::open().and_then(|mut masquerade| masquerade.remove(&call.attachment)),
        release(call, netns),
    ];
    Error::all(steps.into_iter().filter_map(std::result::Result::err))
}

fn remove_veth(call: &Call) -> Result<()> {
    let mut host = Rtnl::open()?;
    let own = host_end::find(&mut host, &call.attachment)?;
    host_end::delete(&mut host, &own)
}

/// A veth that the reference plugin made has a name of its own on the host: it is removed from the
/// container's side, where the attachment names it. A namespace that is gone has nothing left, and
/// one that is the host's own, or none, is not the container's.
fn remove_from_container(call: &Call, netns: &Path) -> Result<()> {
    let mut container = match Container::open(call, netns) {
        Err(Error::Netns(error)) if error.is_no_container() => return Ok(()),
        opened => opened?,
    };
    match container.rtnl.link_by_name(&call.attachment.ifname)? {
        Some(found) if found.kind == "veth" => {
            match container.rtnl.request(&link::delete(found.index)) {
                Err(error) if !error.is_absent() => Err(error.into()),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn release(call: &Call, netns: Option<&Path>) -> Result<()> {
    match Ipam::resolve(&call.conf, &call.env)? {
        Some(ipam) => Ok(ipam.del(call, netns)?),
        None => Ok(()),
    }
}
