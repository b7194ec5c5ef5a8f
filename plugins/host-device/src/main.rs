//! The CNI plugin `host-device`: lends a link of the host to a container.
//!
//! While it is away the link has its own name in its alias, as with the reference, and a [`loan`] in
//! the [`book`] tells the rest, so that it is found again wherever it is: in the container, or back
//! on the host, where the kernel puts hardware whose namespace is gone.
//!
//! Read in this order: [`conf`] (what is asked for), [`device`] (which link that is), [`loan`] and
//! [`book`] (what is remembered), [`add`] (the story, from top to bottom), [`restore`] (the way
//! back), [`check`].
#![forbid(unsafe_code)]

mod add;
mod book;
mod check;
mod conf;
mod device;
mod loan;
mod lock;
mod restore;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use kernel::Rtnl;
use plugin_interface::{Error, Result, Valid, addresses, removal, status};

use crate::book::Book;
use crate::conf::Conf;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct HostDevice;

impl Plugin for HostDevice {
    const NAME: &'static str = "host-device";

    fn add(&self, call: &Call, netns: &Path) -> std::result::Result<CniResult, CniError> {
        Ok(add::add(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> std::result::Result<(), CniError> {
        Ok(removal::finish(call, netns, restore::loan(call, netns), [])?)
    }

    fn check(&self, call: &Call, netns: &Path) -> std::result::Result<(), CniError> {
        Ok(check::check(call, netns)?)
    }

    fn gc(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(gc(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(status::answer(upkeep, look(upkeep))?)
    }
}

/// Gives the links their names back that came home from containers that are gone.
fn gc(upkeep: &Upkeep) -> Result<()> {
    let Some(valid) = Valid::of(upkeep)? else { return Ok(()) };
    let loans = Book::of(&upkeep.conf).and_then(|book| restore::collect(&book, &valid));
    Error::all([loans, addresses::collect(upkeep)])
}

/// The device itself may be with a container just now: that is no reason to call the node unready.
fn look(upkeep: &Upkeep) -> Result<()> {
    Conf::parse(&upkeep.conf)?;
    Rtnl::open()?;
    Book::of(&upkeep.conf)?.demand()
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&HostDevice)
}
