//! The CNI plugin `macvlan`: gives a container a hardware address of its own on a link of the host.
//!
//! The host itself cannot reach it by that link; whoever else is on the link can. The story of its
//! ADD is [`plugin_interface::alone`].
#![forbid(unsafe_code)]

mod conf;

use std::process::ExitCode;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::IpConfig;
use kernel::link::{Kind, Link, MacvlanMode};
use kernel::{MacAddress, Rtnl};
use plugin_interface::alone::{self, New, Place};
use plugin_interface::keys::Mtu;
use plugin_interface::master::Master;
use plugin_interface::{Alone, Result, kind, mac};

use conf::Macvlan;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

impl Alone for Macvlan {
    const NAME: &'static str = "macvlan";
    const KIND: &'static str = "macvlan";

    fn parse(conf: &NetConf, env: &Env) -> Result<Self> {
        Macvlan::parse(conf, env)
    }

    fn mtu(&self) -> Mtu {
        self.mtu
    }

    fn master(&self) -> Option<&Master> {
        Some(&self.master)
    }

    /// In passthru mode the interface takes over the hardware address of the link below.
    fn mac(&self, attachment: &Attachment, ips: &[IpConfig]) -> Option<MacAddress> {
        let derived = || mac::of_container(attachment, ips);
        (self.mode != MacvlanMode::Passthru).then(|| self.mac.unwrap_or_else(derived))
    }

    fn probe(&self, host: &mut Rtnl) -> Result<()> {
        kind::demand(host, self.kind())
    }

    fn make(&self, place: &mut Place, new: &New<'_>) -> Result<()> {
        place.create(self.kind(), new)
    }

    fn difference(&self, link: &Link) -> Option<String> {
        let name = &link.name;
        let Some(Kind::Macvlan { mode, broadcast_queue }) = link.made_as else {
            return Some(format!("{name:?} is in a mode that is none of ours"));
        };
        if mode != self.mode {
            return Some(format!("{name:?} is in mode {mode:?}, not {:?}", self.mode));
        }
        let wanted = self.broadcast_queue.filter(|_| broadcast_queue != self.broadcast_queue)?;
        Some(format!("{name:?} has not the bcqueuelen {wanted}"))
    }
}

impl Macvlan {
    fn kind(&self) -> Kind {
        Kind::Macvlan { mode: self.mode, broadcast_queue: self.broadcast_queue }
    }
}

fn main() -> ExitCode {
    alone::main::<Macvlan>()
}
