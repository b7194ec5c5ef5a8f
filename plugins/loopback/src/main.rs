//! The CNI plugin `loopback`: brings up a container's interface `lo`.
//!
//! The kernel itself gives `lo` the addresses 127.0.0.1/8 and, where there is IPv6, ::1/128 when
//! it comes up. CNI_IFNAME is ignored, as the reference does. The plugin may stand anywhere in a
//! chain: what the plugins before it answered is passed on as it came.

#![forbid(unsafe_code)]

mod error;

use std::path::Path;
use std::process::ExitCode;

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::error::CniError;
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::{CniResult, Interface, IpConfig};
use kernel::address::Address;
use kernel::link::{Link, set_down, set_up};
use kernel::{NetNs, Rtnl};

use error::Error;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The name of the loopback interface in every network namespace.
const LO: &str = "lo";

fn main() -> ExitCode {
    cni_conf::dispatch::main(&Loopback)
}

struct Loopback;

impl Plugin for Loopback {
    const NAME: &'static str = "loopback";

    /// Afterwards `lo` is up; if it cannot be, it is as it was.
    fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError> {
        let previous = call.conf.prev_result()?;
        let mut rtnl = open(netns, &call.env)?;
        let lo = lo(&mut rtnl)?;
        only_loopback(&mut rtnl, &lo)?;

        rtnl.request(&set_up(lo.index)).map_err(Error::from)?;
        match only_loopback(&mut rtnl, &lo) {
            Ok(addresses) => Ok(previous.unwrap_or_else(|| result(&lo, &addresses, netns))),
            Err(error) => Err(undone(&mut rtnl, &lo, error.into())),
        }
    }

    /// Afterwards `lo` is down. A network namespace that is gone took its `lo` with
    /// it, and the host's own is no container's.
    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError> {
        let Some(netns) = netns else { return Ok(()) };
        let mut rtnl = match open(netns, &call.env) {
            Err(Error::Netns(error)) if error.is_no_container() => return Ok(()),
            opened => opened?,
        };
        let lo = lo(&mut rtnl)?;
        Ok(rtnl.request(&set_down(lo.index)).map_err(Error::from)?)
    }

    fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError> {
        let expected = listed_addresses(&call.conf)?;
        let mut rtnl = open(netns, &call.env)?;
        let lo = lo(&mut rtnl)?;
        if !lo.is_up() {
            return Err(Error::Down.into());
        }
        let found = rtnl.addresses(lo.index).map_err(Error::from)?;
        match expected.iter().find(|ip| !found.iter().any(|own| own.address == ip.address)) {
            Some(ip) => Err(Error::AddressMissing(ip.address).into()),
            None => Ok(()),
        }
    }

    /// `lo` goes with its network namespace, so nothing is ever left behind.
    fn gc(&self, _: &Upkeep) -> Result<(), CniError> {
        Ok(())
    }

    /// Every network namespace has a `lo`, so an ADD always works.
    fn status(&self, _: &Upkeep) -> Result<(), CniError> {
        Ok(())
    }
}

/// A routing socket in the container's network namespace.
fn open(netns: &Path, env: &Env) -> Result<Rtnl, Error> {
    // A recycled /proc/PID/ns/net can be the node's own, whose `lo` must never go down.
    Ok(Rtnl::open_in(&NetNs::open_container(netns, env.netns_override)?)?)
}

fn lo(rtnl: &mut Rtnl) -> Result<Link, Error> {
    rtnl.link_by_name(LO)?.ok_or(Error::NoLo)
}

/// The addresses of `lo`, IPv4 first. One that is no loopback address is an error: then somebody
/// uses `lo` for something else.
fn only_loopback(rtnl: &mut Rtnl, lo: &Link) -> Result<Vec<Address>, Error> {
    let mut addresses = rtnl.addresses(lo.index)?;
    if let Some(foreign) = addresses.iter().find(|own| !own.address.ip().is_loopback()) {
        return Err(Error::NotLoopback(foreign.address));
    }
    addresses.sort_by_key(|own| own.address.is_ipv6());
    Ok(addresses)
}

fn result(lo: &Link, addresses: &[Address], netns: &Path) -> CniResult {
    let interface = Interface {
        name: LO.to_owned(),
        mac: lo.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        sandbox: netns.display().to_string(),
        ..Interface::default()
    };
    let ips = addresses
        .iter()
        .map(|own| IpConfig { interface: Some(0), address: own.address, gateway: None })
        .collect();
    CniResult { interfaces: vec![interface], ips, ..CniResult::default() }
}

/// Takes `lo` down again after a failure, if it was down before.
fn undone(rtnl: &mut Rtnl, before: &Link, error: CniError) -> CniError {
    if before.is_up() {
        return error;
    }
    match rtnl.request(&set_down(before.index)) {
        Ok(()) => error,
        Err(undo) => error.with_details(format!("taking lo down again failed too: {undo}")),
    }
}

/// The addresses of `lo` that `prevResult` lists: those this plugin answered with, if it was the
/// first of the chain.
fn listed_addresses(conf: &NetConf) -> Result<Vec<IpConfig>, CniError> {
    let previous = conf.prev_result()?.unwrap_or_default();
    let is_lo = |ip: &IpConfig| {
        ip.interface
            .and_then(|index| previous.interfaces.get(index))
            .is_some_and(|interface| interface.name == LO && !interface.sandbox.is_empty())
    };
    Ok(previous.ips.iter().filter(|ip| is_lo(ip)).cloned().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
