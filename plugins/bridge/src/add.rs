//! ADD, from top to bottom.
//!
//! Until IPAM has given addresses nothing is changed, so every refusal up to there leaves nothing
//! behind. From there on a failure is undone by what DEL does; and since everything made carries
//! its owner's mark, DEL also removes what an ADD left that was killed between two steps.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use ipnetwork::IpNetwork;
use kernel::Rtnl;
use kernel::link::{self, Link};
use kernel::netlink::Message;
use plugin_interface::addresses::Addresses;
use plugin_interface::host_end::{self, Names, Pair};
use plugin_interface::ready::wait_for_gateways;
use plugin_interface::{Container, Error, Inside, Masquerade, Result, report, settings};

use crate::bridge::{self, Shared};
use crate::conf::Conf;
use crate::plan::Plan;
use crate::ready::{self, Links};
use crate::spoof::SpoofCheck;
use crate::{del, gateway, lock};

/// Hangs the container on the bridge.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let addresses = Addresses::of(call)?;
    let mut site = Site::inspect(call, netns, &conf)?;

    let early = (!addresses.need_the_link()).then(|| addresses.assign(call, netns)).transpose()?;
    let undo = |error: Error| error.undone(del::undo(call, Some(netns)));
    let mut plan = Plan::new(&conf, &call.attachment, &early.clone().unwrap_or_default());
    let (mut shared, port) = site.join(&plan).map_err(undo)?;
    let assigned = match early {
        Some(assigned) => assigned,
        None => {
            site.open(&shared, &port).map_err(undo)?;
            let assigned = addresses.assign(call, netns).map_err(undo)?;
            plan = plan.with(&conf, &call.attachment, &assigned);
            shared = site.serve(&plan, shared).map_err(undo)?;
            assigned
        }
    };
    let links = site.connect(&plan, &shared, &port).map_err(undo)?;

    let ifname = &call.attachment.ifname;
    let mtu = Some(links.host_end.mtu);
    let mut interfaces = vec![
        report::on_host(&links.bridge),
        report::on_host(&links.host_end),
        report::in_container(ifname, Some(plan.container_mac), mtu, netns),
    ];
    interfaces.extend(links.gateway.as_ref().map(report::on_host));
    Ok(CniResult {
        interfaces,
        ips: plan.inside.ips_of(CONTAINER),
        routes: plan.inside.routes,
        dns: assigned.dns,
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
    names: Names,
    mtu: Option<u32>,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &'a Conf) -> Result<Self> {
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let (names, bridge) = look(&mut host, call, conf)?;
        conf.refuse_what_bridge_cannot(bridge.as_ref())?;
        gateway::refuse_foreign(&mut host, conf)?;
        let mtu = conf.mtu.resolve(&mut host)?;
        Ok(Site { call, conf, host, container, bridge, names, mtu })
    }

    /// Lets frames pass to the container's interface, for IPAM that asks for the addresses by way of
    /// it.
    fn open(&mut self, shared: &Shared, made: &Link) -> Result<()> {
        let inside = made.peer.unwrap_or_default();
        self.container.configure(&self.call.attachment.ifname, inside, &Inside::default())?;
        ready::wait_for_port(&mut self.host, &shared.bridge, made, &[]).map(drop)
    }

    /// Makes the bridge the gateway of addresses that came after the port.
    fn serve(&mut self, plan: &Plan, shared: Shared) -> Result<Shared> {
        bridge::ensure(&mut self.host, self.conf, plan, self.mtu, Some(shared.bridge))
    }

    /// Makes everything else in the kernel, and returns when packets pass.
    fn connect(&mut self, plan: &Plan, shared: &Shared, made: &Link) -> Result<Links> {
        let marks = self.marks(made);
        if self.conf.is_gateway {
            settings::forward(&mut self.host, &plan.inside.ips)?;
        }
        if self.conf.check_mac {
            let attachment = &self.call.attachment;
            SpoofCheck::open()?.add(attachment, &made.name, plan.container_mac)?;
        }
        if self.conf.leave_down {
            return ready::look(&mut self.host, shared, made, &marks);
        }
        let inside = made.peer.unwrap_or_default();
        self.configure(plan, shared, made)?;
        if self.conf.masquerade {
            Masquerade::open()?.add(&self.call.attachment, &plan.inside.ips)?;
        }
        let links = ready::wait_for_port(&mut self.host, &shared.bridge, made, &marks)?;
        let gateways: Vec<_> = plan.gateways.iter().map(IpNetwork::ip).collect();
        wait_for_gateways(&mut self.host, &shared.gateway, &gateways, shared.settled)?;
        self.container.wait_for_addresses(inside, &plan.inside)?;
        self.container.announce(inside, plan.container_mac)?;
        Ok(links.with_gateway(shared))
    }

    /// Makes the bridge and the container's port of it. Until the port is there, the bridge may be
    /// an empty one that somebody else's DEL removes: not while the lock is held, but since it was
    /// looked for.
    fn join(&mut self, plan: &Plan) -> Result<(Shared, Link)> {
        let _bridge_stays = lock::shared(&self.container.home)?;
        let before = self.bridge.take();
        let index = before.as_ref().map(|bridge| bridge.index);
        match self.make_port(plan, before) {
            Err(error) => {
                let (names, now) = look(&mut self.host, self.call, self.conf)?;
                if index.is_none() || now.as_ref().map(|bridge| bridge.index) == index {
                    return Err(error);
                }
                self.names = names;
                self.make_port(plan, now)
            }
            made => made,
        }
    }

    fn make_port(&mut self, plan: &Plan, found: Option<Link>) -> Result<(Shared, Link)> {
        let shared = bridge::ensure(&mut self.host, self.conf, plan, self.mtu, found)?;
        let port = self.make_veth(plan, &shared.bridge)?;
        Ok((shared, port))
    }

    /// Gives the container's interface its settings, addresses and routes.
    fn configure(&mut self, plan: &Plan, shared: &Shared, port: &Link) -> Result<()> {
        let ifname = &self.call.attachment.ifname;
        let index = port.peer.unwrap_or_default();
        if !self.conf.detect_duplicates {
            return self.container.configure(ifname, index, &plan.inside);
        }
        // The question whether somebody has an address must get through: first the port passes
        // frames, then the address is given.
        self.container.configure(ifname, index, &Inside::default())?;
        ready::wait_for_port(&mut self.host, &shared.bridge, port, &[])?;
        self.container.configure(ifname, index, &plan.inside)?;
        self.container.wait_for_detection(ifname, index)
    }

    /// Makes the pair with the host's end as a port of the bridge, which passes frames only as far
    /// as it shall before there are any.
    fn make_veth(&mut self, plan: &Plan, bridge: &Link) -> Result<Link> {
        let pair = Pair {
            container: &self.container.netns,
            container_mac: plan.container_mac,
            master: Some(bridge.index),
            mtu: self.mtu,
        };
        let made = host_end::make(&mut self.host, &self.call.attachment, &self.names, &pair)?;
        let mut limits = Vec::new();
        limits.extend(self.conf.isolated.then(|| link::set_isolated(made.index, true)));
        limits.extend(self.conf.vlans.iter().flat_map(|vlans| vlans.set(made.index)));
        self.host.request_all(&limits)?;
        Ok(made)
    }

    /// What the port needs by the end of the ADD.
    fn marks(&self, port: &Link) -> Vec<Message> {
        let hairpin = self.conf.hairpin.then(|| link::set_hairpin(port.index, true));
        [host_end::mark(port, &self.call.attachment)].into_iter().chain(hairpin).collect()
    }
}

/// The attachment's names on the host, and the bridge, if there is one: in one request.
fn look(host: &mut Rtnl, call: &Call, conf: &Conf) -> Result<(Names, Option<Link>)> {
    let (names, mut others) = Names::look(host, &call.attachment, &[&conf.bridge])?;
    Ok((names, bridge::accept(others.pop().flatten(), &conf.bridge)?))
}
