//! ADD, from top to bottom.
//!
//! The loan is written into the link's alias before the link leaves, so that DEL and GC find it
//! wherever an ADD that failed or was killed left it.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface};
use kernel::link::{self, Link};
use kernel::{NetNs, Rtnl};
use nix::errno::Errno;
use plugin_interface::addresses::Addresses;
use plugin_interface::{Container, Error, Inside, Result, removal, report};

use crate::conf::Conf;
use crate::device::{self, Device};
use crate::loan::Loan;
use crate::restore;

/// Lends the device to the container.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let addresses = Addresses::of(call)?;
    let mut site = Site::inspect(call, netns, &conf)?;

    let early = (!addresses.need_the_link()).then(|| addresses.assign(call, netns));
    let early = early.transpose()?;
    let undo = |error: Error| error.undone(undo(call, netns));
    let interface = site.lend(netns).map_err(undo)?;
    let assigned = match early {
        Some(assigned) => assigned,
        None => {
            site.bring_up(&Inside::default()).map_err(undo)?;
            addresses.assign(call, netns).map_err(undo)?
        }
    };
    let (ips, routes) = (assigned.ips, assigned.routes);
    let inside = Inside { ips, routes, ..Inside::default() };
    site.bring_up(&inside).map_err(undo)?;

    Ok(CniResult {
        interfaces: vec![interface],
        ips: inside.ips_of(0),
        routes: inside.routes,
        dns: assigned.dns,
    })
}

/// Where the work is done: the host, the container, and the device.
struct Site<'a> {
    call: &'a Call,
    host: Rtnl,
    container: Container,
    device: Device,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &Conf) -> Result<Self> {
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let device = device::find(&mut host, conf)?;
        if let Device::Link(link) = &device {
            check_lendable(call, link)?;
        }
        Ok(Site { call, host, container, device })
    }

    /// Marks the link and moves it, which changes its name in the same request.
    fn lend(&mut self, netns: &Path) -> Result<Interface> {
        let attachment = &self.call.attachment;
        let name = &attachment.ifname;
        let at_home = match &self.device {
            Device::Link(link) => link,
            Device::Userspace { pci_id } => {
                let plain = report::in_container(name, None, None, netns);
                return Ok(Interface { pci_id: pci_id.clone(), ..plain });
            }
        };
        let alias = Loan::alias_for(attachment, at_home);
        self.host.request(&link::set_alias(at_home.index, &alias))?;
        let moved = self.host.request(&link::move_to(at_home.index, &self.container.netns, name));
        match moved {
            Err(error) if error.is(Errno::EINVAL) => {
                return Err(Error::NotLendable { name: at_home.name.clone(), source: error });
            }
            moved => moved?,
        }
        let vanished = || Error::Vanished { thing: format!("link {name:?}") };
        let lent = self.container.rtnl.link_by_name(name)?.ok_or_else(vanished)?;
        let interface = report::in_container(name, lent.mac, Some(lent.mtu), netns);
        self.device = Device::Link(lent);
        Ok(interface)
    }

    /// Brings the link up in the container, with addresses and routes.
    fn bring_up(&mut self, inside: &Inside) -> Result<()> {
        match &self.device {
            Device::Link(lent) => self.container.bring_up(lent, inside),
            Device::Userspace { .. } => Ok(()),
        }
    }
}

/// Refuses a link that somebody else has. One that this attachment has is of an ADD that was killed
/// before the link left, or that has come home without it.
fn check_lendable(call: &Call, link: &Link) -> Result<()> {
    match Loan::of(link) {
        Some(loan) if !loan.is_to(&call.attachment) => {
            Err(Error::Lent { name: link.name.clone(), borrower: loan.borrower })
        }
        _ => Ok(()),
    }
}

/// Takes back what an ADD of ours lent.
fn undo(call: &Call, netns: &Path) -> Result<()> {
    let opened = NetNs::open_container(netns, call.env.netns_override).map_err(Error::from);
    let back = opened.and_then(|container| restore::loans_in(&container, &call.attachment));
    let links = Error::all([back, restore::on_host(&call.attachment)]);
    removal::finish(call, Some(netns), links, [])
}
