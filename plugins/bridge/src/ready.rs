//! Reachable when ADD returns: waiting for what the kernel does later, in its own time.
//!
//! It takes microseconds. What is waited for is looked at first; only if it is not there yet, the
//! kernel's events are listened to.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::events::{Events, Topic};
use kernel::link::Link;

use crate::error::{Error, Result};
use crate::plan::Plan;

/// Only a machine in great distress needs more.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let mut look = || {
        let found = host.links_by_index(&[port.index, bridge.index])?;
        let [Some(port), Some(bridge)] = &found[..] else { return Ok(Some(Err(gone(port)))) };
        let forwarding = port.is_forwarding() && bridge.is_running();
        let open = if bridge.spanning_tree { port.is_running() } else { forwarding };
        Ok(open.then(|| Ok(Links { bridge: bridge.clone(), host_end: port.clone() })))
    };
    let found = match look()? {
        None => Events::open(Topic::Links)?.wait(PATIENCE, look)?,
        found => found,
    };
    found.unwrap_or_else(|| Err(too_late(format!("bridge port {:?}", port.name))))
}

/// Waits until packets to the container's addresses are taken in. The kernel makes an IPv6 address
/// local in a work queue, even one without duplicate address detection: for a moment it is there,
/// but packets to it and questions for it are dropped.
pub(crate) fn wait_for_container(
    container: &mut Rtnl,
    link: u32,
    plan: &Plan,
    listen: impl FnOnce() -> kernel::Result<Events>,
) -> Result<()> {
    let addresses = ipv6(plan.ips.iter().map(|ip| ip.address.ip()));
    let look = || Ok(are_local(container, link, &addresses)?.then_some(()));
    wait(look, listen, || format!("one of the container's addresses {addresses:?}"))
}

/// Waits until packets to the bridge's gateway addresses are taken in, and its link-local address
/// is in use: from that one it asks where the containers are to which it forwards packets.
pub(crate) fn wait_for_gateways(host: &mut Rtnl, plan: &Plan, bridge: &Link) -> Result<()> {
    let addresses = ipv6(plan.gateways.iter().map(IpNetwork::ip));
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

fn wait(
    mut look: impl FnMut() -> kernel::Result<Option<()>>,
    listen: impl FnOnce() -> kernel::Result<Events>,
    thing: impl FnOnce() -> String,
) -> Result<()> {
    let found = match look()? {
        None => listen()?.wait(PATIENCE, look)?,
        found => found,
    };
    found.ok_or_else(|| too_late(thing()))
}

/// IPv4 addresses are local at once.
fn ipv6(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    addresses.filter(IpAddr::is_ipv6).collect()
}

fn are_local(rtnl: &mut Rtnl, link: u32, addresses: &[IpAddr]) -> kernel::Result<bool> {
    for address in addresses {
        if !rtnl.is_local(link, *address)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn gone(port: &Link) -> Error {
    Error::Vanished { thing: format!("veth {:?} or its bridge", port.name) }
}

fn too_late(thing: String) -> Error {
    Error::TooLate { thing, waited: PATIENCE }
}
