//! The container's end of the veth: settings, addresses and routes inside its namespace.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::events::{Events, Topic};
use kernel::{MacAddress, NetNs, Rtnl, address, link, route, sysctl};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::{bridge, ready};

/// The container's namespace, and a socket in it.
pub(crate) struct Container {
    pub(crate) netns: NetNs,
    pub(crate) rtnl: Rtnl,
}

impl Container {
    /// Opens the namespace at `CNI_NETNS`.
    ///
    /// # Errors
    /// It is no network namespace, or the host's own.
    pub(crate) fn open(call: &Call, netns: &Path) -> Result<Container> {
        let netns = NetNs::open_container(netns, call.env.netns_override)?;
        let rtnl = Rtnl::open_in(&netns)?;
        Ok(Container { netns, rtnl })
    }

    /// Refuses a namespace that has a link of this name already.
    pub(crate) fn check_free(&mut self, ifname: &str, netns: &Path) -> Result<()> {
        match self.rtnl.link_by_name(ifname)? {
            Some(_) => Err(Error::InterfaceExists { ifname: ifname.into(), netns: netns.into() }),
            None => Ok(()),
        }
    }

    /// Gives the link its settings, brings it up and gives it addresses and routes.
    pub(crate) fn configure(&mut self, ifname: &str, index: u32, plan: &Plan) -> Result<()> {
        self.netns.run(|| write_settings(ifname, plan))??;
        let mut requests = vec![link::set_up(index)];
        requests.extend(plan.ips.iter().map(|ip| address::add(index, ip.address, false)));
        requests.extend(plan.kernel_routes(index).iter().map(route::append));
        Ok(self.rtnl.request_all(&requests)?)
    }

    /// Waits until the container takes in packets to its addresses.
    pub(crate) fn wait_for_addresses(&mut self, link: u32, plan: &Plan) -> Result<()> {
        let listen = || Events::open_in(&self.netns, Topic::Ipv6Routes);
        ready::wait_for_container(&mut self.rtnl, link, plan, listen)
    }

    /// Makes the kernel tell the neighbours who has the addresses now: with `arp_notify` and
    /// `ndisc_notify` on, setting the hardware address (the one it has) sends a gratuitous ARP and
    /// an unsolicited neighbour advertisement. It must come after the bridge passes frames.
    pub(crate) fn announce(&mut self, index: u32, mac: MacAddress) -> Result<()> {
        Ok(self.rtnl.request(&link::set_mac(index, mac))?)
    }
}

/// Settings that must stand before the link comes up.
fn write_settings(ifname: &str, plan: &Plan) -> Result<()> {
    let v4 = |key: &str| format!("net/ipv4/conf/{ifname}/{key}");
    let v6 = |key: &str| format!("net/ipv6/conf/{ifname}/{key}");
    // A router on the network must not be able to give the container addresses and routes.
    bridge::where_possible(sysctl::set(&v6("accept_ra"), "0"))?;
    if plan.has_ipv4() {
        bridge::where_possible(sysctl::set(&v4("arp_notify"), "1"))?;
    }
    if plan.has_ipv6() {
        // Runtimes turn IPv6 off in new namespaces, for links to come and for the loopback.
        sysctl::set("net/ipv6/conf/lo/disable_ipv6", "0")?;
        sysctl::set(&v6("disable_ipv6"), "0")?;
        sysctl::set(&v6("keep_addr_on_down"), "1")?;
        sysctl::set(&v6("ndisc_notify"), "1")?;
    }
    Ok(())
}
