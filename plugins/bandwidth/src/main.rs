//! The CNI plugin `bandwidth`: limits how fast a container receives and sends, chained behind the
//! plugin that made its veth.
//!
//! What the container receives the host's end of the veth sends, through a token bucket. What it
//! sends arrives there, and is redirected to a link of its own, the [`limiter`], to be sent through
//! another bucket.
//!
//! Read in this order: [`conf`] (the buckets that are asked for), [`host_end`] (which link that is),
//! [`limiter`], [`add`] (the story, from top to bottom), [`del`], [`reference`] (what the plugin of
//! the same name left), [`check`].
#![forbid(unsafe_code)]

mod add;
mod check;
mod conf;
mod del;
mod host_end;
mod limiter;
mod reference;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use cni_conf::version::SpecVersion;
use kernel::Rtnl;
use plugin_interface::{Error, Result, Valid};

use crate::conf::Conf;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Bandwidth;

impl Plugin for Bandwidth {
    const NAME: &'static str = "bandwidth";
    /// Results before 0.3.0 list no interfaces.
    const VERSIONS: &'static [SpecVersion] = &[
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];

    fn add(&self, call: &Call, netns: &Path) -> std::result::Result<CniResult, CniError> {
        Ok(add::add(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> std::result::Result<(), CniError> {
        Ok(del::del(call, netns)?)
    }

    fn check(&self, call: &Call, netns: &Path) -> std::result::Result<(), CniError> {
        Ok(check::check(call, netns)?)
    }

    fn gc(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(gc(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(status(upkeep).map_err(|error| Error::NotReady(error.to_string()))?)
    }
}

/// Removes the limiters of attachments that the runtime does not name. The buckets of the veths go
/// with these.
fn gc(upkeep: &Upkeep) -> Result<()> {
    match Valid::of(upkeep)? {
        Some(valid) => limiter::collect(&valid),
        None => Ok(()),
    }
}

/// What a limit needs of the kernel shows when one is made: others may need none.
fn status(upkeep: &Upkeep) -> Result<()> {
    Conf::parse(&upkeep.conf)?;
    Rtnl::open()?;
    Ok(())
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Bandwidth)
}
