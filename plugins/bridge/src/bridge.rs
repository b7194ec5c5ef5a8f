//! The bridge itself: shared by all attachments, made by the first, removed only when that is asked
//! for.

use cni_conf::conf::NetConf;
use ipnetwork::IpNetwork;
use kernel::address::Address;
use kernel::link::{self, BridgeOptions, Link};
use kernel::netlink::Message;
use kernel::{NetNs, Rtnl, address};
use nix::errno::Errno;
use plugin_interface::{Error, Result, host_end, settings};

use crate::conf::{Conf, bridge_to_remove};
use crate::plan::Plan;
use crate::{gateway, lock};

/// The group (`ip link show group 2648`) that marks a bridge as made by this plugin, from its first
/// instant: 0x0a58, which the hardware addresses begin with.
const OWN: u32 = 0x0a58;
/// The longest alias that the kernel takes (`IFALIASZ` - 1), in bytes.
const ALIAS_MAX: usize = 255;
/// What the alias of such a bridge begins with; its gateway addresses follow.
const NOTE: &str = "cbr0 gateway ";

/// The bridge, if there is one.
///
/// # Errors
/// Something else has its name.
pub(crate) fn find(host: &mut Rtnl, name: &str) -> Result<Option<Link>> {
    accept(host.link_by_name(name)?, name)
}

/// What was found under the bridge's name, if it is a bridge.
///
/// # Errors
/// It is something else.
pub(crate) fn accept(found: Option<Link>, name: &str) -> Result<Option<Link>> {
    match found {
        Some(link) if link.kind != "bridge" => {
            let kind = if link.kind.is_empty() { "no virtual link".into() } else { link.kind };
            Err(Error::WrongKind { key: "bridge", name: name.into(), wanted: "bridge", kind })
        }
        found => Ok(found),
    }
}

/// The bridge, and the link that has the gateway addresses.
pub(crate) struct Shared {
    pub(crate) bridge: Link,
    pub(crate) gateway: Link,
    /// Whether the gateway link was found with a link-local address in use.
    pub(crate) settled: bool,
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
) -> Result<Shared> {
    let is_new = found.is_none();
    let bridge = match found {
        Some(bridge) => bridge,
        None => make(host, conf, plan, mtu)?,
    };
    if let Some(vlans) = &conf.vlans {
        vlans.require_filtering(&bridge)?;
    }
    let mut changes = Vec::new();
    if !bridge.is_up() {
        changes.push(link::set_up(bridge.index));
    }
    if conf.promiscuous && !bridge.is_promiscuous() {
        changes.push(link::set_promiscuous(bridge.index, true));
    }
    host.request_all(&changes)?;
    let gateway =
        if conf.is_gateway { gateway::ensure(host, conf, plan, &bridge)? } else { bridge.clone() };
    let present = if plan.gateways.is_empty() { vec![] } else { host.addresses(gateway.index)? };
    let missing = make_room(host, conf, &gateway, &plan.gateways, &present)?;
    if is_new || !missing.is_empty() {
        adopt(host, &gateway, &plan.gateways, &missing)?;
    }
    let settled = present.iter().any(|address| address.link_local && !address.tentative);
    Ok(Shared { bridge, gateway, settled })
}

fn make(host: &mut Rtnl, conf: &Conf, plan: &Plan, mtu: Option<u32>) -> Result<Link> {
    let bridge = link::Bridge { name: &conf.bridge, mac: plan.bridge_mac, mtu };
    let options = BridgeOptions { group: OWN, vlan_filtering: conf.vlans.is_some() };
    match host.request(&bridge.create_with(options)) {
        Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
        _ => {}
    }
    find(host, &conf.bridge)?
        .ok_or_else(|| Error::Vanished { thing: format!("bridge {:?}", conf.bridge) })
}

/// The gateway addresses that the link does not have yet. Others that they cannot be beside go, if
/// that is asked for.
fn make_room(
    host: &mut Rtnl,
    conf: &Conf,
    link: &Link,
    wanted: &[IpNetwork],
    present: &[Address],
) -> Result<Vec<IpNetwork>> {
    let addresses = present.iter().filter(|address| !address.link_local);
    let mut present: Vec<_> = addresses.map(|address| address.address).collect();
    while let Some((wanted, found)) = conflict(wanted, &present) {
        if !conf.force_address {
            let (link, kind) = (link.name.clone(), "bridge");
            return Err(Error::AddressConflict { link, kind, wanted, found });
        }
        match host.request(&address::delete(link.index, found)) {
            // Addresses of one network go together, with the first of them.
            Err(error) if !error.is_absent() => return Err(error.into()),
            _ => present.retain(|address| *address != found),
        }
    }
    Ok(wanted.iter().filter(|address| !present.contains(address)).copied().collect())
}

