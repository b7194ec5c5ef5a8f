//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use kernel::MacAddress;
use kernel::link::MacvlanMode;
use plugin_interface::keys::{self, Mtu};
use plugin_interface::master::Master;
use plugin_interface::{Error, Result};

/// The plugin's keys, checked.
#[derive(Debug)]
pub(crate) struct Macvlan {
    /// `master` and `linkInContainer`.
    pub(crate) master: Master,
    /// `mode`.
    pub(crate) mode: MacvlanMode,
    /// `mtu`.
    pub(crate) mtu: Mtu,
    /// The hardware address that is wished for; `mac` comes last of the ways.
    pub(crate) mac: Option<MacAddress>,
    /// `bcqueuelen`: how many broadcast frames may wait.
    pub(crate) broadcast_queue: Option<u32>,
}

impl Macvlan {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf, env: &Env) -> Result<Self> {
        let mode = mode(conf)?;
        let mac = match keys::wished_mac(conf, env)? {
            None => keys::own_mac(conf)?,
            wished => wished,
        };
        if let Some(mac) = mac.filter(|_| mode == MacvlanMode::Passthru) {
            let reason = "cannot be had in mode passthru, in which the interface has the address of \
                          its master; leave it out, or choose another mode";
            let value = format!("\"{mac}\"");
            return Err(Error::Config { key: "mac", value, reason: reason.into() });
        }
        Ok(Macvlan {
            master: Master::parse(conf)?,
            mode,
            mtu: Mtu::parse(conf)?,
            mac,
            broadcast_queue: conf.get::<u32>("bcqueuelen")?.filter(|&length| length != 0),
        })
    }
}

fn mode(conf: &NetConf) -> Result<MacvlanMode> {
    let mode = conf.get::<String>("mode")?.unwrap_or_default();
    Ok(match mode.as_str() {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        _ => {
            let reason = "is none of \"bridge\", \"private\", \"vepa\" and \"passthru\"".into();
            return Err(Error::Config { key: "mode", value: format!("{mode:?}"), reason });
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str, args: &str) -> Result<Macvlan> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "macvlan" {keys}}}"#);
        let env = Env { args: args.into(), ..Env::default() };
        Macvlan::parse(&NetConf::parse(text.as_bytes()).unwrap(), &env)
    }

    #[test]
    fn every_key_has_a_default() {
        let conf = parse("", "").unwrap();
        assert_eq!((conf.mode, conf.mac, conf.broadcast_queue), (MacvlanMode::Bridge, None, None));
        assert_eq!(conf.master, Master::default());
    }

    #[test]
    fn the_own_mac_comes_last() {
        let own = r#", "mac": "0a:00:00:00:00:01""#;
        let mac = |args: &str| parse(own, args).unwrap().mac.unwrap().to_string();
        assert_eq!(mac(""), "0a:00:00:00:00:01");
        assert_eq!(mac("MAC=0a:00:00:00:00:02"), "0a:00:00:00:00:02");
    }

    #[test]
    fn wrong_values_name_key_and_value() {
        for (keys, words) in [
            (r#", "mode": "fast""#, "mode \"fast\""),
            (r#", "mac": "nonsense""#, "mac \"nonsense\""),
            (r#", "mode": "passthru", "mac": "0a:00:00:00:00:01""#, "passthru"),
            (r#", "master": "a/b""#, "master \"a/b\""),
        ] {
            let error = parse(keys, "").unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
