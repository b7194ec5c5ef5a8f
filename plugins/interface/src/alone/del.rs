//! DEL: removes the interface, where there is a way to it, and gives the addresses back.

use std::path::Path;

use cni_conf::plugin::Call;

use super::Alone;
use crate::container_end::Container;
use crate::error::Result;
use crate::{addresses, removal};

/// Removes everything of the attachment. An interface in a namespace that is not named goes with
/// the namespace. One that another attachment owns stays: the path may have become another
/// container's; one without an alias is of an ADD that was killed, or of the reference plugin.
pub(super) fn del(kind: &str, call: &Call, netns: Option<&Path>) -> Result<()> {
    let link = remove(kind, call, netns);
    removal::finish(call, netns, link, [])
}

/// Removes what an ADD of ours made.
pub(super) fn undo<K: Alone>(call: &Call, netns: &Path) -> Result<()> {
    del(K::KIND, call, Some(netns))
}

/// Gives the addresses back of an ADD that could not make the interface.
pub(super) fn release(call: &Call, netns: &Path) -> Result<()> {
    addresses::release(call, Some(netns))
}

fn remove(kind: &str, call: &Call, netns: Option<&Path>) -> Result<()> {
    let Some(mut container) = Container::find(call, netns)? else { return Ok(()) };
    let found = container.rtnl.link_by_name(&call.attachment.ifname)?;
    let alias = call.attachment.alias();
    match found.filter(|link| link.kind == kind && [&alias, ""].contains(&link.alias.as_str())) {
        Some(own) => removal::of_link(container.rtnl, &own),
        None => Ok(()),
    }
}
