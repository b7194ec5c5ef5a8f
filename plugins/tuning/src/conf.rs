//! What the network configuration asks of this plugin.

use std::path::PathBuf;

use cni_conf::cni_args::CniArgs;
use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::json::Object;
use kernel::MacAddress;
use plugin_interface::keys::parse_mac;
use plugin_interface::{Error, Result, record};
use serde::de::DeserializeOwned;

use crate::attributes::Attributes;
use crate::sysctls::{self, Sysctl};

/// Where backups are; it does not outlive a boot, and neither do the links.
const DATA_DIR: &str = "/run/cni/tuning";
/// The smallest and the largest MTU that the kernel gives an Ethernet-like link.
const MTU: std::ops::RangeInclusive<i64> = 68..=65535;

/// The plugin's keys, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `sysctl`, with the interface's name in it.
    pub(crate) sysctls: Vec<Sysctl>,
    /// `mac`, `mtu`, `promisc`, `allmulti` and `txQLen`.
    pub(crate) link: Attributes,
}

impl Conf {
    /// Reads and checks the plugin's keys, of which those in `args.cni` come first.
    pub(crate) fn parse(conf: &NetConf, cni_args: &str, ifname: &str) -> Result<Conf> {
        let args = conf.args_cni()?;
        let switch = |key| wish::<bool>(conf, &args, key);
        let link = Attributes {
            mac: mac(conf, &args, cni_args)?,
            mtu: number(conf, &args, "mtu", MTU)?.filter(|&mtu| mtu != 0),
            // Switched off means not asked for: others may need it on.
            promiscuous: switch("promisc")?.filter(|&on| on),
            all_multicast: switch("allmulti")?,
            transmit_queue: number(conf, &args, "txQLen", 0..=i64::from(u32::MAX))?,
        };
        data_dir(conf)?;
        Ok(Conf { sysctls: sysctls::parse(conf, &args, ifname)?, link })
    }
}

/// `dataDir`: the folder of the backups.
pub(crate) fn data_dir(conf: &NetConf) -> Result<PathBuf> {
    record::data_dir(conf, DATA_DIR)
}

fn wish<T: DeserializeOwned>(conf: &NetConf, args: &Object, key: &str) -> Result<Option<T>> {
    match args.get(key).map_err(CniError::from)? {
        None => Ok(conf.get(key)?),
        wish => Ok(wish),
    }
}

/// A number in `range`, or 0.
fn number(
    conf: &NetConf,
    args: &Object,
    key: &'static str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<u32>> {
    let Some(value) = wish::<i64>(conf, args, key)? else { return Ok(None) };
    let wrong = || {
        let reason = format!("must be {} to {}, or 0", range.start(), range.end());
        Error::Config { key, value: value.to_string(), reason }
    };
    let number = u32::try_from(value).ok().filter(|_| value == 0 || range.contains(&value));
    number.map(Some).ok_or_else(wrong)
}

/// The MAC that is wished for: the reference's order, which is not that of the interface plugins.
fn mac(conf: &NetConf, args: &Object, cni_args: &str) -> Result<Option<MacAddress>> {
    let old = CniArgs::parse(cni_args, &["MAC", "IP", "GATEWAY"]).map_err(CniError::from)?;
    let text = |object: &Object| object.get::<String>("mac").map_err(CniError::from);
    let wishes = [
        ("args.cni.mac", text(args)?),
        ("runtimeConfig.mac", text(&conf.runtime_config()?)?),
        ("CNI_ARGS MAC", old.get("MAC").map(str::to_owned)),
        ("mac", text(conf.object())?),
    ];
    let given = |(key, mac): (_, Option<String>)| Some((key, mac.filter(|mac| !mac.is_empty())?));
    match wishes.into_iter().find_map(given) {
        Some((key, mac)) => Ok(Some(parse_mac(key, &mac)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str, cni_args: &str) -> Result<Conf> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n" {keys}}}"#);
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap(), cni_args, "eth0")
    }

    #[test]
    fn nothing_asked_for_is_nothing_to_do() {
        let conf = parse(r#", "promisc": false, "mtu": 0, "mac": "", "sysctl": {}"#, "").unwrap();
        assert!(conf.link.is_empty() && conf.sysctls.is_empty());
    }

    #[test]
    fn arguments_come_before_keys() {
        let keys = r#", "promisc": true, "mtu": 1400, "allMulti": true, "txqlen": 500, "args": {"cni":
            {"promisc": false, "mtu": 1300, "allmulti": false, "txQLen": 0}}"#;
        let wanted = Attributes {
            mtu: Some(1300),
            all_multicast: Some(false),
            transmit_queue: Some(0),
            ..Attributes::default()
        };
        assert_eq!(parse(keys, "").unwrap().link, wanted);
    }

    #[test]
    fn of_four_ways_to_wish_for_a_mac_the_arguments_come_first() {
        let keys = [
            r#", "mac": "0a:00:00:00:00:01""#,
            r#", "runtimeConfig": {"mac": "0a:00:00:00:00:03"}"#,
            r#", "args": {"cni": {"mac": "0a:00:00:00:00:04"}}"#,
        ];
        let mac = |keys: &[&str], cni_args: &str| {
            parse(&keys.concat(), cni_args).unwrap().link.mac.map(|mac| mac.0[5])
        };
        let old = "IgnoreUnknown=1;K8S_POD_NAME=p;MAC=0a:00:00:00:00:02";
        assert_eq!(mac(&[], ""), None);
        assert_eq!(mac(&keys[..1], ""), Some(1));
        assert_eq!(mac(&keys[..1], old), Some(2));
        assert_eq!(mac(&keys[..2], old), Some(3));
        assert_eq!(mac(&keys, old), Some(4));
    }

    #[test]
    fn what_cannot_be_is_refused_by_key_and_value() {
        for (keys, words) in [
            (r#", "mtu": 67"#, "mtu 67: must be 68 to 65535"),
            (r#", "mtu": 70000"#, "mtu 70000"),
            (r#", "txQLen": -1"#, "txQLen -1"),
            (r#", "allmulti": 1"#, "allmulti"),
            (r#", "mac": "01:00:5e:00:00:01""#, "mac \"01:00:5e:00:00:01\""),
            (r#", "dataDir": "run""#, "dataDir \"run\""),
            (r#", "sysctl": {"kernel.hostname": "x"}"#, "sysctl \"kernel.hostname\""),
        ] {
            let error = parse(keys, "").unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
