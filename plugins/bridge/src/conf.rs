//! What the network configuration asks of this plugin.

use std::path::PathBuf;

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::names::check_ifname;
use kernel::MacAddress;
use kernel::link::Link;
use plugin_interface::keys::{self, Mtu};
use plugin_interface::{Error, Result};

use crate::vlan::Vlans;

const REMOVE_EMPTY: &str = "removeEmptyBridge";

/// The plugin's keys, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `bridge`: the bridge's name.
    pub(crate) bridge: String,
    /// `isGateway`: the bridge has the network's gateway address, and the host forwards.
    pub(crate) is_gateway: bool,
    /// `isDefaultGateway`: the container's default route leads there, too.
    pub(crate) is_default_gateway: bool,
    /// `forceAddress`: an address of the bridge that the gateway's cannot be beside makes room.
    pub(crate) force_address: bool,
    /// `ipMasq`: what leaves the network leaves with the host's address.
    pub(crate) masquerade: bool,
    /// `hairpinMode`: the container can reach itself through the bridge.
    pub(crate) hairpin: bool,
    /// `promiscMode`: the bridge hears frames for any address.
    pub(crate) promiscuous: bool,
    /// `portIsolation`: no frames pass to other isolated ports of the bridge.
    pub(crate) isolated: bool,
    /// `vlan`, `vlanTrunk`, `preserveDefaultVlan`: the VLANs of the port, if any are given.
    pub(crate) vlans: Option<Vlans>,
    /// `macspoofchk`: only frames from the container's own hardware address come in.
    pub(crate) check_mac: bool,
    /// The hardware address that the container shall have, if one is wished for.
    pub(crate) mac: Option<MacAddress>,
    /// `enabledad`: the container asks whether somebody else has its IPv6 addresses.
    pub(crate) detect_duplicates: bool,
    /// `disableContainerInterface`: the container's interface stays down.
    pub(crate) leave_down: bool,
    /// `mtu` of both ends of the veth, and of a bridge that is made.
    pub(crate) mtu: Mtu,
    /// `syncStatus`: the route syncer's status file; STATUS waits for its first sync.
    pub(crate) sync_status: Option<PathBuf>,
}

impl Conf {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf, env: &Env) -> Result<Conf> {
        let flag = |key| conf.get::<bool>(key).map(Option::unwrap_or_default);
        let is_default_gateway = flag("isDefaultGateway")?;
        let parsed = Conf {
            bridge: bridge_name(conf)?,
            is_gateway: flag("isGateway")? || is_default_gateway,
            is_default_gateway,
            force_address: flag("forceAddress")?,
            masquerade: keys::masquerade(conf)?,
            hairpin: flag("hairpinMode")?,
            promiscuous: flag("promiscMode")?,
            isolated: flag("portIsolation")?,
            vlans: Vlans::parse(conf)?,
            check_mac: flag("macspoofchk")?,
            mac: keys::wished_mac(conf, env)?,
            detect_duplicates: flag("enabledad")?,
            leave_down: flag("disableContainerInterface")?,
            mtu: Mtu::parse(conf)?,
            sync_status: conf
                .get::<PathBuf>("syncStatus")?
                .filter(|path| !path.as_os_str().is_empty()),
        };
        // Nothing here depends on it, but a typing error must not wait for the last DEL to be seen.
        flag(REMOVE_EMPTY)?;
        parsed.check(conf)?;
        Ok(parsed)
    }

    /// Refuses keys that contradict each other.
    fn check(&self, conf: &NetConf) -> Result<()> {
        let refuse = |key, reason: &str| {
            Err(Error::Config { key, value: "true".into(), reason: reason.into() })
        };
        if self.hairpin && self.promiscuous {
            let reason =
                "cannot set hairpin mode and promiscuous mode at the same time; choose one";
            return refuse("promiscMode", reason);
        }
        if self.leave_down && conf.ipam_type()?.is_some() {
            let reason = "an interface that is down cannot have addresses; leave ipam out";
            return refuse("disableContainerInterface", reason);
        }
        match self.gateway_link() {
            Some(name) if self.is_gateway => keep_short(&name),
            _ => Ok(()),
        }
    }

    /// Refuses VLANs that the bridge, or one that would have to be made, does not know.
    pub(crate) fn refuse_what_bridge_cannot(&self, found: Option<&Link>) -> Result<()> {
        match (&self.vlans, found) {
            (Some(vlans), Some(bridge)) => vlans.require_filtering(bridge),
            (Some(vlans), None) => vlans.require_kernel(),
            (None, _) => Ok(()),
        }
    }

    /// The link by which the host is the gateway of the port's native VLAN, if that is not the
    /// bridge itself.
    pub(crate) fn gateway_link(&self) -> Option<String> {
        let native = self.vlans.as_ref()?.native?;
        Some(format!("{}.{native}", self.bridge))
    }
}

