//! CHECK: whether everything is as it was tuned.

use std::path::Path;

use cni_conf::plugin::Call;
use plugin_interface::check::demand;
use plugin_interface::{Container, Error, Previous, Result};

use crate::conf::Conf;
use crate::sysctls;

/// Compares the container with the configuration.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let ifname = &call.attachment.ifname;
    let conf = Conf::parse(&call.conf, &call.env.args, ifname)?;
    Previous::of(call)?;
    let mut container = Container::open(call, netns)?;
    let gone = || Error::Different(format!("interface {ifname:?} is gone from {netns:?}"));
    let link = container.rtnl.link_by_name(ifname)?.ok_or_else(gone)?;
    let sysctls = container.netns.run(|| sysctls::difference(&conf.sysctls))??;
    let difference = sysctls.or_else(|| conf.link.difference(&link));
    demand(difference.is_none(), || difference.unwrap_or_default())
}
