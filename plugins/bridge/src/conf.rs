//! What the network configuration asks of this plugin.

use std::path::PathBuf;

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::names::check_ifname;
use plugin_interface::keys::{self, Mtu};
use plugin_interface::{Error, Result};

/// Keys of the reference plugin that change what a container can reach or who can reach it.
/// Ignoring one would be worse than refusing it.
const UNSUPPORTED: [&str; 7] = [
    "vlan",
    "vlanTrunk",
    "macspoofchk",
    "portIsolation",
    "disableContainerInterface",
    "forceAddress",
    "enabledad",
];

/// The plugin's keys, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `bridge`: the bridge's name.
    pub(crate) bridge: String,
    /// `isGateway`: the bridge has the network's gateway address, and the host forwards.
    pub(crate) is_gateway: bool,
    /// `isDefaultGateway`: the container's default route leads there, too.
    pub(crate) is_default_gateway: bool,
    /// `ipMasq`: what leaves the network leaves with the host's address.
    pub(crate) masquerade: bool,
    /// `hairpinMode`: the container can reach itself through the bridge.
    pub(crate) hairpin: bool,
    /// `promiscMode`: the bridge hears frames for any address.
    pub(crate) promiscuous: bool,
    /// `mtu` of both ends of the veth, and of a bridge that is made.
    pub(crate) mtu: Mtu,
    /// `syncStatus`: the route syncer's status file; STATUS waits for its first sync.
    pub(crate) sync_status: Option<PathBuf>,
}

impl Conf {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf, env: &Env) -> Result<Conf> {
        refuse_unsupported(conf)?;
        refuse_mac(conf, env)?;
        let flag = |key| conf.get::<bool>(key).map(Option::unwrap_or_default);
        let is_default_gateway = flag("isDefaultGateway")?;
        let parsed = Conf {
            bridge: bridge_name(conf)?,
            is_gateway: flag("isGateway")? || is_default_gateway,
            is_default_gateway,
            masquerade: keys::masquerade(conf)?,
            hairpin: flag("hairpinMode")?,
            promiscuous: flag("promiscMode")?,
            mtu: Mtu::parse(conf)?,
            sync_status: conf
                .get::<PathBuf>("syncStatus")?
                .filter(|path| !path.as_os_str().is_empty()),
        };
        if parsed.hairpin && parsed.promiscuous {
            let reason =
                "cannot set hairpin mode and promiscuous mode at the same time; choose one".into();
            return Err(Error::Config { key: "promiscMode", value: "true".into(), reason });
        }
        Ok(parsed)
    }
}

fn bridge_name(conf: &NetConf) -> Result<String> {
    let name = conf.get::<String>("bridge")?.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| "cni0".into());
    let refused = |error| Error::Config {
        key: "bridge",
        value: format!("{name:?}"),
        reason: format!("{error}"),
    };
    check_ifname(&name).map_err(refused)?;
    Ok(name)
}

fn refuse_unsupported(conf: &NetConf) -> Result<()> {
    for key in UNSUPPORTED {
        let value = conf.object().raw(key).map(|value| value.get().trim()).unwrap_or("null");
        if !matches!(value, "null" | "false" | "0" | "[]") {
            return Err(Error::Unsupported { key: key.into(), value: value.into() });
        }
    }
    Ok(())
}

/// A wish for a hardware address may come in three ways; this version derives it from the address.
fn refuse_mac(conf: &NetConf, env: &Env) -> Result<()> {
    match keys::mac_wish(conf, env)? {
        Some((key, mac)) => Err(Error::Unsupported { key: key.into(), value: format!("{mac:?}") }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Conf> {
        parse_with(keys, "")
    }

    fn parse_with(keys: &str, args: &str) -> Result<Conf> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "bridge" {keys}}}"#);
        let env = Env { args: args.into(), ..Env::default() };
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap(), &env)
    }

    #[test]
    fn every_key_has_a_default() {
        let conf = parse("").unwrap();
        assert_eq!(conf.bridge, "cni0");
        assert_eq!(
            (conf.is_gateway, conf.masquerade, conf.mtu, conf.sync_status),
            (false, false, Mtu::Unset, None)
        );
        assert_eq!(
            parse(r#", "bridge": "", "mtu": 0, "vlan": 0, "macspoofchk": false"#).unwrap().bridge,
            "cni0"
        );
    }

    #[test]
    fn the_default_gateway_is_a_gateway() {
        assert!(parse(r#", "isDefaultGateway": true"#).unwrap().is_gateway);
    }

    #[test]
    fn wrong_values_name_key_value_and_remedy() {
        for (keys, words) in [
            (r#", "bridge": "a/b""#, "bridge"),
            (r#", "bridge": "sixteen-letters-")"#.trim_end_matches(')'), "bridge"),
            (r#", "mtu": -1"#, "mtu -1"),
            (r#", "ipMasqBackend": "pf""#, "ipMasqBackend \"pf\""),
            (
                r#", "hairpinMode": true, "promiscMode": true"#,
                "hairpin mode and promiscuous mode at the same time",
            ),
            (r#", "vlan": 100"#, "unsupported field vlan: 100"),
            (r#", "portIsolation": true"#, "portIsolation: true"),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }

    #[test]
    fn a_wished_mac_is_refused_by_whichever_way_it_comes() {
        for (keys, args) in [
            (r#", "runtimeConfig": {"mac": "0a:00:00:00:00:01"}"#, ""),
            (r#", "args": {"cni": {"mac": "0a:00:00:00:00:01"}}"#, ""),
            ("", "IgnoreUnknown=1;K8S_POD_NAME=p;MAC=0a:00:00:00:00:01"),
        ] {
            let error = parse_with(keys, args).unwrap_err().to_string();
            assert!(
                error.contains("unsupported field") && error.contains("0a:00:00:00:00:01"),
                "{error}"
            );
        }
        parse_with("", "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.0.1.7").unwrap();
    }
}
