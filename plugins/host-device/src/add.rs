//! ADD, from top to bottom.
//!
//! The loan is written down before the link leaves, so that DEL and GC find it wherever an ADD that
//! failed or was killed left it.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface};
use kernel::Rtnl;
use kernel::link::{self, Link};
use nix::errno::Errno;
use plugin_interface::addresses::Addresses;
use plugin_interface::{Container, Error, Inside, Result, removal, report};

use crate::book::Book;
use crate::conf::Conf;
use crate::device::{self, Device};
use crate::loan::Loan;
use crate::{lock, restore};

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
    book: Book,
    device: Device,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &Conf) -> Result<Self> {
        let book = Book::of(&call.conf)?;
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let _alone = lock::alone()?;
        restore::come_home(&book, call, &mut host)?;
        let device = device::find(&mut host, conf)?;
        if let Device::Link(link) = &device {
            check_lendable(&book, link)?;
        }
        Ok(Site { call, host, container, book, device })
    }

    /// Writes the loan down, leaves the link's name in its alias, and moves it, which changes its
    /// name in the same request.
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
        let _alone = lock::alone()?;
        let gone = || Error::Vanished { thing: format!("link {:?}", at_home.name) };
        let at_home = &self.host.link_by_index(at_home.index)?.ok_or_else(gone)?;
        check_lendable(&self.book, at_home)?;
        self.book.write(attachment, &Loan::new(attachment, at_home))?;
        self.host.request(&link::set_alias(at_home.index, &at_home.name))?;
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

/// Refuses a link that somebody else has: it has come home without a DEL. A loan of a link that is
/// as it was before has been ended by another plugin, such as the reference, and is forgotten.
fn check_lendable(book: &Book, link: &Link) -> Result<()> {
    for loan in book.loans()? {
        let Some(borrower) = loan.borrower() else { continue };
        if loan.find_at_home(std::slice::from_ref(link)).is_some() {
            let (name, borrower) = (link.name.clone(), borrower.alias());
            return Err(Error::Lent { name, borrower });
        }
        if loan.is_of(link) {
            book.forget(&borrower)?;
        }
    }
    Ok(())
}

/// Takes back what an ADD of ours lent.
fn undo(call: &Call, netns: &Path) -> Result<()> {
    removal::finish(call, Some(netns), restore::loan(call, Some(netns)), [])
}
