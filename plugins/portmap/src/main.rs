//! The CNI plugin `portmap`: ports of the host lead to ports of a container. It is chained behind
//! the plugin that makes the container's interface.
//!
//! Everything is in one table of nf_tables ([`table`]), changed by one transaction a verb, and owned
//! by the attachment ([`record`]).
//!
//! Read in this order: [`conf`] (what is asked for), [`add`] (the story, from top to bottom),
//! [`ports`] (who has which port), [`check`]. [`mod@reference`] knows what the Go plugin made.
#![forbid(unsafe_code)]

mod add;
mod check;
mod claims;
mod conditions;
mod conf;
mod mapping;
mod ports;
mod record;
mod reference;
mod table;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use kernel::nft::Nft;
use plugin_interface::{Error, Result, Valid, status};

use crate::conf::Conf;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct PortMap;

impl Plugin for PortMap {
    const NAME: &'static str = "portmap";

    fn add(&self, call: &Call, _netns: &Path) -> std::result::Result<CniResult, CniError> {
        Ok(add::add(call)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> std::result::Result<(), CniError> {
        Ok(del(call, netns)?)
    }

    fn check(&self, call: &Call, _netns: &Path) -> std::result::Result<(), CniError> {
        Ok(check::check(call)?)
    }

    fn gc(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(gc(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(status::answer(upkeep, look(upkeep))?)
    }
}

/// Takes back what the attachment owns; without anything, what the reference plugin made for it.
fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    if add::remove(&call.attachment)? { Ok(()) } else { reference::remove(call, netns) }
}

/// Takes back what no valid attachment of the network owns, and what the reference plugin made for
/// none.
fn gc(upkeep: &Upkeep) -> Result<()> {
    let Some(valid) = Valid::of(upkeep)? else { return Ok(()) };
    let own = add::where_there_is_any(|ports| ports.collect(&valid)).map(drop);
    Error::all([own, reference::collect(&valid)])
}

/// Looks at what an ADD would look at first.
fn look(upkeep: &Upkeep) -> Result<()> {
    Conf::parse(&upkeep.conf)?;
    Nft::open()?.exist(&[]).map(drop).map_err(Error::from)
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&PortMap)
}
