//! GC: removes what no valid attachment of this network owns.

use cni_conf::plugin::Upkeep;
use plugin_interface::{Error, Masquerade, Result, Valid, addresses, host_end, reference};

use crate::bridge;
use crate::spoof::SpoofCheck;

/// Removes the veths, masquerading and addresses of attachments that the runtime does not name.
pub(crate) fn gc(upkeep: &Upkeep) -> Result<()> {
    let Some(valid) = Valid::of(upkeep)? else { return Ok(()) };
    Error::all([
        host_end::collect(&valid),
        Masquerade::collect(&valid),
        reference::collect(&valid),
        SpoofCheck::collect(&valid),
        bridge::remove_if_empty(&upkeep.conf),
        addresses::collect(upkeep),
    ])
}
