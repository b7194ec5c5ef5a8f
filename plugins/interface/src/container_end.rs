//! The Pod's namespace, and its interface in it: settings, addresses and routes.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::events::{Events, Topic};
use kernel::link::Link;
use kernel::{MacAddress, NetNs, Rtnl, address, link, route, sysctl};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::inside::Inside;
use crate::ready;
use crate::settings::where_possible;

/// The container's namespace, and a socket in it.
#[derive(Debug)]
pub struct Container {
    /// The namespace.
    pub netns: NetNs,
    /// Links, addresses and routes of the namespace.
    pub rtnl: Rtnl,
    /// The host's namespace, in which the plugin runs.
    pub home: NetNs,
}

impl Container {
    /// Opens the namespace at `CNI_NETNS`.
    ///
    /// # Errors
    /// It is no network namespace, or the host's own.
    pub fn open(call: &Call, netns: &Path) -> Result<Container> {
        let home = NetNs::current()?;
        let own_allowed = call.env.netns_override;
        let (netns, rtnl) = NetNs::visit_container(netns, &home, own_allowed, Rtnl::open)?;
        Ok(Container { netns, rtnl: rtnl?, home })
    }

    /// As [`Container::open`] for DEL, which may get no namespace, one that is gone, or a path that
    /// has become the host's own: `None`, for there is nothing of the container left.
    ///
    /// # Errors
    /// It cannot be told what is there.
    pub fn find(call: &Call, netns: Option<&Path>) -> Result<Option<Container>> {
        match netns.map(|netns| Self::open(call, netns)).transpose() {
            Err(Error::Netns(error)) if error.is_no_container() => Ok(None),
            found => found,
        }
    }

    /// Refuses a namespace that has a link of this name already.
    ///
    /// # Errors
    /// [`Error::InterfaceExists`].
    pub fn check_free(&mut self, ifname: &str, netns: &Path) -> Result<()> {
        match self.rtnl.link_by_name(ifname)? {
            Some(_) => Err(Error::InterfaceExists { ifname: ifname.into(), netns: netns.into() }),
            None => Ok(()),
        }
    }

    /// Gives the link its settings, brings it up and gives it addresses and routes.
    ///
    /// # Errors
    /// The kernel refuses one of them.
    pub fn configure(&mut self, ifname: &str, index: u32, inside: &Inside) -> Result<()> {
        self.netns.run_from(&self.home, || write_settings(ifname, inside))??;
        let mut requests = Vec::new();
        requests.extend(inside.has_ipv4().then(|| link::set_arp_notify(index)));
        requests.push(link::set_up(index));
        requests.extend(inside.ips.iter().map(|ip| {
            if inside.behind_gateways {
                address::add_alone(index, ip.address)
            } else {
                address::add(index, ip.address, inside.detect_duplicates)
            }
        }));
        requests.extend(inside.kernel_routes(index).iter().map(route::append));
        Ok(self.rtnl.request_all(&requests)?)
    }

    /// Configures a link of the container that nothing but itself has to be ready for, and returns
    /// when packets pass. Over a link without a carrier none do, and there is nobody to wait for.
    ///
    /// # Errors
    /// The kernel refuses something, or is not ready in time.
    pub fn bring_up(&mut self, link: &Link, inside: &Inside) -> Result<()> {
        self.configure(&link.name, link.index, inside)?;
        let settled = self.rtnl.link_by_index(link.index)?;
        if !settled.is_some_and(|link| link.has_carrier()) {
            return Ok(());
        }
        self.wait_for_addresses(link.index, inside)?;
        let Some(mac) = link.mac else { return Ok(()) };
        match self.announce(link.index, mac) {
            // An ipvlan has the address of the link below, which the neighbours know.
            Err(Error::Kernel(error)) if error.is(Errno::EOPNOTSUPP) => Ok(()),
            told => told,
        }
    }

    /// Waits until the container takes in packets to its addresses.
    ///
    /// # Errors
    /// It does not in time.
    pub fn wait_for_addresses(&mut self, link: u32, inside: &Inside) -> Result<()> {
        let addresses: Vec<_> = inside.ips.iter().map(|ip| ip.address.ip()).collect();
        let listen = || Events::open_in(&self.netns, Topic::Ipv6Routes);
        ready::wait_for_addresses(&mut self.rtnl, link, &addresses, listen)
    }

    /// Waits until the kernel has found nobody else with one of the IPv6 addresses.
    ///
    /// # Errors
    /// Somebody has one, or it takes too long.
    pub fn wait_for_detection(&mut self, ifname: &str, link: u32) -> Result<()> {
        let mut duplicate = None;
        let look = || {
            let addresses = self.rtnl.addresses(link)?;
            duplicate = addresses.iter().find(|address| address.duplicate).copied();
            let settled = addresses.iter().all(|address| !address.tentative);
            Ok((settled || duplicate.is_some()).then_some(()))
        };
        let listen = || Events::open_in(&self.netns, Topic::Ipv6Addresses);
        ready::wait(look, listen, || format!("one of the addresses of {ifname:?}"))?;
        match duplicate {
            Some(found) => {
                let (address, ifname) = (found.address, ifname.to_owned());
                Err(Error::DuplicateAddress { address, ifname })
            }
            None => Ok(()),
        }
    }

    /// Makes the kernel tell the neighbours who has the addresses now: with `arp_notify` and
    /// `ndisc_notify` on, setting the hardware address (the one it has) sends a gratuitous ARP and
    /// an unsolicited neighbour advertisement. It must come after the other side passes frames.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn announce(&mut self, index: u32, mac: MacAddress) -> Result<()> {
        Ok(self.rtnl.request(&link::set_mac(index, mac))?)
    }
}

/// Settings of a new link that must stand before it comes up.
fn write_settings(ifname: &str, inside: &Inside) -> Result<()> {
    let v6 = |key: &str| format!("net/ipv6/conf/{ifname}/{key}");
    // A router on the network must not be able to give the container addresses and routes.
    where_possible(sysctl::set_new(&v6("accept_ra"), "0"))?;
    if inside.has_ipv6() {
        // Runtimes turn IPv6 off in new namespaces, for links to come and for the loopback. As a
        // rule it is on, and to turn it on again would take the lock of all links.
        sysctl::set("net/ipv6/conf/lo/disable_ipv6", "0")?;
        sysctl::set(&v6("disable_ipv6"), "0")?;
        sysctl::set_new(&v6("keep_addr_on_down"), "1")?;
        sysctl::set_new(&v6("ndisc_notify"), "1")?;
        if inside.detect_duplicates {
            sysctl::set(&v6("accept_dad"), "1")?;
            // A frame of one's own that a hairpin sends back is no other's (RFC 7527).
            sysctl::set(&v6("enhanced_dad"), "1")?;
        }
    }
    Ok(())
}
