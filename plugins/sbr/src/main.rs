//! The CNI plugin `sbr`, chained: what a container sends from an address of the interface leaves by
//! that interface, whatever others the container has (source-based routing).
//!
//! Everything is in the container's namespace and goes with it. Read in this order: [`conf`] (what
//! is asked for), [`plan`] (what follows from it; pure), [`verbs`], [`undo`] (the way back).
#![forbid(unsafe_code)]

mod conf;
mod plan;
mod undo;
mod verbs;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use plugin_interface::status;

use crate::conf::Conf;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct SourceBasedRouting;

impl Plugin for SourceBasedRouting {
    const NAME: &'static str = "sbr";

    fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError> {
        Ok(verbs::add(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        Ok(undo::undo(call, netns)?)
    }

    fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError> {
        Ok(verbs::check(call, netns)?)
    }

    /// Rules and routes go with their container.
    fn gc(&self, _: &Upkeep) -> Result<(), CniError> {
        Ok(())
    }

    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(status::answer(upkeep, Conf::parse(&upkeep.conf).map(drop))?)
    }
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&SourceBasedRouting)
}
