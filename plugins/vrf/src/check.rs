//! CHECK: whether the interface is in the VRF, and what the plugins before this one gave it, too.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::link::Link;
use kernel::route::TABLE_MAIN;
use plugin_interface::check::demand;
use plugin_interface::inside::table_of;
use plugin_interface::{Container, Error, Previous, Result};

use crate::conf::Conf;
use crate::table;

/// Compares the kernel with the result of ADD.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let mut container = Container::open(call, netns)?;
    let ifname = &call.attachment.ifname;
    let interface = there(&mut container, ifname)?;
    let vrf = there(&mut container, &conf.name)?;
    let table = table::of(&vrf)
        .ok_or_else(|| Error::Different(format!("{:?} is a {:?}, no VRF", vrf.name, vrf.kind)))?;
    demand(conf.table.is_none_or(|wanted| wanted == table), || {
        format!("VRF {:?} has the table {table}, not {:?}", vrf.name, conf.table)
    })?;
    demand(vrf.is_up(), || format!("VRF {:?} is down", vrf.name))?;
    demand(interface.master == Some(vrf.index), || {
        format!("failed to find {ifname} associated to vrf {}", vrf.name)
    })?;
    check_addresses(&mut container, &interface, &previous)?;
    check_routes(&mut container, &previous, table)
}

fn there(container: &mut Container, name: &str) -> Result<Link> {
    let found = container.rtnl.link_by_name(name)?;
    found.ok_or_else(|| Error::Different(format!("link {name:?} is gone from the container")))
}

fn check_addresses(container: &mut Container, interface: &Link, previous: &Previous) -> Result<()> {
    let present = container.rtnl.addresses(interface.index)?;
    for wanted in previous.addresses() {
        demand(present.iter().any(|own| own.address == wanted), || {
            format!("{:?} has lost the address {wanted}", interface.name)
        })?;
    }
    Ok(())
}

/// Routes that ask for a table of their own are not in the VRF's.
fn check_routes(container: &mut Container, previous: &Previous, table: u32) -> Result<()> {
    let present = container.rtnl.routes(table)?;
    let moved = previous.result.routes.iter();
    let moved = moved.filter(|route| route.table.is_none_or(|own| table_of(own) == TABLE_MAIN));
    for wanted in moved {
        demand(present.iter().any(|there| there.destination == wanted.dst), || {
            format!("the route to {} is not in table {table}", wanted.dst)
        })?;
    }
    Ok(())
}
