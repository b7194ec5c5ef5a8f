//! The CNI plugin `ptp`: connects a container to the host by a veth pair, and to nothing else.
//!
//! The host's end has the gateways of the container's addresses, and the host knows the way to each
//! address; whatever the container sends to others, of its own network too, the host passes on.
//!
//! Read in this order: [`conf`] (what is asked for), [`plan`] (what follows from it and from the
//! addresses; pure), [`add`] (the story, from top to bottom), [`check`]. What an attachment owns is
//! its veth, and for the rest it needs nothing of the plugin's own: see [`plugin_interface`].
#![forbid(unsafe_code)]

mod add;
mod check;
mod conf;
mod plan;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use kernel::Rtnl;
use plugin_interface::reference::{self, Kind};
use plugin_interface::{Error, Masquerade, Result, Valid, addresses, host_end, removal, status};

use crate::conf::Conf;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Ptp;

impl Plugin for Ptp {
    const NAME: &'static str = "ptp";

    fn add(&self, call: &Call, netns: &Path) -> std::result::Result<CniResult, CniError> {
        Ok(add::add(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> std::result::Result<(), CniError> {
        Ok(del(call, netns)?)
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

/// Removes everything of the attachment; the addresses and routes on the host go with the veth.
fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let (links, leftovers) = removal::of_veths(call, netns, &[Kind::Masquerade]);
    removal::finish(call, netns, links, [Masquerade::remove(&call.attachment), leftovers])
}

/// Removes what an ADD of ours made.
fn undo(call: &Call, netns: &Path) -> Result<()> {
    let links = host_end::remove(&call.attachment);
    removal::finish(call, Some(netns), links, [Masquerade::remove(&call.attachment)])
}

/// Removes what no valid attachment of the network owns.
fn gc(upkeep: &Upkeep) -> Result<()> {
    let Some(valid) = Valid::of(upkeep)? else { return Ok(()) };
    Error::all([
        host_end::collect(&valid),
        Masquerade::collect(&valid),
        reference::collect(&valid),
        addresses::collect(upkeep),
    ])
}

/// Looks at what an ADD would look at before IPAM.
fn look(upkeep: &Upkeep) -> Result<()> {
    let conf = Conf::parse(&upkeep.conf, &upkeep.env)?;
    addresses::demand(&upkeep.conf)?;
    conf.mtu.resolve(&mut Rtnl::open()?).map(drop)
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Ptp)
}
