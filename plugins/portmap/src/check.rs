//! CHECK: whether the ports still lead to the container.

use cni_conf::plugin::Call;
use plugin_interface::check::demand;
use plugin_interface::{Previous, Result};

use crate::add::wanted;
use crate::conf::Conf;
use crate::ports::Ports;

/// Compares the kernel with what ADD would make.
pub(crate) fn check(call: &Call) -> Result<()> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let Some(wanted) = wanted(call, &conf, &previous)? else { return Ok(()) };
    let difference = Ports::open()?.difference(&wanted)?;
    demand(difference.is_none(), || difference.clone().unwrap_or_default())
}
