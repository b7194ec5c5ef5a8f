//! The link that has the gateway addresses: the bridge itself, or with `vlan` a veth of the host
//! whose other end is a port of the bridge in that VLAN. As the bridge, it is shared by all
//! attachments, and made by the first.

use kernel::link::{self, Link, Veth, VethPeer};
use kernel::{NetNs, Rtnl};
use nix::errno::Errno;
use plugin_interface::{Error, Result, mac};

use crate::conf::Conf;
use crate::plan::{self, Plan};
use crate::ready;

/// Refuses something else that has the name of the link.
pub(crate) fn refuse_foreign(host: &mut Rtnl, conf: &Conf) -> Result<()> {
    let Some(name) = conf.gateway_link().filter(|_| conf.is_gateway) else { return Ok(()) };
    match host.link_by_name(&name)? {
        Some(link) if link.kind != "veth" => Err(foreign(name, link.kind)),
        _ => Ok(()),
    }
}

/// The link, made if there is none, and in its VLAN.
pub(crate) fn ensure(host: &mut Rtnl, conf: &Conf, plan: &Plan, bridge: &Link) -> Result<Link> {
    let (Some(name), Some(vlans)) = (conf.gateway_link(), &conf.vlans) else {
        return Ok(bridge.clone());
    };
    if host.link_by_name(&name)?.is_none() {
        make(host, &name, plan, bridge)?;
    }
    let (gateway, port) = find(host, &name)?;
    let port = port.filter(|port| port.master == Some(bridge.index));
    let port =
        port.ok_or_else(|| foreign(name, "whose other end is no port of the bridge".into()))?;
    let mut changes = vec![link::set_up(gateway.index)];
    changes.extend(vlans.of_gateway().set(port.index));
    host.request_all(&changes)?;
    ready::wait_for_port(host, bridge, &port, &[])?;
    Ok(gateway)
}

/// Whether a port of a bridge is the other end of such a link.
pub(crate) fn is_port_of(port: &Link, links: &[Link]) -> bool {
    let peer = links.iter().find(|link| Some(link.index) == port.peer);
    port.kind == "veth" && peer.is_some_and(|peer| port.name == port_name(&peer.name))
}

fn make(host: &mut Rtnl, name: &str, plan: &Plan, bridge: &Link) -> Result<()> {
    let here = NetNs::current()?;
    let peer = VethPeer { namespace: &here, name, mac: plan::gateway_mac(&plan.gateways) };
    let port_name = port_name(name);
    let veth = Veth {
        name: &port_name,
        mac: mac::of_words(&["gateway port", name]),
        master: Some(bridge.index),
        mtu: Some(bridge.mtu),
        peer,
    };
    match host.request(&veth.create()) {
        Err(error) if !error.is(Errno::EEXIST) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The link and its other end.
fn find(host: &mut Rtnl, name: &str) -> Result<(Link, Option<Link>)> {
    let gateway = host.link_by_name(name)?;
    let gateway = gateway.ok_or_else(|| Error::Vanished { thing: format!("link {name:?}") })?;
    let port = match gateway.peer.filter(|_| gateway.kind == "veth") {
        Some(peer) => host.link_by_index(peer)?,
        None => None,
    };
    Ok((gateway, port))
}

/// The name of the other end, which is a mark from its first instant.
fn port_name(name: &str) -> String {
    let digits = mac::of_words(&["gateway port", name]).to_string().replace(':', "");
    format!("vg{digits}")
}

fn foreign(name: String, kind: String) -> Error {
    Error::WrongKind { key: "bridge", name, wanted: "veth of the bridge's gateway", kind }
}
