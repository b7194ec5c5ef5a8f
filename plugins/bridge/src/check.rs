//! CHECK: whether everything that ADD made is still there, and as it was made.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface, IpConfig};
use ipam::Ipam;
use kernel::Rtnl;
use kernel::link::Link;
use kernel::sysctl;

use crate::conf::Conf;
use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::masquerade::Masquerade;
use crate::plan::{gateway_address, table_of};
use crate::{bridge, host_end};

/// Compares the kernel with the result of ADD. What later plugins of the chain may have changed,
/// such as the container's MTU, is left to them.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let missing = || {
        Error::Different("required prevResult missing; CHECK needs the result of the ADD".into())
    };
    let result = call.conf.prev_result()?.ok_or_else(missing)?;
    if let Some(ipam) = Ipam::resolve(&call.conf, &call.env)? {
        ipam.check(call, netns)?;
    }
    let own = interface(&result, call, netns)?;
    let ips: Vec<_> = result
        .ips
        .iter()
        .filter(|ip| ip.interface.is_none_or(|index| result.interfaces.get(index) == Some(own)))
        .cloned()
        .collect();
    let mut host = Rtnl::open()?;
    let bridge = check_bridge(&mut host, &conf, &ips)?;
    let port = check_host_end(&mut host, call, &conf, &bridge)?;
    check_container_end(call, netns, own, &port, &result, &ips)?;
    check_host(&conf, call, &ips)
}

/// The container's interface in the result.
fn interface<'a>(result: &'a CniResult, call: &Call, netns: &Path) -> Result<&'a Interface> {
    let name = &call.attachment.ifname;
    let own = |interface: &&Interface| interface.name == *name && !interface.sandbox.is_empty();
    result.interfaces.iter().find(own).ok_or_else(|| {
        Error::Different(format!(
            "prevResult has no interface {name:?} in a sandbox; {netns:?} was expected to have it"
        ))
    })
}

fn check_bridge(host: &mut Rtnl, conf: &Conf, ips: &[IpConfig]) -> Result<Link> {
    let name = &conf.bridge;
    let bridge = bridge::find(host, name)?
        .ok_or_else(|| Error::Different(format!("bridge {name:?} is gone")))?;
    demand(bridge.is_up(), || format!("bridge {name:?} is down"))?;
    demand(!conf.promiscuous || bridge.is_promiscuous(), || {
        format!("bridge {name:?} is not in promiscuous mode")
    })?;
    if conf.is_gateway {
        let present: Vec<_> =
            host.addresses(bridge.index)?.into_iter().map(|address| address.address).collect();
        for gateway in ips.iter().filter_map(gateway_address) {
            demand(present.contains(&gateway), || {
                format!("bridge {name:?} has lost the gateway address {gateway}")
            })?;
        }
    }
    Ok(bridge)
}

fn check_host_end(host: &mut Rtnl, call: &Call, conf: &Conf, bridge: &Link) -> Result<Link> {
    let alias = call.attachment.alias();
    let port = host_end::find(host, &call.attachment)?.into_iter().find(|link| link.alias == alias);
    let port =
        port.ok_or_else(|| Error::Different(format!("the host's end of {alias:?} is gone")))?;
    let name = &port.name;
    demand(port.master == Some(bridge.index), || {
        format!("{name:?} is no port of bridge {:?}", bridge.name)
    })?;
    demand(port.is_up(), || format!("{name:?} is down"))?;
    let hairpin = port.port.is_some_and(|port| port.hairpin);
    demand(hairpin == conf.hairpin, || {
        format!("hairpin mode of {name:?} is {hairpin}, not {}", conf.hairpin)
    })?;
    Ok(port)
}

fn check_container_end(
    call: &Call,
    netns: &Path,
    own: &Interface,
    port: &Link,
    result: &CniResult,
    ips: &[IpConfig],
) -> Result<()> {
    let mut container = Container::open(call, netns)?;
    let name = &own.name;
    let link = container.rtnl.link_by_name(name)?;
    let link =
        link.ok_or_else(|| Error::Different(format!("interface {name:?} is gone from {netns:?}")))?;
    demand(port.peer == Some(link.index), || {
        format!("{name:?} is not the other end of {:?}", port.name)
    })?;
    demand(link.is_up(), || format!("{name:?} is down"))?;
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    demand(own.mac.is_empty() || own.mac.eq_ignore_ascii_case(&mac), || {
        format!("{name:?} has the MAC address {mac}, not {}", own.mac)
    })?;
    let present: Vec<_> =
        container.rtnl.addresses(link.index)?.into_iter().map(|address| address.address).collect();
    for ip in ips {
        demand(present.contains(&ip.address), || {
            format!("{name:?} has lost the address {}", ip.address)
        })?;
    }
    check_routes(&mut container, result)
}

fn check_routes(container: &mut Container, result: &CniResult) -> Result<()> {
    let present = container.rtnl.routes(0)?;
    for route in &result.routes {
        let same = |there: &kernel::route::Route| {
            there.destination == route.dst
                && (route.gw.is_none() || there.gateway == route.gw)
                && route.table.is_none_or(|table| there.table == table_of(table))
        };
        demand(present.iter().any(same), || {
            let via = route.gw.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            format!("the container has lost the route to {}{via}", route.dst)
        })?;
    }
    Ok(())
}

/// What ADD made on the host beside the links.
fn check_host(conf: &Conf, call: &Call, ips: &[IpConfig]) -> Result<()> {
    let families = [("net/ipv4/ip_forward", true), ("net/ipv6/conf/all/forwarding", false)];
    let used = families
        .iter()
        .filter(|(_, v4)| conf.is_gateway && ips.iter().any(|ip| ip.address.is_ipv4() == *v4));
    for (key, _) in used {
        demand(sysctl::get(key)? != "0", || format!("{key} is off: the host does not forward"))?;
    }
    if conf.masquerade
        && let Some(difference) = Masquerade::open()?.difference(&call.attachment, ips)?
    {
        return Err(Error::Different(difference));
    }
    Ok(())
}

fn demand(holds: bool, difference: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Different(difference())) }
}
