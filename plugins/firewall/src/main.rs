//! The CNI plugin `firewall`, chained: lets a container's packets pass where the host lets nothing
//! pass by default, and keeps them from other containers if that is wished.
//!
//! Read in this order: [`conf`] (what is asked for), [`plan`] (what follows from it and from the
//! result of the plugins before), [`verbs`] (ADD and the others), then what they use: [`firewall`]
//! (what an attachment owns), [`filter`] (its rules in the tables of `iptables-nft`) and [`policy`]
//! (its place in tables of our own). [`mod@reference`] knows what the Go plugin made.
#![forbid(unsafe_code)]

mod conf;
mod filter;
mod firewall;
mod plan;
mod policy;
mod reference;
mod verbs;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use cni_conf::version::SpecVersion;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Chained;

impl Plugin for Chained {
    const NAME: &'static str = "firewall";
    const VERSIONS: &'static [SpecVersion] =
        &[SpecVersion::V0_4_0, SpecVersion::V1_0_0, SpecVersion::V1_1_0];

    fn add(&self, call: &Call, _: &Path) -> Result<CniResult, CniError> {
        Ok(verbs::add(call)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        Ok(verbs::del(call, netns)?)
    }

    fn check(&self, call: &Call, _: &Path) -> Result<(), CniError> {
        Ok(verbs::check(call)?)
    }

    fn gc(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(verbs::gc(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(verbs::status(upkeep)?)
    }
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Chained)
}
