//! DEL: removes what the attachment owns, by its triple alone; also undoes an ADD that failed.

use std::path::Path;

use cni_conf::plugin::Call;
use plugin_interface::reference::{self, Kind};
use plugin_interface::{Masquerade, Result, host_end, removal};

/// Removes everything of the attachment.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let own = host_end::remove(&call.attachment);
    let links = own.and_then(|()| host_end::remove_unclaimed(call, netns));
    let leftovers = match links {
        Ok(of_reference) => {
            reference::remove(call, netns, of_reference, &[Kind::Masquerade, Kind::SpoofCheck])
        }
        // The container may still use them.
        Err(_) => Ok(()),
    };
    let others = [Masquerade::remove(&call.attachment), leftovers];
    removal::finish(call, netns, links.map(drop), others)
}

/// Removes what an ADD of ours made. An interface of the container that was not made by us is none
/// of its business.
pub(crate) fn undo(call: &Call, netns: Option<&Path>) -> Result<()> {
    let links = host_end::remove(&call.attachment);
    removal::finish(call, netns, links, [Masquerade::remove(&call.attachment)])
}
