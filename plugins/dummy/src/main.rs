//! The CNI plugin `dummy`: gives a container an interface that leads nowhere.
//!
//! It holds addresses that must be there without traffic, such as one that a service listens on.
//! The story of its ADD is [`plugin_interface::alone`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use kernel::Rtnl;
use kernel::link::{Kind, Link};
use plugin_interface::alone::{self, New, Place};
use plugin_interface::keys::Mtu;
use plugin_interface::{Alone, Result, kind};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The plugin's keys, checked.
struct Dummy {
    /// `mtu`.
    mtu: Mtu,
}

impl Alone for Dummy {
    const NAME: &'static str = "dummy";
    const KIND: &'static str = "dummy";

    fn parse(conf: &NetConf, _: &Env) -> Result<Self> {
        Ok(Dummy { mtu: Mtu::parse(conf)? })
    }

    fn mtu(&self) -> Mtu {
        self.mtu
    }

    fn needs_ipam(&self) -> bool {
        true
    }

    fn probe(&self, host: &mut Rtnl) -> Result<()> {
        kind::demand(host, Kind::Dummy)
    }

    fn make(&self, place: &mut Place, new: &New<'_>) -> Result<()> {
        place.create(Kind::Dummy, new)
    }

    fn difference(&self, _: &Link) -> Option<String> {
        None
    }
}

fn main() -> ExitCode {
    alone::main::<Dummy>()
}
