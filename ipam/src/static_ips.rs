//! The plugin `static`: the addresses that the configuration names, or the runtime with each ADD.
//!
//! It keeps nothing and touches nothing: whoever writes the addresses sees to it that no two
//! attachments have the same.

mod config;

use std::path::Path;

use cni_conf::error::{CniError, Code};
use cni_conf::plugin::{Call, Plugin, Upkeep};
use cni_conf::result::{CniResult, IpConfig};

pub use config::{Config, ConfigError};

/// The plugin. It has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Static;

impl Plugin for Static {
    const NAME: &'static str = "static";

    /// Answers with the addresses. None at all is refused, since the plugin that asked would fail
    /// with less to say about the cause.
    fn add(&self, call: &Call, _netns: &Path) -> Result<CniResult, CniError> {
        let config = Config::parse(&call.conf, &call.env.args)?;
        config.require_addresses()?;
        let Config { addresses, routes, dns } = config;
        Ok(CniResult { interfaces: Vec::new(), ips: addresses, routes, dns })
    }

    /// Nothing was made, so nothing of the configuration is read, which may be broken.
    fn del(&self, _call: &Call, _netns: Option<&Path>) -> Result<(), CniError> {
        Ok(())
    }

    /// What ADD would answer now is what it answered then.
    fn check(&self, call: &Call, _netns: &Path) -> Result<(), CniError> {
        let config = Config::parse(&call.conf, &call.env.args)?;
        config.require_addresses()?;
        let missing = || {
            CniError::new(Code::CheckFailed, "required prevResult missing")
                .with_details("CHECK needs the result of the ADD")
        };
        let previous = call.conf.prev_result()?.ok_or_else(missing)?;
        check_told(&config.addresses, &previous.ips, &call.attachment.ifname)
    }

    fn gc(&self, _upkeep: &Upkeep) -> Result<(), CniError> {
        Ok(())
    }

    /// The configuration is one an ADD accepts. Addresses may come with the ADD alone, so their
    /// absence says nothing.
    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError> {
        let config = Config::parse(&upkeep.conf, &upkeep.env.args);
        config.map(drop).map_err(|error| CniError { code: Code::NotAvailable, ..error })
    }
}

/// Each of `configured` is in `told`, with its gateway if it has one: without one, the plugin that
/// asked may have chosen a gateway itself. Others in the chain may have added addresses.
fn check_told(configured: &[IpConfig], told: &[IpConfig], ifname: &str) -> Result<(), CniError> {
    for IpConfig { address, gateway, .. } in configured {
        let failed = |details: String| {
            let msg =
                format!("static: Failed to match addr {} on interface {ifname}", address.ip());
            Err(CniError::new(Code::CheckFailed, msg).with_details(details))
        };
        let Some(ip) = told.iter().find(|ip| ip.address == *address) else {
            return failed(format!(
                "prevResult does not have {address}, which is configured; DEL and ADD it again"
            ));
        };
        if gateway.is_some() && ip.gateway != *gateway {
            return failed(format!(
                "the gateway of {address} is {} in prevResult and {} in the configuration; DEL \
                 and ADD it again",
                or_none(ip.gateway),
                or_none(*gateway)
            ));
        }
    }
    Ok(())
}

fn or_none(gateway: Option<std::net::IpAddr>) -> String {
    gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string())
}

#[cfg(test)]
mod tests;
