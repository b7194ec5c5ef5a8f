//! Reachable when ADD returns: waiting for what the kernel does later, in its own time.
//!
//! It takes microseconds. What is waited for is looked at first; only if it is not there yet, the
//! kernel's events are listened to.

use std::net::IpAddr;
use std::time::Duration;

use kernel::Rtnl;
use kernel::events::{Events, Topic};
use kernel::link::Link;

use crate::error::{Error, Result};

/// Only a machine in great distress needs more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until frames pass from the container to the bridge, and from the bridge to the container.
///
/// Both links settle their state in a work queue; until then the port drops frames, and so does
/// the bridge, if this is its first port. Asking for a link settles it, the port's before the
/// bridge's, which follows from it. Under the spanning tree protocol the bridge lets a new port
/// listen for half a minute, so there the link's own state must do.
pub(crate) fn wait_for_port(host: &mut Rtnl, bridge: &Link, port: &Link) -> Result<Link> {
    let mut look = || {
        let found = host.links_by_index(&[port.index, bridge.index])?;
        let [Some(port), Some(bridge)] = &found[..] else { return Ok(Some(Err(gone(port)))) };
        let open = if bridge.spanning_tree { port.is_running() } else { port.is_forwarding() };
        Ok((open && bridge.is_running()).then(|| Ok(port.clone())))
    };
    let found = match look()? {
        None => Events::open(Topic::Links)?.wait(PATIENCE, look)?,
        found => found,
    };
    found.unwrap_or_else(|| Err(too_late(format!("bridge port {:?}", port.name))))
}

/// Waits until packets to these addresses are taken in. The kernel makes an IPv6 address local in
/// a work queue, even one without duplicate address detection: for a moment it is there, but
/// packets to it and questions for it are dropped.
pub(crate) fn wait_for_addresses(
    rtnl: &mut Rtnl,
    addresses: impl Iterator<Item = IpAddr>,
    listen: impl FnOnce() -> kernel::Result<Events>,
) -> Result<()> {
    let addresses: Vec<_> = addresses.filter(IpAddr::is_ipv6).collect();
    let mut look = || {
        for address in &addresses {
            if !rtnl.is_local(*address)? {
                return Ok(None);
            }
        }
        Ok(Some(()))
    };
    let found = match look()? {
        None => listen()?.wait(PATIENCE, look)?,
        found => found,
    };
    found.ok_or_else(|| too_late(format!("one of the addresses {addresses:?}")))
}

fn gone(port: &Link) -> Error {
    Error::Vanished { thing: format!("veth {:?} or its bridge", port.name) }
}

fn too_late(thing: String) -> Error {
    Error::TooLate { thing, waited: PATIENCE }
}