/// Makes a new bridge, or one that somebody else made, the gateway of the network.
fn adopt(
    host: &mut Rtnl,
    bridge: &Link,
    gateways: &[IpNetwork],
    missing: &[IpNetwork],
) -> Result<()> {
    settings::make_gateway(&bridge.name, missing.iter().any(IpNetwork::is_ipv6))?;
    // A bridge whose address was not set takes the lowest of its ports, and changes it as they come
    // and go; setting the one that it has makes it stay, and containers may remember it.
    let pinned =
        bridge.mac.filter(|_| !missing.is_empty()).map(|mac| link::set_mac(bridge.index, mac));
    let noted = note(host, bridge, gateways)?;
    host.request_all(&pinned.into_iter().chain(noted).collect::<Vec<_>>())?;
    for address in missing {
        match host.request(&address::add(bridge.index, *address, false)) {
            Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Writes down which addresses of a bridge of ours are ours, in its alias: people may give it
/// others. The note comes before the addresses, so that none of ours is taken for somebody else's,
/// and has all of them, whoever of many ADDs at once adds which.
fn note(host: &mut Rtnl, bridge: &Link, gateways: &[IpNetwork]) -> Result<Option<Message>> {
    let now = host.link_by_index(bridge.index)?;
    let Some(bridge) = now.filter(|link| link.group == OWN && !gateways.is_empty()) else {
        return Ok(None);
    };
    let mut own = noted(&bridge);
    own.extend(gateways.iter().filter(|gateway| !noted(&bridge).contains(gateway)));
    let words: Vec<_> = own.iter().map(ToString::to_string).collect();
    let text = format!("{NOTE}{}", words.join(" "));
    // A bridge of more addresses than there is room to write down stays.
    Ok((text.len() <= ALIAS_MAX).then(|| link::set_alias(bridge.index, &text)))
}

fn noted(bridge: &Link) -> Vec<IpNetwork> {
    let words = bridge.alias.strip_prefix(NOTE).unwrap_or_default().split(' ');
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Removes the bridge if `removeEmptyBridge` is on, and the bridge is ours and of no use to anybody.
pub(crate) fn remove_if_empty(conf: &NetConf) -> Result<()> {
    let Some(name) = bridge_to_remove(conf) else { return Ok(()) };
    let mut host = Rtnl::open()?;
    // Mostly there are others, and nobody need wait.
    if find_empty(&mut host, &name)?.is_empty() {
        return Ok(());
    }
    let _nobody_comes = lock::exclusive(&NetNs::current()?)?;
    let garbage = find_empty(&mut host, &name)?;
    host_end::delete(&mut host, &garbage)
}

/// The bridge of this name if it is ours and empty, and the gateway links on it.
fn find_empty(host: &mut Rtnl, name: &str) -> Result<Vec<Link>> {
    let found = host.link_by_name(name)?;
    let Some(bridge) = found.filter(|link| link.kind == "bridge" && link.group == OWN) else {
        return Ok(Vec::new());
    };
    let links = host.links()?;
    // A VLAN on the bridge, or a macvlan, is of use without being a port.
    let on_top = |link: &&Link| link.peer == Some(bridge.index) && link.kind != "veth";
    let ports = links.iter().filter(|link| link.master == Some(bridge.index));
    let (gateways, others): (Vec<_>, Vec<_>) =
        ports.partition(|port| gateway::is_port_of(port, &links));
    let addresses = match host.addresses(bridge.index) {
        // Somebody else has just removed it.
        Err(error) if error.is_absent() => return Ok(Vec::new()),
        addresses => addresses?,
    };
    let own = noted(&bridge);
    let foreign = |address: &Address| !address.link_local && !own.contains(&address.address);
    let used = !others.is_empty() || links.iter().any(|link| on_top(&link));
    if used || addresses.iter().any(foreign) {
        return Ok(Vec::new());
    }
    Ok(gateways.into_iter().cloned().chain([bridge]).collect())
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
