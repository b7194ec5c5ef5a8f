//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use cni_conf::names::check_ifname;
use plugin_interface::{Error, Result};

/// The plugin's keys, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `vrfname`: the VRF's name in the container.
    pub(crate) name: String,
    /// `table`: its routing table; any that is free if none is given.
    pub(crate) table: Option<u32>,
}

impl Conf {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf) -> Result<Conf> {
        let table = conf.get::<u32>("table")?.filter(|&table| table != 0);
        let name = conf.get::<String>("vrfname")?.unwrap_or_default();
        match check_ifname(&name) {
            Ok(()) => Ok(Conf { name, table }),
            Err(error) => {
                let reason = format!("configuration is expected to have a valid vrf name: {error}");
                Err(Error::Config { key: "vrfname", value: format!("{name:?}"), reason })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Conf> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "vrf" {keys}}}"#);
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_table_of_zero_is_none() {
        let table = |keys: &str| parse(&format!(r#", "vrfname": "blue" {keys}"#)).unwrap().table;
        assert_eq!(table(""), None);
        assert_eq!(table(r#", "table": 0"#), None);
        assert_eq!(table(r#", "table": 4294967295"#), Some(u32::MAX));
        assert!(parse(r#", "vrfname": "blue", "table": -1"#).is_err());
    }

    #[test]
    fn the_name_is_one_that_a_link_can_have() {
        for name in ["", "a/b", "name-of-sixteen-"] {
            let error = parse(&format!(r#", "vrfname": "{name}""#)).unwrap_err().to_string();
            assert!(error.contains("expected to have a valid vrf name"), "{name}: {error}");
        }
        assert!(parse("").is_err());
    }
}
