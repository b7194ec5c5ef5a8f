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
use plugin_interface::addresses::Addresses;
use plugin_interface::host_end::{self, Pair};
use plugin_interface::ready::wait_for_gateways;
use plugin_interface::{Container, Masquerade, Result, report, settings};

use crate::conf::Conf;
use crate::plan::Plan;
use crate::ready::{self, Links};
use crate::{bridge, del};

/// Hangs the container on the bridge.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let addresses = Addresses::of(call)?;
    let mut site = Site::inspect(call, netns, &conf)?;

    let assigned = addresses.assign(call, netns)?;
    let plan = Plan::new(&conf, &call.attachment, &assigned);
    let links = site.connect(&plan).map_err(|error| error.undone(del::undo(call, Some(netns))))?;

    let ifname = &call.attachment.ifname;
    let mtu = Some(links.host_end.mtu);
    Ok(CniResult {
        interfaces: vec![
            report::on_host(&links.bridge),
            report::on_host(&links.host_end),
            report::in_container(ifname, Some(plan.container_mac), mtu, netns),
        ],
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
    mtu: Option<u32>,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &'a Conf) -> Result<Self> {
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let bridge = bridge::find(&mut host, &conf.bridge)?;
        let mtu = conf.mtu.resolve(&mut host)?;
        Ok(Site { call, conf, host, container, bridge, mtu })
    }

    /// Makes everything in the kernel, and returns when packets pass.
    fn connect(&mut self, plan: &Plan) -> Result<Links> {
        let found = self.bridge.take();
        let bridge = bridge::ensure(&mut self.host, self.conf, plan, self.mtu, found)?;
        if self.conf.is_gateway {
            settings::forward(&plan.inside.ips)?;
        }
        let made = self.make_veth(plan, &bridge)?;
        let inside = made.peer.unwrap_or_default();
        self.container.configure(&self.call.attachment.ifname, inside, &plan.inside)?;
        if self.conf.masquerade {
            Masquerade::open()?.add(&self.call.attachment, &plan.inside.ips)?;
        }
        let links = ready::wait_for_port(&mut self.host, &bridge, &made)?;
        let gateways: Vec<_> = plan.gateways.iter().map(IpNetwork::ip).collect();
        wait_for_gateways(&mut self.host, &bridge, &gateways)?;
        self.container.wait_for_addresses(inside, &plan.inside)?;
        self.container.announce(inside, plan.container_mac)?;
        Ok(links)
    }

    /// Makes the pair with the host's end as a port of the bridge.
    fn make_veth(&mut self, plan: &Plan, bridge: &Link) -> Result<Link> {
        let pair = Pair {
            container: &self.container.netns,
            container_mac: plan.container_mac,
            master: Some(bridge.index),
            mtu: self.mtu,
        };
        host_end::make(&mut self.host, &self.call.attachment, &pair, |port| {
            if self.conf.hairpin { vec![link::set_hairpin(port, true)] } else { Vec::new() }
        })
    }
}
