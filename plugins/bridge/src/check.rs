//! CHECK: whether everything that ADD made is still there, and as it was made.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::IpConfig;
use kernel::Rtnl;
use kernel::link::Link;
use plugin_interface::check::{self, Expected, demand};
use plugin_interface::inside::gateway_address;
use plugin_interface::{Container, Error, Result};

use crate::bridge;
use crate::conf::Conf;

/// Compares the kernel with the result of ADD.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let expected = Expected::of(call, netns)?;
    let mut host = Rtnl::open()?;
    let bridge = check_bridge(&mut host, &conf, &expected.ips)?;
    let port = check::host_end(&mut host, &call.attachment)?;
    check_port(&port, &conf, &bridge)?;
    let mut container = Container::open(call, netns)?;
    check::container_end(&mut container, netns, &expected, Some(&port))?;
    if conf.is_gateway {
        check::forwarding(&expected.ips)?;
    }
    if conf.masquerade {
        check::masquerading(&call.attachment, &expected.ips)?;
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

fn check_port(port: &Link, conf: &Conf, bridge: &Link) -> Result<()> {
    let name = &port.name;
    demand(port.master == Some(bridge.index), || {
        format!("{name:?} is no port of bridge {:?}", bridge.name)
    })?;
    let hairpin = port.port.is_some_and(|port| port.hairpin);
    demand(hairpin == conf.hairpin, || {
        format!("hairpin mode of {name:?} is {hairpin}, not {}", conf.hairpin)
    })
}
