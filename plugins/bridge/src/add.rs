//! ADD, from top to bottom.
//!
//! Until IPAM has given addresses nothing is changed, so every refusal up to there leaves nothing
//! behind. From there on a failure is undone by what DEL does; and since everything made carries
//! its owner's mark, DEL also removes what an ADD left that was killed between two steps.

use std::path::Path;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface};
use ipam::Ipam;
use ipnetwork::IpNetwork;
use kernel::events::{Events, Topic};
use kernel::link::{self, Link, Veth, VethPeer};
use kernel::{Rtnl, sysctl};

use crate::conf::Conf;
use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::masquerade::Masquerade;
use crate::plan::Plan;
use crate::{bridge, del, host_end, ready};

/// Hangs the container on the bridge.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let ipam = Ipam::resolve(&call.conf, &call.env)?;
    let dns = call.conf.dns()?;
    let mut container = Container::open(call, netns)?;
    let mut host = Rtnl::open()?;
    container.check_free(&call.attachment.ifname, netns)?;
    bridge::find(&mut host, &conf.bridge)?;

    let assigned = match &ipam {
        Some(ipam) => ipam.add(call, netns)?,
        None => CniResult::default(),
    };
    let connected = if ipam.is_some() && assigned.ips.is_empty() {
        Err(Error::NoAddresses)
    } else {
        let plan = Plan::new(&conf, &call.attachment, &assigned);
        connect(&mut host, &mut container, &conf, &call.attachment, &plan)
            .map(|links| (plan, links))
    };
    let (plan, links) = connected.map_err(|error| undo(call, netns, error))?;
    let dns = dns.unwrap_or(assigned.dns);
    Ok(CniResult {
        interfaces: links.report(call, netns),
        ips: plan.ips_of(CONTAINER),
        routes: plan.routes,
        dns,
    })
}

/// The place of the container's interface in the result.
const CONTAINER: usize = 2;

/// The links as they are when all is done.
struct Links {
    bridge: Link,
    host_end: Link,
    container_mac: String,
}

/// Makes everything in the kernel, in the order in which packets will need it.
fn connect(
    host: &mut Rtnl,
    container: &mut Container,
    conf: &Conf,
    attachment: &Attachment,
    plan: &Plan,
) -> Result<Links> {
    let bridge = bridge::ensure(host, conf, plan)?;
    if conf.is_gateway {
        forward(plan)?;
    }
    let host_end = make_veth(host, container, conf, attachment, plan, &bridge)?;
    let inside = host_end.peer.unwrap_or_default();
    container.configure(&attachment.ifname, inside, plan)?;
    if conf.masquerade {
        Masquerade::open()?.add(attachment, &plan.ips)?;
    }
    let host_end = ready::wait_for_port(host, &bridge, &host_end)?;
    ready::wait_for_addresses(host, plan.gateways.iter().map(IpNetwork::ip), || {
        Events::open(Topic::Ipv6Routes)
    })?;
    container.wait_for_addresses(plan)?;
    container.announce(inside, plan.container_mac)?;
    Ok(Links { bridge, host_end, container_mac: plan.container_mac.to_string() })
}

/// Makes the pair in one request, the container's end directly in its namespace, then marks it.
/// Nothing is sent by name after the creation: were the name another's, that link would change.
fn make_veth(
    host: &mut Rtnl,
    container: &Container,
    conf: &Conf,
    attachment: &Attachment,
    plan: &Plan,
    bridge: &Link,
) -> Result<Link> {
    let name = host_end::free_name(host, attachment)?;
    let peer = VethPeer {
        namespace: &container.netns,
        name: &attachment.ifname,
        mac: Some(plan.container_mac),
    };
    let veth =
        Veth { name: &name, mac: plan.host_mac, master: Some(bridge.index), mtu: conf.mtu, peer };
    host.request(&veth.create())?;
    let made = host
        .link_by_name(&name)?
        .ok_or_else(|| Error::Vanished { thing: format!("veth {name:?}") })?;
    let mut marks = vec![link::set_alias(made.index, &attachment.alias())];
    if conf.hairpin {
        marks.push(link::set_hairpin(made.index, true));
    }
    host.request_all(&marks)?;
    Ok(made)
}

/// The host passes packets on between the bridge and its other links.
fn forward(plan: &Plan) -> Result<()> {
    if plan.has_ipv4() {
        sysctl::set("net/ipv4/ip_forward", "1")?;
    }
    if plan.has_ipv6() {
        sysctl::set("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Removes what the attachment owns; the error is told with what could not be removed.
fn undo(call: &Call, netns: &Path, error: Error) -> Error {
    match del::del(call, Some(netns)) {
        Ok(()) => error,
        Err(left) => Error::Several { first: error.into(), rest: vec![left] },
    }
}

impl Links {
    fn report(&self, call: &Call, netns: &Path) -> Vec<Interface> {
        let mac = |link: &Link| link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let on_host = |link: &Link| Interface {
            name: link.name.clone(),
            mac: mac(link),
            ..Interface::default()
        };
        let container = Interface {
            name: call.attachment.ifname.clone(),
            mac: self.container_mac.clone(),
            sandbox: netns.to_string_lossy().into_owned(),
            ..Interface::default()
        };
        vec![on_host(&self.bridge), on_host(&self.host_end), container]
    }
}
