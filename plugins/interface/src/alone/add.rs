//! ADD, from top to bottom.
//!
//! Until IPAM has given addresses nothing is changed, so every refusal up to there leaves nothing
//! behind. What is made carries the attachment's alias from the second request on; killed before,
//! an ADD leaves a link without one, which DEL takes for ours too.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use kernel::link::{self, Kind, Link, NewLink};
use kernel::{MacAddress, Rtnl};

use super::{Alone, del};
use crate::addresses::Addresses;
use crate::container_end::Container;
use crate::error::{Error, Result};
use crate::inside::Inside;
use crate::report;

/// Gives the container its interface.
pub(super) fn add<K: Alone>(call: &Call, netns: &Path) -> Result<CniResult> {
    let kind = K::parse(&call.conf, &call.env)?;
    let addresses =
        if kind.needs_ipam() { Addresses::demanded(call)? } else { Addresses::of(call)? };
    let mut place = Place::inspect(call, netns, &kind)?;

    let mut assigned = match kind.inherited() {
        Some(inherited) => inherited.clone(),
        None if addresses.need_the_link() => CniResult::default(),
        None => addresses.assign(call, netns)?,
    };
    let link = place.make(&kind, call, &assigned).map_err(|(error, made)| {
        let undone = if made { del::undo::<K>(call, netns) } else { del::release(call, netns) };
        error.undone(undone)
    })?;
    let undo = |error: Error| error.undone(del::undo::<K>(call, netns));
    if addresses.need_the_link() {
        place.container.bring_up(&link, &Inside::default()).map_err(undo)?;
        assigned = addresses.assign(call, netns).map_err(undo)?;
    }
    let inside = Inside { ips: assigned.ips, routes: assigned.routes, ..Inside::default() };
    place.container.bring_up(&link, &inside).map_err(undo)?;

    let name = &call.attachment.ifname;
    Ok(CniResult {
        interfaces: vec![report::in_container(name, link.mac, Some(link.mtu), netns)],
        ips: inside.ips_of(0),
        routes: inside.routes,
        dns: assigned.dns,
    })
}

/// What a new interface gets.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// CNI_IFNAME.
    pub name: &'a str,
    /// Its hardware address; the kernel's choice if none is given.
    pub mac: Option<MacAddress>,
    /// Its MTU in bytes; the kernel's choice if none is given.
    pub mtu: Option<u32>,
}

/// Where the work is done: the host, the container, and the link below.
#[derive(Debug)]
pub struct Place {
    host: Rtnl,
    /// The container.
    pub container: Container,
    /// The link below, where it is.
    pub lower: Option<Link>,
    lower_in_container: bool,
    mtu: Option<u32>,
}

impl Place {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect<K: Alone>(call: &Call, netns: &Path, kind: &K) -> Result<Self> {
        let mut container = Container::open(call, netns)?;
        container.check_free(&call.attachment.ifname, netns)?;
        let mut host = Rtnl::open()?;
        let (mut lower, mut lower_in_container) = (None, false);
        if let Some(master) = kind.master() {
            lower_in_container = master.in_container;
            let rtnl = if lower_in_container { &mut container.rtnl } else { &mut host };
            lower = Some(master.find(rtnl)?);
        }
        let mtu = mtu(kind, &mut host, lower.as_ref())?;
        Ok(Place { host, container, lower, lower_in_container, mtu })
    }

    /// Makes a link of this kind directly in the container's namespace, on top of the link below.
    ///
    /// # Errors
    /// The kernel refuses; then nothing was made.
    pub fn create(&mut self, kind: Kind, new: &New<'_>) -> Result<()> {
        // The link below is named by its index, in the namespace that the request is sent from.
        let from_host = !self.lower_in_container;
        let namespace = from_host.then_some(&self.container.netns);
        let lower = self.lower.as_ref().map(|lower| lower.index);
        let New { name, mac, mtu } = *new;
        let request = NewLink { name, kind, namespace, lower, mac, mtu, up: false }.create();
        let rtnl = if from_host { &mut self.host } else { &mut self.container.rtnl };
        rtnl.request(&request).map_err(|error| Error::of_kind(kind, error))
    }

    /// Makes the link and marks it; with an error comes whether there may be something to undo.
    fn make<K: Alone>(
        &mut self,
        kind: &K,
        call: &Call,
        assigned: &CniResult,
    ) -> std::result::Result<Link, (Error, bool)> {
        let attachment = &call.attachment;
        let name = attachment.ifname.as_str();
        let new = New { name, mac: kind.mac(attachment, &assigned.ips), mtu: self.mtu };
        kind.make(self, &new).map_err(|error| {
            let refused = error.is_refusal();
            (error, !refused)
        })?;
        self.mark(name, &attachment.alias()).map_err(|error| (error, true))
    }

    fn mark(&mut self, name: &str, alias: &str) -> Result<Link> {
        let made = self.container.rtnl.link_by_name(name)?;
        let made = made.ok_or_else(|| Error::Vanished { thing: format!("link {name:?}") })?;
        self.container.rtnl.request(&link::set_alias(made.index, alias))?;
        Ok(made)
    }
}

/// The MTU for the interface, which the link below must allow.
pub(super) fn mtu<K: Alone>(
    kind: &K,
    host: &mut Rtnl,
    lower: Option<&Link>,
) -> Result<Option<u32>> {
    let mtu = kind.mtu().resolve(host)?;
    match (mtu, lower) {
        (Some(mtu), Some(lower)) if mtu > lower.mtu => {
            let reason = format!(
                "must be at most {} bytes, the MTU of the link {:?} below",
                lower.mtu, lower.name
            );
            Err(Error::Config { key: "mtu", value: mtu.to_string(), reason })
        }
        _ => Ok(mtu),
    }
}
