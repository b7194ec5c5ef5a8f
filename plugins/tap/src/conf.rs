//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::names::check_ifname;
use kernel::MacAddress;
use plugin_interface::keys::{self, Mtu};
use plugin_interface::{Error, Result};

/// The plugin's keys, checked.
#[derive(Debug)]
pub(crate) struct Tap {
    /// `multiQueue`: several queues, a file each.
    pub(crate) multi_queue: bool,
    /// `mtu`.
    pub(crate) mtu: Mtu,
    /// The hardware address that is wished for; `mac` comes last of the ways.
    pub(crate) mac: Option<MacAddress>,
    /// `owner`: the user that may open it.
    pub(crate) owner: Option<u32>,
    /// `group`: the group that may open it.
    pub(crate) group: Option<u32>,
    /// `bridge`: the container's bridge that it becomes a port of.
    pub(crate) bridge: Option<String>,
}

impl Tap {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf, env: &Env) -> Result<Self> {
        refuse_label(conf)?;
        let mac = match keys::wished_mac(conf, env)? {
            None => keys::own_mac(conf)?,
            wished => wished,
        };
        Ok(Tap {
            multi_queue: conf.get::<bool>("multiQueue")?.unwrap_or_default(),
            mtu: Mtu::parse(conf)?,
            mac,
            owner: conf.get("owner")?,
            group: conf.get("group")?,
            bridge: bridge(conf)?,
        })
    }
}

/// The kernel takes a tap's SELinux label from the program that makes it, and no program is
/// executed to make one. A tap with another label than was asked for could not be opened.
fn refuse_label(conf: &NetConf) -> Result<()> {
    let label = conf.get::<String>("selinuxContext")?.filter(|label| !label.is_empty());
    match label {
        Some(label) => {
            let (key, value) = ("selinuxContext".into(), format!("{label:?}"));
            Err(Error::Unsupported { key, value })
        }
        None => Ok(()),
    }
}

fn bridge(conf: &NetConf) -> Result<Option<String>> {
    let name = conf.get::<String>("bridge")?.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        let (key, value) = ("bridge", format!("{name:?}"));
        check_ifname(name).map_err(|error| Error::Config {
            key,
            value,
            reason: error.to_string(),
        })?;
    }
    Ok(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Tap> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "tap" {keys}}}"#);
        Tap::parse(&NetConf::parse(text.as_bytes()).unwrap(), &Env::default())
    }

    #[test]
    fn every_key_has_a_default() {
        let tap = parse("").unwrap();
        assert_eq!((tap.multi_queue, tap.owner, tap.group, tap.bridge), (false, None, None, None));
        let tap =
            parse(r#", "multiQueue": true, "owner": 0, "group": 7, "bridge": "br0""#).unwrap();
        assert_eq!((tap.multi_queue, tap.owner, tap.group), (true, Some(0), Some(7)));
        assert_eq!(tap.bridge.as_deref(), Some("br0"));
    }

    #[test]
    fn wrong_values_name_key_and_value() {
        for (keys, words) in [
            (r#", "mac": "nonsense""#, "mac \"nonsense\""),
            (r#", "bridge": "a/b""#, "bridge \"a/b\""),
            (r#", "selinuxContext": "u:r:t""#, "unsupported field selinuxContext: \"u:r:t\""),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
