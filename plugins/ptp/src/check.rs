//! CHECK: whether everything that ADD made is still there, and as it was made.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::Rtnl;
use kernel::link::Link;
use plugin_interface::check::{self, Expected, demand};
use plugin_interface::{Container, Inside, Result};

use crate::conf::Conf;
use crate::plan::{gateways, host_routes};

/// Compares the kernel with the result of ADD.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let expected = Expected::of(call, netns)?;
    let mut host = Rtnl::open()?;
    let mut container = Container::open(call, netns)?;
    let host_end = check::host_end(&mut host, &mut container, call)?;
    check_host_end(&mut host, &host_end, &expected)?;
    let link = check::container_end(&mut container, netns, &expected, Some(&host_end))?;
    let inside = Inside { ips: expected.ips.clone(), behind_gateways: true, ..Inside::default() };
    check::has_routes(&mut container.rtnl, "the container", &inside.kernel_routes(link.index))?;
    check::forwarding(&expected.ips)?;
    if conf.masquerade {
        check::masquerading(&call.attachment, &expected.ips, &host_end)?;
    }
    Ok(())
}

fn check_host_end(host: &mut Rtnl, host_end: &Link, expected: &Expected) -> Result<()> {
    let name = &host_end.name;
    let present = host.addresses(host_end.index)?;
    for gateway in gateways(&expected.ips) {
        demand(present.iter().any(|address| address.address == gateway), || {
            format!("{name:?} has lost the gateway address {gateway}")
        })?;
    }
    check::has_routes(host, "the host", &host_routes(&expected.ips, host_end.index))
}
