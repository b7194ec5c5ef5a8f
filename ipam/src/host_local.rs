//! The plugin `host-local`: addresses of this node's own ranges, reserved on its disk.
//!
//! It touches no network namespace and no kernel object: what an ADD makes is one small file an
//! address, and what DEL, CHECK and GC need is in those files.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use cni_conf::conf::ValidAttachments;
use cni_conf::error::{CniError, Code};
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::{CniResult, Dns, IpConfig};

use crate::allocate::{self, AllocateError};
use crate::config::{self, Config};
use crate::range::Range;
use crate::range_set::RangeSet;
use crate::resolv_conf;
use crate::store::{Holder, Locked, Snapshot};

/// The plugin. It has no state but the files.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostLocal;

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";

    /// Reserves one address of each range set, all of them or none.
    fn add(&self, call: &Call, _netns: &Path) -> Result<CniResult, CniError> {
        let config = Config::parse(&call.conf, &call.env.args)?;
        config.require_ranges()?;
        let wishes = allocate::match_requests(&config.sets, &config.requested)?;
        let dns = dns(&config)?;

        // One hold of the lock for all sets: what the duplicate check saw is still so when the
        // last address is reserved.
        let locked = config.store.lock()?;
        let ips = reserve_all(&locked, &config.sets, &wishes, &holder(call))?;
        Ok(CniResult { interfaces: Vec::new(), ips, routes: config.routes, dns })
    }

    /// Gives back what the attachment has; of the configuration only `dataDir` and the network's
    /// name are read.
    fn del(&self, call: &Call, _netns: Option<&Path>) -> Result<(), CniError> {
        if let Some(locked) = config::store(&call.conf)?.lock_existing()? {
            locked.release(&holder(call))?;
        }
        Ok(())
    }

    /// The attachment has a reservation, and the addresses it was told are reserved for it.
    fn check(&self, call: &Call, _netns: &Path) -> Result<(), CniError> {
        let config = Config::parse(&call.conf, &call.env.args)?;
        config.require_ranges()?;
        let previous = call.conf.prev_result()?.unwrap_or_default();

        let reserved = match config.store.lock_existing()? {
            Some(locked) => locked.scan()?.addresses_of(&holder(call)),
            None => Vec::new(),
        };
        let told: Vec<IpAddr> = previous.ips.iter().map(|ip| ip.address.ip()).collect();
        check_reserved(&reserved, &told, &config.sets, &call.attachment.container_id)
    }

    fn gc(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        let ValidAttachments::Only(valid) = upkeep.conf.valid_attachments()? else {
            return Ok(());
        };
        let valid: HashSet<Holder> =
            valid.iter().map(|(container_id, ifname)| Holder::new(container_id, ifname)).collect();
        if let Some(locked) = config::store(&upkeep.conf)?.lock_existing()? {
            locked.retain(&valid)?;
        }
        Ok(())
    }

    /// The configuration is one an ADD accepts, and a reservation could be written. A full range
    /// is no reason to say no: the runtime would take the whole node out of service, and with it
    /// the containers whose end would free addresses.
    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        let config = Config::parse(&upkeep.conf, &upkeep.env.args)?;
        if !config::ranges_come_with_add(&upkeep.conf)? {
            config.require_ranges()?;
        }
        let ready = dns(&config).and_then(|_| Ok(config.store.probe()?));
        ready.map_err(|error| CniError { code: Code::NotAvailable, ..error })
    }
}

fn holder(call: &Call) -> Holder {
    Holder::new(&call.attachment.container_id, &call.attachment.ifname)
}

fn dns(config: &Config) -> Result<Dns, CniError> {
    let Some(path) = &config.resolv_conf else {
        return Ok(Dns::default());
    };
    resolv_conf::read(path).map_err(|error| {
        CniError::new(Code::Io, format!("open {}: {error}", path.display()))
            .with_details("ipam.resolvConf must name a readable file in the format of resolv.conf")
    })
}

