//! Interfaces that are in the Pod alone: nothing of them is on the host, so that they go with the
//! Pod's namespace, and only a way into it leads to them.
//!
//! A plugin says what its interface is ([`Alone`]); [`add`] is the story of all of them.

mod add;
mod check;
mod del;

use std::marker::PhantomData;
use std::path::Path;
use std::process::ExitCode;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::{CniResult, IpConfig};
use kernel::MacAddress;
use kernel::Rtnl;
use kernel::link::Link;

pub use add::{New, Place};

use crate::addresses;
use crate::error::Result;
use crate::keys::Mtu;
use crate::mac;
use crate::master::Master;
use crate::status;
use crate::valid::Valid;

/// What a kind of interface is, as its network's configuration wants it.
pub trait Alone: Sized {
    /// The plugin's `type`.
    const NAME: &'static str;
    /// What the kernel calls the kind of its link.
    const KIND: &'static str;
    /// Reads and checks the plugin's keys.
    ///
    /// # Errors
    /// One of them is wrong.
    fn parse(conf: &NetConf, env: &Env) -> Result<Self>;

    /// `mtu`.
    fn mtu(&self) -> Mtu;

    /// The link below, if there is one below.
    fn master(&self) -> Option<&Master> {
        None
    }

    /// Whether the interface is of no use without an address of IPAM.
    fn needs_ipam(&self) -> bool {
        false
    }

    /// What plugins before this one in the chain gave, in place of IPAM.
    fn inherited(&self) -> Option<&CniResult> {
        None
    }

    /// The interface's hardware address; `None` leaves it to the kernel.
    fn mac(&self, attachment: &Attachment, ips: &[IpConfig]) -> Option<MacAddress> {
        Some(mac::of_container(attachment, ips))
    }

    /// Asks whether this kernel can make such links, and makes none.
    ///
    /// # Errors
    /// It cannot.
    fn probe(&self, host: &mut Rtnl) -> Result<()>;

    /// Makes the link in the container. Either it is there afterwards or nothing is.
    ///
    /// # Errors
    /// The kernel refuses.
    fn make(&self, place: &mut Place, new: &New<'_>) -> Result<()>;

    /// How the link differs from what was made.
    fn difference(&self, link: &Link) -> Option<String>;
}

/// The plugin of an interface.
struct Verbs<K>(PhantomData<K>);

impl<K: Alone> Plugin for Verbs<K> {
    const NAME: &'static str = K::NAME;

    fn add(&self, call: &Call, netns: &Path) -> std::result::Result<CniResult, CniError> {
        Ok(add::add::<K>(call, netns)?)
    }

    fn del(&self, call: &Call, netns: Option<&Path>) -> std::result::Result<(), CniError> {
        Ok(del::del(K::KIND, call, netns)?)
    }

    fn check(&self, call: &Call, netns: &Path) -> std::result::Result<(), CniError> {
        Ok(check::check::<K>(call, netns)?)
    }

    fn gc(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(gc(upkeep)?)
    }

    fn status(&self, upkeep: &Upkeep) -> std::result::Result<(), CniError> {
        Ok(status::answer(upkeep, look::<K>(upkeep))?)
    }
}

/// Runs the plugin of an interface.
pub fn main<K: Alone>() -> ExitCode {
    cni_conf::dispatch::main(&Verbs::<K>(PhantomData))
}

/// The interfaces of attachments that are not valid any more went with their namespaces.
fn gc(upkeep: &Upkeep) -> Result<()> {
    match Valid::of(upkeep)? {
        Some(_) => addresses::collect(upkeep),
        None => Ok(()),
    }
}

/// Looks at what an ADD would look at before IPAM, as far as it is on the host.
fn look<K: Alone>(upkeep: &Upkeep) -> Result<()> {
    let kind = K::parse(&upkeep.conf, &upkeep.env)?;
    if kind.needs_ipam() {
        addresses::demand(&upkeep.conf)?;
    }
    let mut host = Rtnl::open()?;
    let master = kind.master().filter(|master| !master.in_container);
    let lower = master.map(|master| master.find(&mut host)).transpose()?;
    add::mtu(&kind, &mut host, lower.as_ref())?;
    kind.probe(&mut host)
}
