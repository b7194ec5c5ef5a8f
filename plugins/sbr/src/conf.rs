//! What the network configuration asks of this plugin.

use std::net::IpAddr;

use cni_conf::conf::NetConf;
use plugin_interface::{Error, Result};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `table`: a routing table that is somebody else's. Routes are left where they are then.
    pub(crate) table: Option<u32>,
    /// `gateways`: by which the default routes go, instead of what IPAM says.
    pub(crate) gateways: Vec<IpAddr>,
    /// `addSourceHints`: whether routes prefer the address that they are for.
    pub(crate) source_hints: bool,
}

impl Conf {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf) -> Result<Conf> {
        let table: Option<u32> = conf.get("table")?;
        if table == Some(0) {
            return Err(wrong("table", "0", "is no routing table: it must be at least 1"));
        }
        let texts: Vec<String> = conf.get("gateways")?.unwrap_or_default();
        let mut gateways = Vec::new();
        for text in texts {
            let parsed: std::result::Result<IpAddr, _> = text.parse();
            let gateway = parsed.map_err(|_| wrong("gateways", &text, "is no address"))?;
            if gateways.iter().any(|other: &IpAddr| other.is_ipv4() == gateway.is_ipv4()) {
                let reason = "is the second of its family: there can be one default route of each";
                return Err(wrong("gateways", &text, reason));
            }
            gateways.push(gateway);
        }
        let source_hints = conf.get("addSourceHints")?.unwrap_or_default();
        Ok(Conf { table, gateways, source_hints })
    }

    /// The gateway of an address, of which IPAM has said this.
    pub(crate) fn gateway_of(&self, address: IpAddr, said: Option<IpAddr>) -> Option<IpAddr> {
        let given = self.gateways.iter().find(|it| it.is_ipv4() == address.is_ipv4());
        given.copied().or(said)
    }
}

fn wrong(key: &'static str, value: &str, reason: &str) -> Error {
    Error::Config { key, value: format!("{value:?}"), reason: reason.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Conf> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "sbr" {keys}}}"#);
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn keys_are_read() {
        assert_eq!(parse("").unwrap(), Conf::default());
        let keys = r#", "table": 500, "gateways": ["10.0.0.9", "fd00::9"], "addSourceHints": true"#;
        let conf = parse(keys).unwrap();
        assert_eq!((conf.table, conf.source_hints), (Some(500), true));
        let ip = |text: &str| text.parse().unwrap();
        assert_eq!(conf.gateway_of(ip("fd00::1"), Some(ip("fd00::2"))), Some(ip("fd00::9")));
    }

    #[test]
    fn wrong_values_name_key_and_value() {
        for (keys, words) in [
            (r#", "table": 0"#, "table \"0\""),
            (r#", "gateways": ["10.0.0.0/8"]"#, "gateways \"10.0.0.0/8\""),
            (r#", "gateways": ["10.0.0.1", "fd00::1", "10.0.0.2"]"#, "gateways \"10.0.0.2\""),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
