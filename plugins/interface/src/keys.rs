//! Keys that several plugins have.

use cni_conf::cni_args::CniArgs;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::error::CniError;
use cni_conf::json::DecodeError;
use kernel::{MacAddress, Rtnl};

use crate::error::{Error, Result};
use crate::uplink;

/// The smallest MTU that the kernel gives an Ethernet-like link, and the largest of a veth.
const MTU: std::ops::RangeInclusive<i64> = 68..=65535;

/// `mtu`: the largest packet of the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mtu {
    /// Not given, or 0: the kernel's default for the kind of link.
    #[default]
    Unset,
    /// `"auto"`: that of the link of the default route.
    Auto,
    /// In bytes.
    Bytes(u32),
}

impl Mtu {
    /// Reads `mtu`.
    ///
    /// # Errors
    /// It is no number that a link can have.
    pub fn parse(conf: &NetConf) -> Result<Mtu> {
        if conf.object().raw("mtu").is_some_and(|value| value.get() == r#""auto""#) {
            return Ok(Mtu::Auto);
        }
        let Some(mtu) = conf.get::<i64>("mtu")?.filter(|&mtu| mtu != 0) else {
            return Ok(Mtu::Unset);
        };
        let reason = || {
            let (least, most) = (MTU.start(), MTU.end());
            format!("must be {least} to {most} bytes, \"auto\", or 0 for the kernel's default")
        };
        let wrong = || Error::Config { key: "mtu", value: mtu.to_string(), reason: reason() };
        let bytes = u32::try_from(mtu).ok().filter(|_| MTU.contains(&mtu));
        bytes.map(Mtu::Bytes).ok_or_else(wrong)
    }

    /// The MTU in bytes on this host; `None` for the kernel's default.
    ///
    /// # Errors
    /// `"auto"` on a host without a default route.
    pub fn resolve(self, host: &mut Rtnl) -> Result<Option<u32>> {
        let no_route = || Error::Config {
            key: "mtu",
            value: "\"auto\"".into(),
            reason: "the host has no default route to take the MTU from; give the number of bytes"
                .into(),
        };
        match self {
            Mtu::Unset => Ok(None),
            Mtu::Bytes(bytes) => Ok(Some(bytes)),
            Mtu::Auto => Ok(Some(uplink::find(host)?.ok_or_else(no_route)?.mtu)),
        }
    }
}

/// The MAC that is wished for, of the first of these that says anything: `runtimeConfig.mac`,
/// `args.cni.mac`, `MAC` of CNI_ARGS.
///
/// # Errors
/// It is no MAC address, or CNI_ARGS cannot be read.
pub fn wished_mac(conf: &NetConf, env: &Env) -> Result<Option<MacAddress>> {
    match mac_wish(conf, env)? {
        Some((key, mac)) => Ok(Some(parse_mac(key, &mac)?)),
        None => Ok(None),
    }
}

/// The wish for a MAC as it was written, and by which way it came.
///
/// # Errors
/// One of the ways cannot be read.
pub fn mac_wish(conf: &NetConf, env: &Env) -> Result<Option<(&'static str, String)>> {
    let decoded =
        |mac: std::result::Result<Option<String>, DecodeError>| mac.map_err(CniError::from);
    let args = CniArgs::parse(&env.args, &["MAC", "IP", "GATEWAY"]).map_err(CniError::from)?;
    let wishes = [
        ("runtimeConfig.mac", decoded(conf.runtime_config()?.get("mac"))?),
        ("args.cni.mac", decoded(conf.args_cni()?.get("mac"))?),
        ("CNI_ARGS MAC", args.get("MAC").map(str::to_owned)),
    ];
    let given = |(key, mac): (_, Option<String>)| Some((key, mac.filter(|mac| !mac.is_empty())?));
    Ok(wishes.into_iter().find_map(given))
}

/// `mac`: the MAC that a configuration itself wishes for.
///
/// # Errors
/// It is no MAC address.
pub fn own_mac(conf: &NetConf) -> Result<Option<MacAddress>> {
    let mac = conf.get::<String>("mac")?.filter(|mac| !mac.is_empty());
    mac.map(|mac| parse_mac("mac", &mac)).transpose()
}

/// Reads a MAC address that an interface can have.
///
/// # Errors
/// It is none, or one of a group.
pub fn parse_mac(key: &'static str, text: &str) -> Result<MacAddress> {
    let wrong = |reason: String| Error::Config { key, value: format!("{text:?}"), reason };
    let mac: MacAddress = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let [first, ..] = mac.0;
    if first & 1 == 1 || mac.0 == [0; 6] {
        let reason =
            "is no address of one interface; its first byte must be even, and not all zero";
        return Err(wrong(reason.into()));
    }
    Ok(mac)
}

