//! DEL: removes what the attachment owns, by its triple alone; also undoes an ADD that failed.

use std::path::Path;

use cni_conf::plugin::Call;
use plugin_interface::reference::Kind;
use plugin_interface::{Masquerade, Result, host_end, removal};

/// Removes everything of the attachment.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let kinds = [Kind::Masquerade, Kind::SpoofCheck];
    let (links, leftovers) = removal::of_veths(call, netns, &kinds);
    removal::finish(call, netns, links, [Masquerade::remove(&call.attachment), leftovers])
}

/// Removes what an ADD of ours made. An interface of the container that was not made by us is none
/// of its business.
pub(crate) fn undo(call: &Call, netns: Option<&Path>) -> Result<()> {
    let links = host_end::remove(&call.attachment);
    removal::finish(call, netns, links, [Masquerade::remove(&call.attachment)])
}
