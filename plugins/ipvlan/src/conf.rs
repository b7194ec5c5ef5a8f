//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::CniResult;
use kernel::link::IpvlanMode;
use plugin_interface::keys::Mtu;
use plugin_interface::master::Master;
use plugin_interface::{Error, Result};

/// The plugin's keys, checked.
#[derive(Debug)]
pub(crate) struct Ipvlan {
    /// `master` and `linkInContainer`.
    pub(crate) master: Master,
    /// `mode`.
    pub(crate) mode: IpvlanMode,
    /// `mtu`.
    pub(crate) mtu: Mtu,
    /// What the plugin before this one gave, where there is no `ipam`.
    pub(crate) inherited: Option<CniResult>,
}

impl Ipvlan {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf, env: &Env) -> Result<Self> {
        let mut master = Master::parse(conf)?;
        let previous = conf.prev_result()?.unwrap_or_default();
        if master.name.is_none() {
            master.name = only_interface(&previous, &env.ifname);
        }
        let has_ipam = conf.ipam_type()?.is_some();
        let inherited = (!has_ipam && !previous.ips.is_empty()).then_some(previous);
        Ok(Ipvlan { master, mode: mode(conf)?, mtu: Mtu::parse(conf)?, inherited })
    }
}

/// The interface of the plugin before this one, if it gave exactly one. In a CHECK, that is the one
/// that this plugin made itself.
fn only_interface(previous: &CniResult, own: &str) -> Option<String> {
    match &previous.interfaces[..] {
        [only] if !only.name.is_empty() && only.name != own => Some(only.name.clone()),
        _ => None,
    }
}

fn mode(conf: &NetConf) -> Result<IpvlanMode> {
    let mode = conf.get::<String>("mode")?.unwrap_or_default();
    Ok(match mode.as_str() {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        _ => {
            let reason = "is none of \"l2\", \"l3\" and \"l3s\"".into();
            return Err(Error::Config { key: "mode", value: format!("{mode:?}"), reason });
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Ipvlan> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "ipvlan" {keys}}}"#);
        let env = Env { ifname: "eth0".into(), ..Env::default() };
        Ipvlan::parse(&NetConf::parse(text.as_bytes()).unwrap(), &env)
    }

    const GIVEN: &str = r#", "prevResult": {"cniVersion": "1.0.0",
        "interfaces": [{"name": "dev0"}], "ips": [{"address": "10.0.1.2/24"}]}"#;

    #[test]
    fn a_chain_gives_link_and_addresses() {
        let chained = parse(GIVEN).unwrap();
        assert_eq!(chained.master.name.as_deref(), Some("dev0"));
        assert_eq!(chained.inherited.unwrap().ips.len(), 1);
        let own = parse(&format!(r#"{GIVEN}, "master": "up0", "ipam": {{"type": "x"}}"#)).unwrap();
        assert_eq!((own.master.name.as_deref(), own.inherited), (Some("up0"), None));
    }

    #[test]
    fn the_own_interface_is_not_below_itself() {
        assert_eq!(parse(&GIVEN.replace("dev0", "eth0")).unwrap().master.name, None);
    }

    #[test]
    fn a_mode_is_one_of_three() {
        assert_eq!(parse("").unwrap().mode, IpvlanMode::L2);
        assert_eq!(parse(r#", "mode": "l3s""#).unwrap().mode, IpvlanMode::L3s);
        assert!(parse(r#", "mode": "l4""#).unwrap_err().to_string().contains("mode \"l4\""));
    }
}
