//! The way back: a link that is lent gets its name, its alias and its place on the host again.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::link::{self, Link};
use kernel::{NetNs, Rtnl};
use nix::errno::Errno;
use plugin_interface::{Container, Error, Result, Valid};

use crate::book::Book;
use crate::loan::Loan;
use crate::lock;

/// A name under which a link comes home whose own is taken there by now: the kernel puts the lowest
/// free number into it.
const ANY: &str = "dev%d";

/// Brings back what the attachment has borrowed, from the container, or from where the kernel put it
/// when the container's namespace died; and what the reference plugin lent.
pub(crate) fn loan(call: &Call, netns: Option<&Path>) -> Result<()> {
    // With a folder that ADD refuses nothing was written down, and the alias tells as much as the
    // reference's.
    let Ok(book) = Book::of(&call.conf) else { return without_loan(call, netns) };
    let _alone = lock::alone()?;
    let Some(loan) = book.loan_to(&call.attachment)? else {
        return Error::all([without_loan(call, netns), book.forget(&call.attachment)]);
    };
    if let Some(mut container) = Container::find(call, netns)?
        && let Some(lent) = loan.find_in_container(&container.rtnl.links()?)
    {
        bring_home(&mut container.rtnl, lent, &loan)?;
        return book.forget(&call.attachment);
    }
    finish(&book, &mut Rtnl::open()?, loan)
}

/// As [`loan`], for all attachments of the network that are not valid any more, as far as the host
/// has the links.
pub(crate) fn collect(book: &Book, valid: &Valid<'_>) -> Result<()> {
    let mut host = Rtnl::open()?;
    let _alone = lock::alone()?;
    let is_garbage = |loan: &Loan| {
        loan.borrower().is_some_and(|borrower| {
            borrower.network == valid.network && !valid.attachments.contains(&borrower)
        })
    };
    let garbage = book.loans()?.into_iter().filter(is_garbage);
    let finished: Vec<_> = garbage.map(|loan| finish(book, &mut host, loan)).collect();
    Error::all(finished.into_iter().chain([book.collect(valid)]))
}

/// Gives links their names back that have come home since their DEL, and what an ADD of this
/// attachment has left at home that was killed.
pub(crate) fn come_home(book: &Book, call: &Call, host: &mut Rtnl) -> Result<()> {
    for loan in book.loans()? {
        let is_own = loan.borrower().as_ref() == Some(&call.attachment);
        if (loan.over || is_own)
            && let Some(link) = loan.find_at_home(&host.links()?)
        {
            rename(host, link, &loan)?;
            loan.borrower().map_or(Ok(()), |borrower| book.forget(&borrower))?;
        }
    }
    Ok(())
}

/// Ends a loan whose link is not with its container any more. Hardware may still be on its way: it
/// is known when it comes. What is no hardware has died with its namespace, or will.
fn finish(book: &Book, host: &mut Rtnl, mut loan: Loan) -> Result<()> {
    let Some(borrower) = loan.borrower() else { return Ok(()) };
    let links = host.links()?;
    match loan.find_at_home(&links) {
        Some(link) => rename(host, link, &loan)?,
        None if loan.is_hardware() && !links.iter().any(|link| loan.is_of(link)) => {
            loan.over = true;
            return book.write(&borrower, &loan);
        }
        None => {}
    }
    book.forget(&borrower)
}

/// Brings back a link of which only its alias tells that it is lent.
fn without_loan(call: &Call, netns: Option<&Path>) -> Result<()> {
    let Some(mut container) = Container::find(call, netns)? else { return Ok(()) };
    let found = container.rtnl.link_by_name(&call.attachment.ifname)?;
    let Some(lent) = found else { return Ok(()) };
    match Loan::of_reference(&call.attachment, &lent) {
        Some(loan) => bring_home(&mut container.rtnl, &lent, &loan),
        None => Ok(()),
    }
}

/// Moves a link to the host. Marked by an alias that no other has, it is found there whatever its
/// name is; only there it loses it, so that a DEL that is killed in between can be repeated.
fn bring_home(container: &mut Rtnl, lent: &Link, loan: &Loan) -> Result<()> {
    let vanished = || Error::Vanished { thing: format!("link {:?}", loan.name) };
    let (home, mark) = (NetNs::current()?, loan.mark().ok_or_else(vanished)?);
    container.request_all(&[link::set_down(lent.index), link::set_alias(lent.index, &mark)])?;
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
    match host.links()?.iter().find(|link| link.alias == mark) {
        Some(link) => rename(&mut host, link, loan),
        None => Err(vanished()),
    }
}

/// Gives a link of the host its own name and alias, and brings it up if it was. Where somebody else
/// has the name by now, the link keeps the one that it came home with.
fn rename(host: &mut Rtnl, link: &Link, loan: &Loan) -> Result<()> {
    if link.name != loan.name {
        host.request(&link::set_down(link.index))?;
        match host.request(&link::set_name(link.index, &loan.name)) {
            Err(error) if error.is(Errno::EEXIST) => {}
            renamed => renamed?,
        }
    }
    if loan.up {
        host.request(&link::set_up(link.index))?;
    }
    Ok(host.request(&link::set_alias(link.index, &loan.alias))?)
}
