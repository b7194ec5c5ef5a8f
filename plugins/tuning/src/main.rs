//! The CNI plugin `tuning`: settings of a container's interface and of its network namespace, chained
//! behind the plugin that made the interface.
//!
//! Read in this order: [`conf`] (what is asked for: [`attributes`] of the link, and [`sysctls`] as far
//! as the [`allowlist`] lets them), [`backup`] (what the link was before, in a file), [`add`] (the
//! story, from top to bottom), [`del`] (the way back, and GC), [`check`], [`status`].
#![forbid(unsafe_code)]

mod add;
mod allowlist;
mod attributes;
mod backup;
mod check;
mod conf;
mod del;
mod error;
mod status;
mod sysctls;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Tuning;

impl Plugin for Tuning {
    const NAME: &'static str = "tuning";

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
        Ok(del::collect(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(status::status(upkeep)?)
    }
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Tuning)
}
