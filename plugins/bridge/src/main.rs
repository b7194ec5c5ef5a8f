//! The CNI plugin `bridge`: hangs a container on a bridge of the host by a veth pair.
//!
//! Read in this order: [`conf`] (what is asked for), [`plan`] (what follows from it and from the
//! addresses; pure), [`add`] (the story, from top to bottom), then what the story uses: [`bridge`],
//! [`lock`], [`vlan`], [`gateway`], [`spoof`] and [`ready`]; the rest of it all interface plugins share ([`plugin_interface`]). [`del`],
//! [`check`], [`gc`] and [`status`] are the other verbs.
#![forbid(unsafe_code)]

mod add;
mod bridge;
mod check;
mod conf;
mod del;
mod gateway;
mod gc;
mod lock;
mod plan;
mod ready;
mod spoof;
mod status;
mod vlan;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Bridge;

impl Plugin for Bridge {
    const NAME: &'static str = "bridge";

    fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError> {
        Ok(add::add(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        Ok(del::del(call, netns)?)
    }

    fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError> {
        Ok(check::check(call, netns)?)
    }

    fn gc(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(gc::gc(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(status::status(upkeep)?)
    }
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Bridge)
}