/// The kernel cuts no names, it refuses them.
fn keep_short(name: &str) -> Result<()> {
    let refused = |error| {
        let reason = format!("the gateway's link cannot be called {name:?}: {error}");
        Error::Config { key: "bridge", value: format!("{name:?}"), reason }
    };
    check_ifname(name).map_err(refused)
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

/// `removeEmptyBridge`: the bridge that DEL and GC shall remove if nobody uses it any more. They do
/// what they can with a configuration that is wrong elsewhere, and no more than it clearly says.
pub(crate) fn bridge_to_remove(conf: &NetConf) -> Option<String> {
    let asked = conf.get::<bool>(REMOVE_EMPTY).ok().flatten().unwrap_or_default();
    asked.then(|| bridge_name(conf).ok()).flatten()
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
            (r#", "vlan": 4095"#, "invalid VLAN ID 4095"),
            (
                r#", "disableContainerInterface": true, "ipam": {"type": "host-local"}"#,
                "disableContainerInterface true: an interface that is down",
            ),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }

    #[test]
    fn a_wished_mac_is_read_before_anything_is_done() {
        for (keys, args) in [
            (r#", "runtimeConfig": {"mac": "0a:00:00:00:00:01"}"#, ""),
            (r#", "args": {"cni": {"mac": "0a:00:00:00:00:01"}}"#, ""),
            ("", "IgnoreUnknown=1;K8S_POD_NAME=p;MAC=0a:00:00:00:00:01"),
        ] {
            let mac = parse_with(keys, args).unwrap().mac;
            assert_eq!(mac, Some(MacAddress([0x0a, 0, 0, 0, 0, 1])), "{keys} {args}");
        }
        assert_eq!(parse_with("", "IgnoreUnknown=1;IP=10.0.1.7").unwrap().mac, None);
        assert!(parse_with("", "MAC=nonsense").is_err());
    }

    #[test]
    fn a_gateway_in_a_vlan_has_a_link_of_its_own() {
        let vlan = r#", "bridge": "br0", "vlan": 100, "isGateway": true"#;
        assert_eq!(parse(vlan).unwrap().gateway_link().as_deref(), Some("br0.100"));
        assert_eq!(parse(r#", "vlanTrunk": []"#).unwrap().gateway_link(), None);
        let long = r#", "bridge": "twelve-chars", "vlan": 100"#;
        parse(long).unwrap();
        let error = parse(&format!("{long}, \"isGateway\": true")).unwrap_err().to_string();
        assert!(error.contains("twelve-chars.100"), "{error}");
    }

    #[test]
    fn the_bridge_goes_only_if_that_was_clearly_said() {
        let asked = |keys: &str| {
            let text = format!(r#"{{"name": "n", "mtu": -1, "bridge": "br0" {keys}}}"#);
            bridge_to_remove(&NetConf::parse(text.as_bytes()).unwrap())
        };
        assert_eq!(asked(r#", "removeEmptyBridge": true"#).as_deref(), Some("br0"));
        for keys in ["", r#", "removeEmptyBridge": false"#, r#", "removeEmptyBridge": "yes""#] {
            assert_eq!(asked(keys), None, "{keys}");
        }
        assert!(parse(r#", "removeEmptyBridge": "yes""#).is_err());
    }
}
