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
use cni_conf::result::{CniResult, Dns};

use crate::allocate::{self, AllocateError};
use crate::assign::assign;
use crate::config::{self, Config};
use crate::range_set::RangeSet;
use crate::resolv_conf;
use crate::store::{Holder, OfEarlierBoots};

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
        let mut ledger = config.store.lock()?.ledger(config.earlier_boots)?;
        let ips = assign(&mut ledger, &config, &wishes, &holder(call));
        ledger.close();
        Ok(CniResult { interfaces: Vec::new(), ips: ips?, routes: config.routes, dns })
    }

    /// Gives back what the attachment has; of the configuration only `dataDir` and the network's
    /// name are read.
    fn del(&self, call: &Call, _netns: Option<&Path>) -> Result<(), CniError> {
        let Some(locked) = config::store(&call.conf)?.lock_existing()? else { return Ok(()) };
        let mut ledger = locked.ledger(OfEarlierBoots::Keep)?;
        let released = ledger.release(&holder(call));
        ledger.close();
        Ok(released.map(drop)?)
    }

    /// The attachment has a reservation, and the addresses it was told are reserved for it.
    fn check(&self, call: &Call, _netns: &Path) -> Result<(), CniError> {
        let config = Config::parse(&call.conf, &call.env.args)?;
        config.require_ranges()?;
        let previous = call.conf.prev_result()?.unwrap_or_default();

        let reserved = match config.store.lock_existing()? {
            Some(locked) => {
                let mut ledger = locked.ledger(OfEarlierBoots::Keep)?;
                let reserved = ledger.addresses_of(&holder(call))?;
                ledger.close();
                reserved
            }
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
        let Some(locked) = config::store(&upkeep.conf)?.lock_existing()? else { return Ok(()) };
        let mut ledger = locked.ledger(OfEarlierBoots::Keep)?;
        let removed = ledger.retain(&valid);
        ledger.close();
        Ok(removed.map(drop)?)
    }

    /// The configuration is one an ADD accepts, and a reservation could be written. A full range
    /// is no reason to say no unless it was asked for: the runtime would take the whole node out of
    /// service, and with it the containers whose end would free addresses.
    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        let config = Config::parse(&upkeep.conf, &upkeep.env.args)?;
        if !config::ranges_come_with_add(&upkeep.conf)? {
            config.require_ranges()?;
        }
        let ready = dns(&config).and_then(|_| Ok(config.store.probe()?));
        let ready =
            ready.and_then(|()| if config.status_when_full { check_room(&config) } else { Ok(()) });
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

/// Every set has an address that nobody has.
fn check_room(config: &Config) -> Result<(), CniError> {
    let Some(locked) = config.store.lock_existing()? else { return Ok(()) };
    let mut ledger = locked.ledger(OfEarlierBoots::Keep)?;
    for (index, set) in config.sets.iter().enumerate() {
        if allocate::choose(set, None, &[], |from, to| ledger.next_free(from, to))?.is_none() {
            let full = AllocateError::Exhausted { index, set: set.to_string() };
            let counts = format!("free: 0, used: {}; {}", set.usable(), full.remedy());
            return Err(CniError::from(full).with_details(counts));
        }
    }
    ledger.close();
    Ok(())
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
