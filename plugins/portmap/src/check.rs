//! CHECK: whether the ports still lead to the container.

use cni_conf::plugin::Call;
use plugin_interface::check::demand;
use plugin_interface::{Previous, Result};

use crate::add::wanted;
use crate::conf::Conf;
use crate::ports::Ports;
use crate::reference;

/// Compares the kernel with what ADD would make.
pub(crate) fn check(call: &Call) -> Result<()> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let Some(wanted) = wanted(call, &conf, &previous)? else { return Ok(()) };
    let mut ports = Ports::open()?;
    let Some(difference) = ports.difference(&wanted)? else { return Ok(()) };
    let by_reference =
        !ports.owns(&call.attachment)? && reference::serves(&call.attachment, &wanted.mappings)?;
    demand(by_reference, || difference)
}
