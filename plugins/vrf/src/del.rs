//! DEL: takes the interface out of the VRF, and removes a VRF that nobody is left in. What the
//! interface loses by that it needs no more: whoever made it removes it next.

use std::path::Path;

use cni_conf::plugin::Call;
use plugin_interface::{Container, Result};

use crate::conf::Conf;
use crate::table;

/// Removes what ADD made, also if that was killed.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    // Keys with which no ADD did anything.
    let Ok(conf) = Conf::parse(&call.conf) else { return Ok(()) };
    let Some(mut container) = Container::find(call, netns)? else { return Ok(()) };
    let found = container.rtnl.link_by_name(&conf.name)?;
    let Some(vrf) = found.filter(|vrf| table::of(vrf).is_some()) else { return Ok(()) };
    let interface = container.rtnl.link_by_name(&call.attachment.ifname)?;
    if let Some(port) = interface.filter(|port| port.master == Some(vrf.index)) {
        table::release(&mut container.rtnl, port.index)?;
    }
    table::remove_if_empty(container.rtnl, &vrf)
}
