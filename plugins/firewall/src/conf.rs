//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use plugin_interface::{Error, Result};

/// The admin's chain, unless the configuration names another.
const ADMIN_CHAIN: &str = "CNI-ADMIN";
/// The longest name that `iptables` takes for a chain, in bytes.
const CHAIN_NAME_MAX: usize = 28;
/// Names that have a meaning already.
const TAKEN: [&str; 4] = ["INPUT", "FORWARD", "OUTPUT", crate::filter::PRIVATE];
/// All of them are served by nf_tables.
const BACKENDS: [&str; 4] = ["", "iptables", "nftables", "firewalld"];

/// Who may reach the network's containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Everybody.
    Open,
    /// Not the containers of other bridges with a policy.
    SameBridge,
    /// As [`Policy::SameBridge`], nor the others on its bridge.
    Isolated,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `ingressPolicy`.
    pub(crate) policy: Policy,
    /// `iptablesAdminChainName`: the chain that packets pass before the containers' own rules.
    pub(crate) admin_chain: String,
}

impl Conf {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf) -> Result<Conf> {
        let text = |key| Ok::<String, Error>(conf.get(key)?.unwrap_or_default());
        let backend = text("backend")?;
        if !BACKENDS.contains(&backend.as_str()) {
            let reason = "must be \"iptables\", \"nftables\" or \"firewalld\", or left out";
            return Err(wrong("backend", &backend, reason));
        }
        // There is no firewalld behind this plugin, so that the zone is only looked at.
        text("firewalldZone")?;
        let policy = policy(&text("ingressPolicy")?)?;
        Ok(Conf { policy, admin_chain: admin_chain(text("iptablesAdminChainName")?)? })
    }
}

impl Policy {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Open => "open",
            Policy::SameBridge => "same-bridge",
            Policy::Isolated => "isolated",
        }
    }
}

fn policy(name: &str) -> Result<Policy> {
    if name.is_empty() {
        return Ok(Policy::Open);
    }
    let all = [Policy::Open, Policy::SameBridge, Policy::Isolated];
    let reason = "unknown ingress policy: it must be \"open\", \"same-bridge\" or \"isolated\"";
    let found = all.into_iter().find(|policy| policy.name() == name);
    found.ok_or_else(|| wrong("ingressPolicy", name, reason))
}

fn admin_chain(name: String) -> Result<String> {
    if name.is_empty() {
        return Ok(ADMIN_CHAIN.into());
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\'".contains(&byte);
    let starts_well = !name.starts_with(['-', '!']);
    if name.len() > CHAIN_NAME_MAX || !name.bytes().all(plain) || !starts_well {
        let reason = "is no name for a chain: it must have at most 28 letters, digits or marks, and \
                      none of \"-\" and \"!\" before the others";
        return Err(wrong("iptablesAdminChainName", &name, reason));
    }
    if TAKEN.contains(&name.as_str()) {
        let reason = "is a chain with another meaning; choose another name";
        return Err(wrong("iptablesAdminChainName", &name, reason));
    }
    Ok(name)
}

/// An error that names the key, its value and the rule.
pub(crate) fn wrong(key: &'static str, value: &str, reason: &str) -> Error {
    Error::Config { key, value: format!("{value:?}"), reason: reason.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Conf> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "firewall" {keys}}}"#);
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn every_backend_is_served_and_the_default_is_open() {
        let default = Conf { policy: Policy::Open, admin_chain: "CNI-ADMIN".into() };
        assert_eq!(parse("").unwrap(), default);
        for backend in BACKENDS {
            let keys = format!(r#", "backend": "{backend}", "firewalldZone": "trusted""#);
            assert_eq!(parse(&keys).unwrap(), default, "{backend}");
        }
        let keys = r#", "ingressPolicy": "isolated", "iptablesAdminChainName": "MINE""#;
        let asked = Conf { policy: Policy::Isolated, admin_chain: "MINE".into() };
        assert_eq!(parse(keys).unwrap(), asked);
    }

    #[test]
    fn wrong_values_name_key_and_value() {
        for (keys, words) in [
            (r#", "backend": "ipfw""#, "backend \"ipfw\""),
            (r#", "ingressPolicy": "closed""#, "unknown ingress policy"),
            (r#", "iptablesAdminChainName": "-j""#, "iptablesAdminChainName \"-j\""),
            (r#", "iptablesAdminChainName": "a b""#, "iptablesAdminChainName \"a b\""),
            (r#", "iptablesAdminChainName": "FORWARD""#, "another meaning"),
            (r#", "iptablesAdminChainName": "A2345678901234567890123456789""#, "at most 28"),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
