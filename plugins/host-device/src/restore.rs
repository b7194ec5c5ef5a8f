//! The way back: a link that is lent gets its name, its alias and its place on the host again.

use std::path::Path;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use kernel::link::{self, Link};
use kernel::{NetNs, Rtnl};
use nix::errno::Errno;
use plugin_interface::{Container, Error, Result, Valid};

use crate::loan::Loan;

/// A name under which a link comes home whose own is taken there by now: the kernel puts the lowest
/// free number into it.
const ANY: &str = "dev%d";

/// Brings back what the attachment has in the container, however it is called there; and what the
/// reference plugin lent, which has its name on the host for an alias.
pub(crate) fn from_container(call: &Call, netns: Option<&Path>) -> Result<()> {
    let Some(mut container) = Container::find(call, netns)? else { return Ok(()) };
    loans_in(&container.netns, &call.attachment)?;
    let found = container.rtnl.link_by_name(&call.attachment.ifname)?;
    let of_reference = found.filter(Loan::is_of_reference);
    match of_reference {
        Some(link) => {
            let home =
                Loan { borrower: String::new(), name: link.alias.clone(), alias: String::new() };
            bring_home(&mut container.rtnl, &link, &home)
        }
        None => Ok(()),
    }
}

/// Brings back what the attachment has in a container's namespace.
pub(crate) fn loans_in(container: &NetNs, attachment: &Attachment) -> Result<()> {
    let mut rtnl = Rtnl::open_in(container)?;
    let lent = loans(&mut rtnl, |loan| loan.is_to(attachment))?;
    Error::all(lent.iter().map(|(link, loan)| bring_home(&mut rtnl, link, loan)))
}

/// Gives back the name of what came home without the plugin, when its container's namespace died,
/// and what never left.
pub(crate) fn on_host(attachment: &Attachment) -> Result<()> {
    rename_all(|loan| loan.is_to(attachment))
}

/// As [`on_host`], for all attachments of the network that are not valid any more.
pub(crate) fn collect(valid: &Valid<'_>) -> Result<()> {
    let is_valid = |loan: &Loan| valid.attachments.iter().any(|one| loan.is_to(one));
    rename_all(|loan| loan.is_of_network(valid.network) && !is_valid(loan))
}

fn rename_all(wanted: impl Fn(&Loan) -> bool) -> Result<()> {
    let mut host = Rtnl::open()?;
    let lent = loans(&mut host, wanted)?;
    Error::all(lent.iter().map(|(link, loan)| rename(&mut host, link, loan)))
}

fn loans(rtnl: &mut Rtnl, wanted: impl Fn(&Loan) -> bool) -> Result<Vec<(Link, Loan)>> {
    let links = rtnl.links()?.into_iter();
    let lent = links.filter_map(|link| Loan::of(&link).map(|loan| (link, loan)));
    Ok(lent.filter(|(_, loan)| wanted(loan)).collect())
}

/// Moves a link to the host. Only there it loses the alias by which it is found, so that a DEL that
/// is killed in between can be repeated.
fn bring_home(container: &mut Rtnl, lent: &Link, loan: &Loan) -> Result<()> {
    let home = NetNs::current()?;
    container.request(&link::set_down(lent.index))?;
    match container.request(&link::move_to(lent.index, &home, &loan.name)) {
        // The name is taken. Home it comes all the same: the container is about to go.
        Err(error) if error.is(Errno::EEXIST) => {
            let moved = container.request(&link::move_to(lent.index, &home, ANY));
            match moved {
                Err(error) if error.is_absent() => {}
                moved => moved?,
            }
        }
        moved => moved?,
    }
    let mut host = Rtnl::open()?;
    let is_it = |link: &Link| link.alias == lent.alias;
    match host.links()?.into_iter().find(is_it) {
        Some(link) => rename(&mut host, &link, loan),
        None => Err(Error::Vanished { thing: format!("link {:?}", loan.name) }),
    }
}

/// Gives a link of the host its own name and alias. Where somebody else has the name by now, the
/// link keeps the one that it came home with.
fn rename(host: &mut Rtnl, link: &Link, loan: &Loan) -> Result<()> {
    if link.name != loan.name {
        host.request(&link::set_down(link.index))?;
        match host.request(&link::set_name(link.index, &loan.name)) {
            Err(error) if error.is(Errno::EEXIST) => {}
            renamed => renamed?,
        }
    }
    Ok(host.request(&link::set_alias(link.index, &loan.alias))?)
}
