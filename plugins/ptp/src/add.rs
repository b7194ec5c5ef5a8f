//! ADD, from top to bottom.
//!
//! Until IPAM has given addresses nothing is changed. From there on a failure is undone by what DEL
//! does, and DEL also finds what an ADD left that was killed between two steps.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use kernel::link::Link;
use kernel::{Rtnl, address, route};
use nix::errno::Errno;
use plugin_interface::addresses::Addresses;
use plugin_interface::host_end::{self, Names, Pair};
use plugin_interface::{Container, Error, Masquerade, Result, ready, report, settings};

use crate::conf::Conf;
use crate::plan::Plan;

/// Connects the container to the host.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf, &call.env)?;
    let addresses = Addresses::demanded(call)?;
    let mut site = Site::inspect(call, netns, &conf)?;

    let assigned = addresses.assign(call, netns)?;
    let planned = Plan::new(&conf, &call.attachment, &assigned);
    let connected = planned.and_then(|plan| Ok((site.connect(&plan)?, plan)));
    let (host_end, plan) = connected.map_err(|error| error.undone(crate::undo(call, netns)))?;

    let ifname = &call.attachment.ifname;
    let container =
        report::in_container(ifname, Some(plan.container_mac), Some(host_end.mtu), netns);
    Ok(CniResult {
        interfaces: vec![report::on_host(&host_end), container],
        ips: plan.inside.ips_of(CONTAINER),
        routes: plan.inside.routes,
        dns: assigned.dns,
    })
}

/// The place of the container's interface in the result.
const CONTAINER: usize = 1;

/// Where the work is done: the host and the container.
struct Site<'a> {
    call: &'a Call,
    conf: &'a Conf,
    host: Rtnl,
    container: Container,
    names: Names,
    mtu: Option<u32>,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &'a Conf) -> Result<Self> {
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let (names, _) = Names::look(&mut host, &call.attachment, &[])?;
        let mtu = conf.mtu.resolve(&mut host)?;
        Ok(Site { call, conf, host, container, names, mtu })
    }

    /// Makes everything in the kernel, and returns the host's end when packets pass. The neighbours
    /// need not be told: there is only the host, and its end is new.
    fn connect(&mut self, plan: &Plan) -> Result<Link> {
        let attachment = &self.call.attachment;
        settings::forward(&mut self.host, &plan.inside.ips)?;
        let pair = Pair {
            container: &self.container.netns,
            container_mac: plan.container_mac,
            master: None,
            mtu: self.mtu,
        };
        let made = host_end::make(&mut self.host, attachment, &self.names, &pair)?;
        self.configure_host_end(&made, plan)?;
        let inside = made.peer.unwrap_or_default();
        self.container.configure(&attachment.ifname, inside, &plan.inside)?;
        if self.conf.masquerade {
            Masquerade::open()?.add(attachment, &plan.inside.ips)?;
        }
        let host_end = ready::wait_for_link(&mut self.host, &made)?;
        ready::wait_for_gateways(&mut self.host, &host_end, &plan.gateway_addresses(), false)?;
        self.container.wait_for_addresses(inside, &plan.inside)?;
        Ok(host_end)
    }

    /// Gives the host's end its mark, its settings, the gateways and the ways to the container's
    /// addresses.
    fn configure_host_end(&mut self, made: &Link, plan: &Plan) -> Result<()> {
        settings::make_gateway(&made.name, plan.inside.has_ipv6())?;
        let mut requests = vec![host_end::mark(made, &self.call.attachment)];
        let gateways = plan.gateways.iter();
        requests.extend(gateways.map(|gateway| address::add(made.index, *gateway, false)));
        requests.extend(plan.host_routes(made.index).iter().map(route::add));
        match self.host.request_all(&requests) {
            Err(error) if error.is(Errno::EEXIST) => Err(self.taken(made, plan, error)),
            done => Ok(done?),
        }
    }

    /// What keeps the host from knowing the way to the container: one to another link.
    fn taken(&mut self, made: &Link, plan: &Plan, error: kernel::Error) -> Error {
        let routes = self.host.routes(route::TABLE_MAIN).unwrap_or_default();
        let wanted = plan.host_routes(made.index);
        let is_taken = |route: &&route::Route| {
            route.link != Some(made.index)
                && wanted.iter().any(|own| own.destination == route.destination)
        };
        let taken =
            routes.iter().find(is_taken).and_then(|route| Some((route.destination, route.link?)));
        let Some((address, link)) = taken else { return error.into() };
        let link = self.host.link_by_index(link).ok().flatten().unwrap_or_default();
        Error::AddressRouted { address, link: link.name, alias: link.alias }
    }
}
