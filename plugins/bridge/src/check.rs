//! CHECK: whether everything that ADD made is still there, and as it was made.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::IpConfig;
use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::link::Link;
use plugin_interface::check::{self, Expected, demand};
use plugin_interface::inside::gateway_address;
use plugin_interface::{Container, Error, Result};

use crate::bridge;
use crate::conf::Conf;
use crate::spoof::SpoofCheck;

/// Compares the kernel with the result of ADD.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let expected = Expected { up: !conf.leave_down, ..Expected::of(call, netns)? };
    let mut host = Rtnl::open()?;
    let mut container = Container::open(call, netns)?;
    let bridge = check_bridge(&mut host, &conf, &expected.ips)?;
    let port = check::host_end(&mut host, &mut container, call)?;
    check_port(&mut host, &port, &conf, &bridge)?;
    let inside = check::container_end(&mut container, netns, &expected, Some(&port))?;
    if let Some(mac) = inside.mac.filter(|_| conf.check_mac) {
        let different = SpoofCheck::open()?.difference(&call.attachment, &port.name, mac)?;
        different.map_or(Ok(()), |difference| Err(Error::Different(difference)))?;
    }
    if conf.is_gateway {
        check::forwarding(&expected.ips)?;
    }
    if conf.masquerade {
        check::masquerading(&call.attachment, &expected.ips, &port)?;
    }
    Ok(())
}

fn check_bridge(host: &mut Rtnl, conf: &Conf, ips: &[IpConfig]) -> Result<Link> {
    let name = &conf.bridge;
    let bridge = bridge::find(host, name)?
        .ok_or_else(|| Error::Different(format!("bridge {name:?} is gone")))?;
    demand(bridge.is_up(), || format!("bridge {name:?} is down"))?;
    demand(!conf.promiscuous || bridge.is_promiscuous(), || {
        format!("bridge {name:?} is not in promiscuous mode")
    })?;
    let gateways: Vec<_> = ips.iter().filter_map(gateway_address).collect();
    if conf.is_gateway && !gateways.is_empty() {
        check_gateways(host, conf, &bridge, &gateways)?;
    }
    Ok(bridge)
}

fn check_gateways(
    host: &mut Rtnl,
    conf: &Conf,
    bridge: &Link,
    gateways: &[IpNetwork],
) -> Result<()> {
    let link = match conf.gateway_link() {
        Some(name) => host
            .link_by_name(&name)?
            .ok_or_else(|| Error::Different(format!("the gateway's link {name:?} is gone")))?,
        None => bridge.clone(),
    };
    let present: Vec<_> =
        host.addresses(link.index)?.into_iter().map(|address| address.address).collect();
    gateways.iter().try_for_each(|gateway| {
        demand(present.contains(gateway), || {
            format!("{} {:?} has lost the gateway address {gateway}", link.kind, link.name)
        })
    })
}

fn check_port(host: &mut Rtnl, port: &Link, conf: &Conf, bridge: &Link) -> Result<()> {
    let name = &port.name;
    demand(port.master == Some(bridge.index), || {
        format!("{name:?} is no port of bridge {:?}", bridge.name)
    })?;
    let settings = port.port.unwrap_or_default();
    for (what, is, wanted) in [
        ("hairpin mode", settings.hairpin, conf.hairpin),
        ("isolation", settings.isolated, conf.isolated),
    ] {
        demand(is == wanted, || format!("{what} of {name:?} is {is}, not {wanted}"))?;
    }
    let Some(vlans) = &conf.vlans else { return Ok(()) };
    let present = host.vlans(port.index)?;
    demand(vlans.are(&present), || {
        format!("{name:?} is not in its VLANs alone, but in {present:?}")
    })
}
