//! ADD, from top to bottom.
//!
//! Until IPAM has given addresses nothing is changed, so every refusal up to there leaves nothing
//! behind. From there on a failure is undone by what DEL does; and since everything made carries
//! its owner's mark, DEL also removes what an ADD left that was killed between two steps.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface};
use ipam::Ipam;
use kernel::link::{self, Link, Veth, VethPeer};
use kernel::{Rtnl, sysctl};

use crate::conf::Conf;
use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::masquerade::Masquerade;
use crate::plan::Plan;
use crate::ready::{self, Links};
use crate::{bridge, del, host_end};

/// Hangs the container on the bridge.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let dns = call.conf.dns()?;
    let ipam = Ipam::resolve(&call.conf, &call.env)?;
    let mut site = Site::inspect(call, netns, &conf)?;

    let assigned = ipam.as_ref().map(|ipam| ipam.add(call, netns)).transpose()?.unwrap_or_default();
    let plan = Plan::new(&conf, &call.attachment, &assigned);
    let connected = match &ipam {
        Some(_) if assigned.ips.is_empty() => Err(Error::NoAddresses),
        _ => site.connect(&plan),
    };
    let links = connected.map_err(|error| undo(call, netns, error))?;
    Ok(CniResult {
        interfaces: report(&links, call, netns, &plan),
        ips: plan.ips_of(CONTAINER),
        routes: plan.routes,
        dns: dns.unwrap_or(assigned.dns),
    })
}

/// The place of the container's interface in the result.
const CONTAINER: usize = 2;

/// Where the work is done: the host, the container, and what is there already.
struct Site<'a> {
    call: &'a Call,
    conf: &'a Conf,
    host: Rtnl,
    container: Container,
    bridge: Option<Link>,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &'a Conf) -> Result<Self> {
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let bridge = bridge::find(&mut host, &conf.bridge)?;
        Ok(Site { call, conf, host, container, bridge })
    }

    /// Makes everything in the kernel, and returns when packets pass.
    fn connect(&mut self, plan: &Plan) -> Result<Links> {
        let bridge = bridge::ensure(&mut self.host, self.conf, plan, self.bridge.take())?;
        if self.conf.is_gateway {
            forward(plan)?;
        }
        let made = self.make_veth(plan, &bridge)?;
        let inside = made.peer.unwrap_or_default();
        self.container.configure(&self.call.attachment.ifname, inside, plan)?;
        if self.conf.masquerade {
            Masquerade::open()?.add(&self.call.attachment, &plan.ips)?;
        }
        let links = ready::wait_for_port(&mut self.host, &bridge, &made)?;
        ready::wait_for_gateways(&mut self.host, plan, &bridge)?;
        self.container.wait_for_addresses(inside, plan)?;
        self.container.announce(inside, plan.container_mac)?;
        Ok(links)
    }

    /// Makes the pair in one request, the container's end directly in its namespace, then marks
    /// it. Nothing is sent by name after the creation: were the name another's, that would change.
    fn make_veth(&mut self, plan: &Plan, bridge: &Link) -> Result<Link> {
        let attachment = &self.call.attachment;
        let name = host_end::free_name(&mut self.host, attachment)?;
        let veth = Veth {
            name: &name,
            mac: plan.host_mac,
            master: Some(bridge.index),
            mtu: self.conf.mtu,
            peer: VethPeer {
                namespace: &self.container.netns,
                name: &attachment.ifname,
                mac: Some(plan.container_mac),
            },
        };
        self.host.request(&veth.create())?;
        let made = self.host.link_by_name(&name)?;
        let made = made.ok_or_else(|| Error::Vanished { thing: format!("veth {name:?}") })?;
        let mut marks = vec![link::set_alias(made.index, &attachment.alias())];
        if self.conf.hairpin {
            marks.push(link::set_hairpin(made.index, true));
        }
        self.host.request_all(&marks)?;
        Ok(made)
    }
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
    match del::undo(call, Some(netns)) {
        Ok(()) => error,
        Err(left) => Error::Several { first: error.into(), rest: vec![left] },
    }
}

fn report(links: &Links, call: &Call, netns: &Path, plan: &Plan) -> Vec<Interface> {
    let on_host = |link: &Link| Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        ..Interface::default()
    };
    let container = Interface {
        name: call.attachment.ifname.clone(),
        mac: plan.container_mac.to_string(),
        sandbox: netns.to_string_lossy().into_owned(),
        ..Interface::default()
    };
    vec![on_host(&links.bridge), on_host(&links.host_end), container]
}
