//! CHECK: comparing the kernel with the result of ADD. What later plugins of the chain may have
//! changed, such as the container's MTU, is left to them.

use std::path::Path;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface, IpConfig, Route};
use kernel::link::Link;
use kernel::{Rtnl, sysctl};

use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::inside::table_of;
use crate::masquerade::Masquerade;
use crate::{addresses, host_end, reference, settings};

/// What the ADD answered about the container's interface.
#[derive(Debug)]
pub struct Expected {
    /// The interface.
    pub interface: Interface,
    /// Its addresses.
    pub ips: Vec<IpConfig>,
    /// The container's routes.
    pub routes: Vec<Route>,
    /// Whether the interface must be up.
    pub up: bool,
}

impl Expected {
    /// What `prevResult` says about CNI_IFNAME in the container; IPAM is asked, too.
    ///
    /// # Errors
    /// There is no `prevResult`, it does not hold the interface, or IPAM finds a difference.
    pub fn of(call: &Call, netns: &Path) -> Result<Expected> {
        let missing = || {
            Error::Different(
                "required prevResult missing; CHECK needs the result of the ADD".into(),
            )
        };
        let result = call.conf.prev_result()?.ok_or_else(missing)?;
        addresses::check(call, netns)?;
        let own = interface(&result, call, netns)?;
        let on_own = |ip: &&IpConfig| {
            ip.interface.is_none_or(|index| result.interfaces.get(index) == Some(own))
        };
        Ok(Expected {
            interface: own.clone(),
            ips: result.ips.iter().filter(on_own).cloned().collect(),
            routes: result.routes,
            up: true,
        })
    }
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

/// An error that tells the difference unless this `holds`.
///
/// # Errors
/// [`Error::Different`].
pub fn demand(holds: bool, difference: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Different(difference())) }
}

/// The host's end of the attachment's veth, which must be there and up: its own, or the one that the
/// reference plugin made for it.
///
/// # Errors
/// It is not.
pub fn host_end(host: &mut Rtnl, container: &mut Container, call: &Call) -> Result<Link> {
    let alias = call.attachment.alias();
    let unclaimed = match container.rtnl.link_by_name(&call.attachment.ifname)? {
        Some(inside) => host_end::find_unclaimed(host, &inside)?,
        None => None,
    };
    let found = match unclaimed {
        None => host_end::find(host, &call.attachment)?.into_iter().find(|one| one.alias == alias),
        unclaimed => unclaimed,
    };
    let found =
        found.ok_or_else(|| Error::Different(format!("the host's end of {alias:?} is gone")))?;
    demand(found.is_up(), || format!("{:?} is down", found.name))?;
    Ok(found)
}

/// The container's interface, which must be as the ADD answered; for a veth, also the other end of
/// `host_end`.
///
/// # Errors
/// It is not.
pub fn container_end(
    container: &mut Container,
    netns: &Path,
    expected: &Expected,
    host_end: Option<&Link>,
) -> Result<Link> {
    let own = &expected.interface;
    let name = &own.name;
    let link = container.rtnl.link_by_name(name)?;
    let link =
        link.ok_or_else(|| Error::Different(format!("interface {name:?} is gone from {netns:?}")))?;
    if let Some(host_end) = host_end {
        demand(host_end.peer == Some(link.index), || {
            format!("{name:?} is not the other end of {:?}", host_end.name)
        })?;
    }
    demand(link.is_up() || !expected.up, || format!("{name:?} is down"))?;
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    demand(own.mac.is_empty() || own.mac.eq_ignore_ascii_case(&mac), || {
        format!("{name:?} has the MAC address {mac}, not {}", own.mac)
    })?;
    let present: Vec<_> =
        container.rtnl.addresses(link.index)?.into_iter().map(|address| address.address).collect();
    for ip in &expected.ips {
        demand(present.contains(&ip.address), || {
            format!("{name:?} has lost the address {}", ip.address)
        })?;
    }
    routes(container, &expected.routes)?;
    Ok(link)
}

fn routes(container: &mut Container, expected: &[Route]) -> Result<()> {
    let present = container.rtnl.routes(0)?;
    for route in expected {
        let same = |there: &kernel::route::Route| {
            there.destination == route.dst
                && (route.gw.is_none() || there.gateway == route.gw)
                && route.table.is_none_or(|table| there.table == table_of(table))
                && has_options(there, route)
        };
        demand(present.iter().any(same), || {
            let via = route.gw.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            format!("the container has lost the route to {}{via}", route.dst)
        })?;
    }
    Ok(())
}

/// Whether the routes are there, in the namespace of `whose`: in any table, since a later plugin may
/// have put the link into a VRF.
///
/// # Errors
/// One is not.
pub fn has_routes(rtnl: &mut Rtnl, whose: &str, wanted: &[kernel::route::Route]) -> Result<()> {
    let present = rtnl.routes(0)?;
    let key =
        |route: &kernel::route::Route| (route.kind, route.destination, route.gateway, route.link);
    for route in wanted {
        demand(present.iter().any(|there| key(there) == key(route)), || {
            format!("{whose} has lost the route to {}", route.destination)
        })?;
    }
    Ok(())
}

/// Whether a route has the options that were asked for. IPv6 knows no scopes, and neither family a
/// metric of its own where the default was asked for.
fn has_options(there: &kernel::route::Route, asked: &Route) -> bool {
    (asked.mtu.is_none() || there.mtu == asked.mtu)
        && (asked.advmss.is_none() || there.advmss == asked.advmss)
        && asked.priority.is_none_or(|priority| priority == 0 || there.priority == priority)
        && asked.scope.is_none_or(|scope| asked.dst.is_ipv6() || there.scope == scope)
}

/// Whether the host passes on packets of the families of these addresses.
///
/// # Errors
/// It does not.
pub fn forwarding(ips: &[IpConfig]) -> Result<()> {
    for (key, _) in settings::forwarding_of(ips) {
        demand(sysctl::get(key)? != "0", || format!("{key} is off: the host does not forward"))?;
    }
    Ok(())
}

/// Whether the attachment's addresses are masqueraded: by us, or by the reference plugin, if it made
/// the interface.
///
/// # Errors
/// They are not.
pub fn masquerading(attachment: &Attachment, ips: &[IpConfig], host_end: &Link) -> Result<()> {
    let Some(difference) = Masquerade::open()?.difference(attachment, ips)? else { return Ok(()) };
    let addresses: Vec<_> = ips.iter().map(|ip| ip.address.ip()).collect();
    let by_reference = host_end.alias.is_empty() && reference::masquerades(attachment, &addresses)?;
    demand(by_reference, || difference)
}
