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

/// Waits until `look` finds what it looks for, asking it again at every event of what `listen`
/// opens. `thing` says in words what is waited for.
///
/// # Errors
/// It does not find it in time, or it fails.
pub fn wait<T>(
    mut look: impl FnMut() -> kernel::Result<Option<T>>,
    listen: impl FnOnce() -> kernel::Result<Events>,
    thing: impl FnOnce() -> String,
) -> Result<T> {
    let found = match look()? {
        None => listen()?.wait(PATIENCE, look)?,
        found => found,
    };
    found.ok_or_else(|| Error::TooLate { thing: thing(), waited: PATIENCE })
}

/// Waits until frames pass at a link, and returns it as it is then. Its state settles in a work
/// queue; asking for the link settles it.
///
/// # Errors
/// It has no carrier in time, or is gone.
pub fn wait_for_link(rtnl: &mut Rtnl, link: &Link) -> Result<Link> {
    let look = || match rtnl.link_by_index(link.index)? {
        Some(link) => Ok(link.is_running().then_some(Some(link))),
        None => Ok(Some(None)),
    };
    let found = wait(look, || Events::open(Topic::Links), || format!("link {:?}", link.name))?;
    found.ok_or_else(|| Error::Vanished { thing: format!("link {:?}", link.name) })
}

/// Waits until packets to a link's addresses are taken in. The kernel makes an IPv6 address
/// local in a work queue, even one without duplicate address detection: for a moment it is there,
/// but packets to it and questions for it are dropped.
///
/// # Errors
/// They are not in time.
pub fn wait_for_addresses(
    rtnl: &mut Rtnl,
    link: u32,
    addresses: &[IpAddr],
    listen: impl FnOnce() -> kernel::Result<Events>,
) -> Result<()> {
    let look = || Ok(are_local(rtnl, link, addresses)?.then_some(()));
    wait(look, listen, || format!("one of the addresses {addresses:?} of link {link}"))
}

/// Waits until packets to the gateway addresses of a link of the host are taken in, and its
/// link-local address is in use: from that one the host asks where the containers are to which it
/// forwards packets. Whether that is `known` already, the caller tells.
///
/// # Errors
/// They are not in time.
pub fn wait_for_gateways(
    host: &mut Rtnl,
    link: &Link,
    gateways: &[IpAddr],
    known: bool,
) -> Result<()> {
    if !gateways.iter().any(IpAddr::is_ipv6) {
        return Ok(());
    }
    let look = || {
        let settled = known || {
            let addressed = host.addresses(link.index)?;
            let mut link_local = addressed.iter().filter(|address| address.link_local);
            link_local.all(|address| !address.tentative)
        };
        Ok((settled && are_local(host, link.index, gateways)?).then_some(()))
    };
    let listen = || Events::open(Topic::Ipv6Routes);
    wait(look, listen, || format!("one of the addresses of {:?}", link.name))
}

/// Whether packets to all these addresses of a link are taken in. IPv4 addresses are local at once.
fn are_local(rtnl: &mut Rtnl, link: u32, addresses: &[IpAddr]) -> kernel::Result<bool> {
    for address in addresses.iter().filter(|address| address.is_ipv6()) {
        if !rtnl.is_local(link, *address)? {
            return Ok(false);
        }
    }
    Ok(true)
}
