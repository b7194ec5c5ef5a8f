//! The CNI plugin `ipvlan`: gives a container addresses behind the hardware address of a link of the
//! host.
//!
//! In a chain it may take the link and the addresses of the plugin before it. The story of its ADD
//! is [`plugin_interface::alone`].
#![forbid(unsafe_code)]

mod conf;

use std::process::ExitCode;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::{CniResult, IpConfig};
use kernel::link::{Kind, Link};
use kernel::{MacAddress, Rtnl};
use plugin_interface::alone::{self, New, Place};
use plugin_interface::keys::Mtu;
use plugin_interface::master::Master;
use plugin_interface::{Alone, Result, kind};

use conf::Ipvlan;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

impl Alone for Ipvlan {
    const NAME: &'static str = "ipvlan";
    const KIND: &'static str = "ipvlan";

    fn parse(conf: &NetConf, env: &Env) -> Result<Self> {
        Ipvlan::parse(conf, env)
    }

    fn mtu(&self) -> Mtu {
        self.mtu
    }

    fn master(&self) -> Option<&Master> {
        Some(&self.master)
    }

    fn needs_ipam(&self) -> bool {
        self.inherited.is_none()
    }

    fn inherited(&self) -> Option<&CniResult> {
        self.inherited.as_ref()
    }

    fn mac(&self, _: &Attachment, _: &[IpConfig]) -> Option<MacAddress> {
        None
    }

    fn probe(&self, host: &mut Rtnl) -> Result<()> {
        kind::demand(host, Kind::Ipvlan { mode: self.mode })
    }

    fn make(&self, place: &mut Place, new: &New<'_>) -> Result<()> {
        place.create(Kind::Ipvlan { mode: self.mode }, new)
    }

    fn difference(&self, link: &Link) -> Option<String> {
        let differs = link.made_as != Some(Kind::Ipvlan { mode: self.mode });
        differs.then(|| format!("{:?} is not in mode {:?}", link.name, self.mode))
    }
}

fn main() -> ExitCode {
    alone::main::<Ipvlan>()
}
