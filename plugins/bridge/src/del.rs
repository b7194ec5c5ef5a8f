//! DEL: removes what the attachment owns, by its triple alone; also undoes an ADD that failed.

use std::path::Path;

use cni_conf::plugin::Call;
use plugin_interface::reference::Kind;
use plugin_interface::{Masquerade, Result, host_end, removal};

use crate::bridge;
use crate::spoof::SpoofCheck;

/// Removes everything of the attachment.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let kinds = [Kind::Masquerade, Kind::SpoofCheck];
    let (links, leftovers) = removal::of_veths(call, netns, &kinds);
    removal::finish(call, netns, links, others(call).into_iter().chain([leftovers]))
}

/// Removes what an ADD of ours made. An interface of the container that was not made by us is none
/// of its business.
pub(crate) fn undo(call: &Call, netns: Option<&Path>) -> Result<()> {
    let links = host_end::remove(&call.attachment);
    removal::finish(call, netns, links, others(call))
}

/// What there is besides the links, which must be gone: the last of them leaves the bridge empty. The
/// rarer filter is first: to close its socket costs nothing before the other one has changed anything.
fn others(call: &Call) -> [Result<()>; 3] {
    [
        SpoofCheck::remove(&call.attachment),
        Masquerade::remove(&call.attachment),
        bridge::remove_if_empty(&call.conf),
    ]
}