/// `ipMasq`: whether what leaves the network leaves with the host's address. Both backends of the
/// reference (`ipMasqBackend`) are accepted and served by nf_tables.
///
/// # Errors
/// One of the keys has a value that it cannot have.
pub fn masquerade(conf: &NetConf) -> Result<bool> {
    let backend = conf.get::<String>("ipMasqBackend")?.unwrap_or_default();
    if !matches!(backend.as_str(), "" | "iptables" | "nftables") {
        let reason = "is neither \"iptables\" nor \"nftables\"".into();
        return Err(Error::Config { key: "ipMasqBackend", value: format!("{backend:?}"), reason });
    }
    Ok(conf.get::<bool>("ipMasq")?.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn conf(keys: &str) -> NetConf {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "t" {keys}}}"#);
        NetConf::parse(text.as_bytes()).unwrap()
    }

    fn wish(keys: &str, args: &str) -> Result<Option<String>> {
        let env = Env { args: args.into(), ..Env::default() };
        Ok(wished_mac(&conf(keys), &env)?.map(|mac| mac.to_string()))
    }

    #[test]
    fn an_mtu_is_a_number_of_bytes_or_that_of_the_uplink() {
        for (keys, mtu) in [
            ("", Mtu::Unset),
            (r#", "mtu": 0"#, Mtu::Unset),
            (r#", "mtu": null"#, Mtu::Unset),
            (r#", "MTU": 1400"#, Mtu::Bytes(1400)),
            (r#", "mtu": "auto""#, Mtu::Auto),
        ] {
            assert_eq!(Mtu::parse(&conf(keys)).unwrap(), mtu, "{keys}");
        }
        for (keys, words) in [
            (r#", "mtu": 67"#, "mtu 67: must be 68 to 65535"),
            (r#", "mtu": -1"#, "mtu -1"),
            (r#", "mtu": 65536"#, "mtu 65536"),
            (r#", "mtu": "1500""#, "mtu"),
        ] {
            let error = Mtu::parse(&conf(keys)).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }

    #[test]
    fn the_mtu_of_the_uplink_needs_an_uplink() {
        let ns = kernel::NetNs::create().unwrap();
        let mut host = Rtnl::open_in(&ns).unwrap();
        assert_eq!(Mtu::Bytes(1400).resolve(&mut host).unwrap(), Some(1400));
        let error = Mtu::Auto.resolve(&mut host).unwrap_err().to_string();
        assert!(error.contains("no default route"), "{error}");

        let (name, mac) = ("up0", MacAddress([2, 0, 0, 0, 0, 1]));
        let uplink = kernel::link::Bridge { name, mac, mtu: Some(1450) };
        host.request(&uplink.create()).unwrap();
        let index = host.link_by_name(name).unwrap().unwrap().index;
        let own = kernel::address::add(index, "192.0.2.2/24".parse().unwrap(), false);
        let route = kernel::route::Route::new("0.0.0.0/0".parse().unwrap());
        let route = route.via("192.0.2.1".parse().unwrap()).dev(index);
        host.request_all(&[own, kernel::route::add(&route)]).unwrap();
        assert_eq!(Mtu::Auto.resolve(&mut host).unwrap(), Some(1450));
    }

    #[test]
    fn the_runtimes_wish_comes_before_the_arguments() {
        let runtime = r#", "runtimeConfig": {"mac": "0a:00:00:00:00:01"}"#;
        let args = r#", "args": {"cni": {"mac": "0a:00:00:00:00:02"}}"#;
        let old = "IgnoreUnknown=1;K8S_POD_NAME=p;MAC=0a:00:00:00:00:03";
        let all = format!("{runtime}{args}");
        assert_eq!(wish(&all, old).unwrap().as_deref(), Some("0a:00:00:00:00:01"));
        assert_eq!(wish(args, old).unwrap().as_deref(), Some("0a:00:00:00:00:02"));
        assert_eq!(wish("", old).unwrap().as_deref(), Some("0a:00:00:00:00:03"));
        assert_eq!(wish("", "").unwrap(), None);
    }

    #[test]
    fn a_mac_of_a_group_is_no_interfaces() {
        for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "nonsense"] {
            let error = wish("", &format!("MAC={mac}")).unwrap_err().to_string();
            assert!(error.contains("CNI_ARGS MAC") && error.contains(mac), "{error}");
        }
    }

    #[test]
    fn both_backends_are_served() {
        assert!(!masquerade(&conf("")).unwrap());
        assert!(masquerade(&conf(r#", "ipMasq": true, "ipMasqBackend": "iptables""#)).unwrap());
        let error = masquerade(&conf(r#", "ipMasqBackend": "pf""#)).unwrap_err().to_string();
        assert!(error.contains("ipMasqBackend \"pf\""), "{error}");
    }
}
