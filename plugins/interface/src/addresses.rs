//! What IPAM gives to an attachment, and takes back.

use std::path::Path;

use cni_conf::conf::NetConf;
use cni_conf::plugin::{Call, Upkeep};
use cni_conf::result::{CniResult, Dns};
use ipam::Ipam;

use crate::error::{Error, Result};

/// Where the addresses of a call come from.
#[derive(Debug)]
pub struct Addresses {
    ipam: Option<Ipam>,
    need_the_link: bool,
    dns: Option<Dns>,
}

impl Addresses {
    /// The IPAM and the name servers that the configuration names.
    ///
    /// # Errors
    /// `ipam` or `dns` is wrong, or there is no such IPAM.
    pub fn of(call: &Call) -> Result<Self> {
        Ok(Addresses {
            dns: call.conf.dns()?,
            ipam: Ipam::resolve(&call.conf, &call.env)?,
            need_the_link: call.conf.ipam_type()?.is_some_and(|name| name == "dhcp"),
        })
    }

    /// As [`Addresses::of`], for an interface that is of no use without an address.
    ///
    /// # Errors
    /// Also if the configuration names no IPAM.
    pub fn demanded(call: &Call) -> Result<Self> {
        demand(&call.conf)?;
        Self::of(call)
    }

    /// Whether IPAM asks for the addresses by way of the interface, which must be there then.
    pub fn need_the_link(&self) -> bool {
        self.need_the_link
    }

    /// The addresses, routes and name servers for the attachment; nothing, for a network without
    /// addresses. From here on a failure must be undone.
    ///
    /// # Errors
    /// IPAM's own, or it gave no address. Nothing stays allocated.
    pub fn assign(&self, call: &Call, netns: &Path) -> Result<CniResult> {
        let mut assigned = match &self.ipam {
            Some(ipam) => ipam.add(call, netns)?,
            None => CniResult::default(),
        };
        if let Some(ipam) = self.ipam.as_ref().filter(|_| assigned.ips.is_empty()) {
            let released = ipam.del(call, Some(netns)).map_err(Error::from);
            return Err(Error::NoAddresses.undone(released));
        }
        if let Some(dns) = &self.dns {
            assigned.dns = dns.clone();
        }
        Ok(assigned)
    }
}

/// Refuses a configuration without IPAM.
///
/// # Errors
/// It names none.
pub fn demand(conf: &NetConf) -> Result<()> {
    let reason = "is needed: give it a type and a range, such as {\"type\": \"host-local\", …}";
    match conf.ipam_type()? {
        Some(_) => Ok(()),
        None => Err(Error::Config { key: "ipam", value: "{}".into(), reason: reason.into() }),
    }
}

/// Gives the attachment's addresses back.
///
/// # Errors
/// IPAM's own, or there is no such IPAM.
pub fn release(call: &Call, netns: Option<&Path>) -> Result<()> {
    match Ipam::resolve(&call.conf, &call.env)? {
        Some(ipam) => Ok(ipam.del(call, netns)?),
        None => Ok(()),
    }
}

/// Asks whether the attachment's addresses are still its own.
///
/// # Errors
/// IPAM's own, or there is no such IPAM.
pub fn check(call: &Call, netns: &Path) -> Result<()> {
    match Ipam::resolve(&call.conf, &call.env)? {
        Some(ipam) => Ok(ipam.check(call, netns)?),
        None => Ok(()),
    }
}

/// Gives back the addresses of attachments that are not valid any more.
///
/// # Errors
/// IPAM's own, or there is no such IPAM.
pub fn collect(upkeep: &Upkeep) -> Result<()> {
    match Ipam::resolve(&upkeep.conf, &upkeep.env)? {
        Some(ipam) => Ok(ipam.gc(upkeep)?),
        None => Ok(()),
    }
}

/// Asks whether the next attachment would get addresses.
///
/// # Errors
/// IPAM's own, or there is no such IPAM.
pub fn status(upkeep: &Upkeep) -> Result<()> {
    match Ipam::resolve(&upkeep.conf, &upkeep.env)? {
        Some(ipam) => Ok(ipam.status(upkeep)?),
        None => Ok(()),
    }
}
