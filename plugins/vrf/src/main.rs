//! The CNI plugin `vrf`: gives an interface of the container a routing table of its own, that of a
//! VRF, which it may share with other interfaces of the container.
//!
//! It is chained behind a plugin that makes an interface. The kernel takes the interface down and up
//! when it comes into a VRF, and so forgets addresses and routes; what is lost is given back
//! ([`belongings`]). All of it is in the container's namespace, and goes with it.
//!
//! Read in this order: [`conf`] (what is asked for), [`table`] (the VRF), [`add`] (the story, from
//! top to bottom), [`belongings`], [`del`], [`check`].
#![forbid(unsafe_code)]

mod add;
mod belongings;
mod check;
mod conf;
mod del;
mod table;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::CniResult;
use kernel::Rtnl;
use plugin_interface::status;

use crate::conf::Conf;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Vrf;

impl Plugin for Vrf {
    const NAME: &'static str = "vrf";

    fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError> {
        Ok(add::add(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        Ok(del::del(call, netns)?)
    }

    fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError> {
        Ok(check::check(call, netns)?)
    }

    /// A VRF goes with its container.
    fn gc(&self, _: &Upkeep) -> Result<(), CniError> {
        Ok(())
    }

    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(status::answer(upkeep, look(upkeep))?)
    }
}

fn look(upkeep: &Upkeep) -> plugin_interface::Result<()> {
    Conf::parse(&upkeep.conf)?;
    table::demand(&mut Rtnl::open()?)
}

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Vrf)
}