/// Reserves an address of each set; on an error, what this call has reserved is free again.
fn reserve_all(
    locked: &Locked,
    sets: &[RangeSet],
    wishes: &[Option<IpAddr>],
    holder: &Holder,
) -> Result<Vec<IpConfig>, CniError> {
    let present = locked.scan()?;
    allocate::check_duplicate(sets, &present.addresses_of(holder), holder.container_id())?;

    let mut ips = Vec::with_capacity(sets.len());
    for (index, (set, wish)) in sets.iter().zip(wishes).enumerate() {
        match reserve_one(locked, &present, (index, set), *wish, holder) {
            Ok(ip) => ips.push(ip),
            Err(error) => {
                take_back(locked, &ips);
                return Err(error);
            }
        }
    }
    Ok(ips)
}

/// What cannot be taken back is left to the DEL that a runtime sends after a failed ADD; the first
/// error is the one to report.
fn take_back(locked: &Locked, ips: &[IpConfig]) {
    for ip in ips {
        locked.unreserve(ip.address.ip()).ok();
    }
}

/// Reserves the address asked for, or the next free one, and notes it as the set's last.
fn reserve_one(
    locked: &Locked,
    present: &Snapshot,
    (index, set): (usize, &RangeSet),
    wish: Option<IpAddr>,
    holder: &Holder,
) -> Result<IpConfig, CniError> {
    let ip = match wish {
        Some(address) => {
            let only = set.range_of(address).map(|range| (address, range));
            let taken = || AllocateError::RequestedTaken { index, address, set: set.to_string() };
            reserve_first(locked, only.into_iter(), holder)?.ok_or_else(taken)?
        }
        None => {
            let candidates = allocate::candidates(set, locked.last_reserved(index));
            let free = candidates.filter(|(address, _)| !present.is_taken(*address));
            let exhausted = || AllocateError::Exhausted { index, set: set.to_string() };
            reserve_first(locked, free, holder)?.ok_or_else(exhausted)?
        }
    };
    if let Err(error) = locked.set_last_reserved(index, ip.address.ip()) {
        take_back(locked, &[ip]);
        return Err(error.into());
    }
    Ok(ip)
}

/// Reserves the first candidate that nobody has.
fn reserve_first<'a>(
    locked: &Locked,
    candidates: impl Iterator<Item = (IpAddr, &'a Range)>,
    holder: &Holder,
) -> Result<Option<IpConfig>, CniError> {
    for (address, range) in candidates {
        if locked.reserve(address, holder)? {
            return Ok(Some(IpConfig {
                interface: None,
                address: range.with_prefix(address),
                gateway: Some(range.gateway()),
            }));
        }
    }
    Ok(None)
}

/// Compares the reservations with what ADD told.
///
/// Of `told`, only what lies in this plugin's ranges is its business: others in the chain may
/// have added addresses.
fn check_reserved(
    reserved: &[IpAddr],
    told: &[IpAddr],
    sets: &[RangeSet],
    container_id: &str,
) -> Result<(), CniError> {
    let failed = |details: String| {
        let msg = format!("host-local: Failed to find address added by container {container_id}");
        Err(CniError::new(Code::CheckFailed, msg).with_details(details))
    };
    if reserved.is_empty() {
        return failed("no reservation names this container and interface; ADD it again".into());
    }
    let is_ours = |address: &&IpAddr| sets.iter().any(|set| set.contains(**address));
    if let Some(address) = told.iter().filter(is_ours).find(|told| !reserved.contains(told)) {
        return failed(format!(
            "prevResult has {address}, which is not reserved for this container and interface; \
             DEL and ADD it again"
        ));
    }
    if !told.is_empty() && !reserved.iter().any(|address| told.contains(address)) {
        return failed(format!(
            "prevResult has none of the addresses reserved for this container and interface \
             ({reserved:?}); DEL and ADD it again"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
