//! The bridge itself: shared by all attachments, made by the first, never removed.

use ipnetwork::IpNetwork;
use kernel::link::{self, Link};
use kernel::{Rtnl, address};
use nix::errno::Errno;
use plugin_interface::{Error, Result, settings};

use crate::conf::Conf;
use crate::plan::Plan;

/// The bridge, if there is one.
///
/// # Errors
/// Something else has its name.
pub(crate) fn find(host: &mut Rtnl, name: &str) -> Result<Option<Link>> {
    match host.link_by_name(name)? {
        Some(link) if link.kind != "bridge" => {
            let kind = if link.kind.is_empty() { "no virtual link".into() } else { link.kind };
            Err(Error::WrongKind { key: "bridge", name: name.into(), wanted: "bridge", kind })
        }
        found => Ok(found),
    }
}

/// The bridge as the plan wants it: made if none was found, up, with the gateway addresses.
///
/// Many ADDs may do this at once: what is already there is as good as what we would have made.
pub(crate) fn ensure(
    host: &mut Rtnl,
    conf: &Conf,
    plan: &Plan,
    mtu: Option<u32>,
    found: Option<Link>,
) -> Result<Link> {
    let is_new = found.is_none();
    let bridge = match found {
        Some(bridge) => bridge,
        None => make(host, conf, plan, mtu)?,
    };
    let missing = missing_addresses(host, &bridge, &plan.gateways)?;
    if is_new || !missing.is_empty() {
        adopt(host, &bridge, &missing)?;
    }
    let mut changes = Vec::new();
    if !bridge.is_up() {
        changes.push(link::set_up(bridge.index));
    }
    if conf.promiscuous && !bridge.is_promiscuous() {
        changes.push(link::set_promiscuous(bridge.index, true));
    }
    host.request_all(&changes)?;
    Ok(bridge)
}

fn make(host: &mut Rtnl, conf: &Conf, plan: &Plan, mtu: Option<u32>) -> Result<Link> {
    let bridge = link::Bridge { name: &conf.bridge, mac: plan.bridge_mac, mtu };
    match host.request(&bridge.create()) {
        Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
        _ => {}
    }
    find(host, &conf.bridge)?
        .ok_or_else(|| Error::Vanished { thing: format!("bridge {:?}", conf.bridge) })
}

/// The gateway addresses that the bridge does not have yet.
fn missing_addresses(
    host: &mut Rtnl,
    bridge: &Link,
    wanted: &[IpNetwork],
) -> Result<Vec<IpNetwork>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let addresses = host.addresses(bridge.index)?.into_iter().filter(|address| !address.link_local);
    let present: Vec<_> = addresses.map(|address| address.address).collect();
    if let Some((wanted, found)) = conflict(wanted, &present) {
        let (link, kind) = (bridge.name.clone(), "bridge");
        return Err(Error::AddressConflict { link, kind, wanted, found });
    }
    Ok(wanted.iter().filter(|address| !present.contains(address)).copied().collect())
}

/// Makes a new bridge, or one that somebody else made, the gateway of the network.
fn adopt(host: &mut Rtnl, bridge: &Link, missing: &[IpNetwork]) -> Result<()> {
    settings::make_gateway(&bridge.name, missing.iter().any(IpNetwork::is_ipv6))?;
    // A bridge whose address was not set takes the lowest of its ports, and changes it as they come
    // and go; setting the one that it has makes it stay, and containers may remember it.
    let pinned =
        bridge.mac.filter(|_| !missing.is_empty()).map(|mac| link::set_mac(bridge.index, mac));
    host.request_all(pinned.as_slice())?;
    for address in missing {
        match host.request(&address::add(bridge.index, *address, false)) {
            Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The first wanted address that cannot be beside a present one, as in the reference: IPv4 beside
/// any that is not wanted itself, IPv6 beside one whose network overlaps.
fn conflict(wanted: &[IpNetwork], present: &[IpNetwork]) -> Option<(IpNetwork, IpNetwork)> {
    let clashes = |wanted: &IpNetwork, found: &IpNetwork| match (wanted, found) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.contains(b.network()) || b.contains(a.network()),
        _ => false,
    };
    let foreign = || present.iter().filter(|found| !wanted.contains(found));
    wanted.iter().find_map(|wanted| {
        foreign().find(|found| clashes(wanted, found)).map(|found| (*wanted, *found))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_conflict_as_in_the_reference() {
        let clash = |wanted: &[&str], present: &[&str]| {
            conflict(&networks(wanted), &networks(present)).is_some()
        };
        assert!(!clash(&["10.0.1.1/24"], &[]));
        assert!(!clash(&["10.0.1.1/24"], &["10.0.1.1/24"]));
        assert!(clash(&["10.0.1.1/24"], &["10.0.2.1/24"]));
        assert!(clash(&["10.0.1.1/24"], &["10.0.1.1/25"]));
        assert!(
            !clash(&["10.0.1.1/24", "10.0.2.1/24"], &["10.0.2.1/24"]),
            "two wanted ones get along"
        );
        assert!(!clash(&["10.0.1.1/24"], &["fd00::1/64"]));
        assert!(!clash(&["fd00::1/64"], &["fd01::1/64"]));
        assert!(clash(&["fd00::1/64"], &["fd00::2/64"]));
    }
}
