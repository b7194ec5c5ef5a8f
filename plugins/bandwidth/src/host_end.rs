//! The host's end of a container's veth, whoever made it.

use std::path::Path;

use cni_conf::error::{CniError, Code};
use cni_conf::plugin::Call;
use kernel::Rtnl;
use kernel::link::Link;
use plugin_interface::{Container, Error, Result, host_end};

/// An interface that has no end on the host.
#[derive(Debug, thiserror::Error)]
#[error(
    "container interface {ifname} has no veth peer on the host (it is a {kind:?}); only veths, as of bridge and ptp, can be limited"
)]
struct NoVeth {
    ifname: String,
    kind: String,
}

impl From<NoVeth> for Error {
    fn from(error: NoVeth) -> Error {
        Error::Cni(CniError::explained(Code::InvalidConfig, &error.to_string()))
    }
}

/// The other end of the container's interface.
///
/// # Errors
/// There is no interface, or it has none.
pub(crate) fn of_container(host: &mut Rtnl, call: &Call, netns: &Path) -> Result<Link> {
    let mut container = Container::open(call, netns)?;
    let inside = container.interface(&call.attachment.ifname, netns)?;
    let no_veth = || NoVeth { ifname: inside.name.clone(), kind: inside.kind.clone() };
    let peer = inside.peer.filter(|_| inside.kind == "veth").ok_or_else(no_veth)?;
    let found = host.link_by_index(peer)?;
    let is_peer = |link: &Link| link.kind == "veth" && link.peer == Some(inside.index);
    Ok(found.filter(is_peer).ok_or_else(no_veth)?)
}

/// The same for DEL, if it is still there: by the triple, or for a veth of the reference's by the
/// container's side.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn find(host: &mut Rtnl, call: &Call, netns: Option<&Path>) -> Result<Option<Link>> {
    if let Some(own) = host_end::find(host, &call.attachment)?.pop() {
        return Ok(Some(own));
    }
    let Some(mut container) = Container::find(call, netns)? else { return Ok(None) };
    match container.rtnl.link_by_name(&call.attachment.ifname)? {
        Some(inside) => host_end::find_unclaimed(host, &inside),
        None => Ok(None),
    }
}
