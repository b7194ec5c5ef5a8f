//! Reachable when ADD returns: waiting for the bridge, which settles in its own time.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::events::{Events, Topic};
use kernel::link::Link;
use plugin_interface::ready::{are_local, wait};
use plugin_interface::{Error, Result};

use crate::plan::Plan;

/// The host's links as they are when frames pass.
pub(crate) struct Links {
    pub(crate) bridge: Link,
    pub(crate) host_end: Link,
}

/// Waits until frames pass from the container to the bridge, and from the bridge to the container.
///
/// Both links settle their state in a work queue; until then the port drops frames, and so does
/// the bridge, if this is its first port. Asking for a link settles it, the port's before the
/// bridge's, which follows from it. Under the spanning tree protocol the bridge lets a new port
/// listen for half a minute, and has no carrier until then: there the port's own state must do.
pub(crate) fn wait_for_port(host: &mut Rtnl, bridge: &Link, port: &Link) -> Result<Links> {
    let look = || {
        let found = host.links_by_index(&[port.index, bridge.index])?;
        let [Some(port), Some(bridge)] = &found[..] else { return Ok(Some(None)) };
        let forwarding = port.is_forwarding() && bridge.is_running();
        let open = if bridge.spanning_tree { port.is_running() } else { forwarding };
        Ok(open.then(|| Some(Links { bridge: bridge.clone(), host_end: port.clone() })))
    };
    let listen = || Events::open(Topic::Links);
    let found = wait(look, listen, || format!("bridge port {:?}", port.name))?;
    found.ok_or_else(|| Error::Vanished { thing: format!("veth {:?} or its bridge", port.name) })
}

/// Waits until packets to the bridge's gateway addresses are taken in, and its link-local address
/// is in use: from that one it asks where the containers are to which it forwards packets.
pub(crate) fn wait_for_gateways(host: &mut Rtnl, plan: &Plan, bridge: &Link) -> Result<()> {
    let gateways = plan.gateways.iter().map(IpNetwork::ip).filter(IpAddr::is_ipv6);
    let addresses: Vec<_> = gateways.collect();
    if addresses.is_empty() {
        return Ok(());
    }
    let look = || {
        let addressed = host.addresses(bridge.index)?;
        let mut link_local = addressed.iter().filter(|address| address.link_local);
        let settled = link_local.all(|address| !address.tentative);
        Ok((settled && are_local(host, bridge.index, &addresses)?).then_some(()))
    };
    let listen = || Events::open(Topic::Ipv6Routes);
    wait(look, listen, || format!("one of the addresses of bridge {:?}", bridge.name))
}
