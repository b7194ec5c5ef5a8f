//! The CNI plugin `tap`: gives a container an interface whose other end is a file of a process, such
//! as a virtual machine's.
//!
//! The story of its ADD is [`plugin_interface::alone`].
#![forbid(unsafe_code)]

mod conf;
mod make;

use std::process::ExitCode;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::IpConfig;
use kernel::link::Link;
use kernel::{MacAddress, Rtnl};
use plugin_interface::alone::{self, New, Place};
use plugin_interface::keys::Mtu;
use plugin_interface::{Alone, Result, mac};

use conf::Tap;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

impl Alone for Tap {
    const NAME: &'static str = "tap";
    const KIND: &'static str = "tun";

    fn parse(conf: &NetConf, env: &Env) -> Result<Self> {
        Tap::parse(conf, env)
    }

    fn mtu(&self) -> Mtu {
        self.mtu
    }

    fn mac(&self, attachment: &Attachment, ips: &[IpConfig]) -> Option<MacAddress> {
        Some(self.mac.unwrap_or_else(|| mac::of_container(attachment, ips)))
    }

    fn probe(&self, _: &mut Rtnl) -> Result<()> {
        Ok(kernel::tun::probe()?)
    }

    fn make(&self, place: &mut Place, new: &New<'_>) -> Result<()> {
        make::make(self, &mut place.container, new)
    }

    fn difference(&self, link: &Link) -> Option<String> {
        let bridge = self.bridge.as_ref().filter(|_| link.master.is_none())?;
        Some(format!("{:?} is no port of the container's bridge {bridge:?}", link.name))
    }
}

fn main() -> ExitCode {
    alone::main::<Tap>()
}
