//! What the network configuration and the runtime ask of this plugin.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::json::Object;
use plugin_interface::{Error, Result};

use crate::conditions::{self, Condition};
use crate::mapping::{Mapping, PROTOCOLS, Place};

/// The plugin's keys, checked.
#[derive(Debug)]
pub(crate) struct Conf {
    /// `runtimeConfig.portMappings`.
    ports: Vec<Port>,
    /// `snat`: what comes back only by way of the host is given the host's address.
    pub(crate) source_nat: bool,
    /// `masqAll`: whatever comes by a port of the host is given the host's address.
    pub(crate) masquerade_all: bool,
    /// `conditionsV4`.
    pub(crate) conditions4: Vec<Condition>,
    /// `conditionsV6`.
    pub(crate) conditions6: Vec<Condition>,
}

/// One of the runtime's mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    protocol: u8,
    host_ip: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
}

impl Conf {
    /// Reads and checks the plugin's keys. Those that say how iptables marks packets (`markMasqBit`,
    /// `externalSetMarkChain`) are of no meaning here, as nothing is marked.
    pub(crate) fn parse(conf: &NetConf) -> Result<Conf> {
        check_backend(conf)?;
        let words = |key| Ok::<_, Error>(conf.get::<Vec<String>>(key)?.unwrap_or_default());
        let given = conf.runtime_config()?.objects("portMappings").map_err(CniError::from)?;
        Ok(Conf {
            ports: given.iter().map(port).collect::<Result<_>>()?,
            source_nat: conf.get("snat")?.unwrap_or(true),
            masquerade_all: conf.get("masqAll")?.unwrap_or_default(),
            conditions4: conditions::parse("conditionsV4", &words("conditionsV4")?, false)?,
            conditions6: conditions::parse("conditionsV6", &words("conditionsV6")?, true)?,
        })
    }

    /// The mappings for a container with these addresses, the first of each family.
    ///
    /// # Errors
    /// The runtime maps one port of the host to two of the container.
    pub(crate) fn mappings(&self, addresses: &[IpAddr]) -> Result<Vec<Mapping>> {
        let mut found = BTreeMap::new();
        for address in addresses {
            for port in self.ports.iter().filter(|port| port.is_for(address.is_ipv6())) {
                let host_ip = port.host_ip.filter(|ip| !ip.is_unspecified());
                let place = Place {
                    protocol: port.protocol,
                    address: host_ip,
                    port: port.host_port,
                    ipv6: address.is_ipv6(),
                };
                let target = SocketAddr::new(*address, port.container_port);
                match found.insert(place, target) {
                    Some(other) if other != target => return Err(twice(place, other, target)),
                    _ => {}
                }
            }
        }
        Ok(found.into_iter().map(|(place, target)| Mapping { place, target }).collect())
    }
}

impl Port {
    /// Whether it is mapped in this family.
    fn is_for(&self, ipv6: bool) -> bool {
        self.host_ip.is_none_or(|ip| ip.is_ipv6() == ipv6)
    }
}

fn check_backend(conf: &NetConf) -> Result<()> {
    let backend = conf.get::<String>("backend")?.unwrap_or_default();
    if matches!(backend.as_str(), "" | "iptables" | "nftables") {
        return Ok(());
    }
    let reason = "is neither \"iptables\" nor \"nftables\", both of which nf_tables serves".into();
    Err(Error::Config { key: "backend", value: format!("{backend:?}"), reason })
}

fn port(given: &Object) -> Result<Port> {
    let text = |key| Ok::<_, Error>(given.get::<String>(key).map_err(CniError::from)?);
    let protocol = text("protocol")?.unwrap_or_default().to_lowercase();
    let known = PROTOCOLS.into_iter().find(|(name, _)| *name == protocol || protocol.is_empty());
    let reason = "is none of \"tcp\", \"udp\" and \"sctp\"";
    let (_, protocol) =
        known.ok_or_else(|| wrong("protocol", format!("{protocol:?}"), reason.into()))?;
    Ok(Port {
        protocol,
        host_ip: host_ip(text("hostIP")?.filter(|ip| !ip.is_empty()))?,
        host_port: number(given, "hostPort", "Invalid host port number")?,
        container_port: number(given, "containerPort", "Invalid container port number")?,
    })
}

fn host_ip(text: Option<String>) -> Result<Option<IpAddr>> {
    let Some(text) = text else { return Ok(None) };
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
    let parsed: std::result::Result<IpAddr, _> = inner.parse();
    parsed.map(Some).map_err(|error| wrong("hostIP", format!("{text:?}"), error.to_string()))
}

fn number(given: &Object, key: &'static str, words: &str) -> Result<u16> {
    let number = given.get::<i64>(key).map_err(CniError::from)?.unwrap_or_default();
    let reason = || format!("{words}: {number}; it must be 1 to 65535");
    let port = u16::try_from(number).ok().filter(|&port| port != 0);
    port.ok_or_else(|| wrong(key, number.to_string(), reason()))
}

fn wrong(key: &'static str, value: String, reason: String) -> Error {
    Error::Config { key, value, reason }
}

fn twice(place: Place, one: SocketAddr, other: SocketAddr) -> Error {
    let reason = format!("{place} leads to {one} already; a port of the host leads to one place");
    wrong("portMappings", other.to_string(), reason)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(mappings: &str, keys: &str) -> Result<Conf> {
        let text = format!(
            r#"{{"cniVersion": "1.0.0", "name": "n", "type": "portmap",
                "runtimeConfig": {{"portMappings": {mappings}}} {keys}}}"#
        );
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    fn mapped(mappings: &str) -> Vec<String> {
        let addresses = ["10.0.1.2", "fd00::2"].map(|text| text.parse().unwrap());
        let mappings = parse(mappings, "").unwrap().mappings(&addresses).unwrap();
        mappings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_port_without_an_address_is_mapped_in_both_families() {
        let one = r#"[{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}]"#;
        assert_eq!(mapped(one), ["tcp *:8080 10.0.1.2:80", "tcp *:8080 [fd00::2]:80"]);
        let twice = r#"[{"hostPort": 1, "containerPort": 2}, {"hostPort": 1, "containerPort": 2}]"#;
        assert_eq!(mapped(twice).len(), 2);
        assert_eq!(mapped("null"), [""; 0]);
    }

    #[test]
    fn the_hosts_address_says_the_family() {
        for (ip, expected) in [
            ("0.0.0.0", "udp *:53 10.0.1.2:53"),
            ("::", "udp *:53 [fd00::2]:53"),
            ("192.0.2.1", "udp 192.0.2.1:53 10.0.1.2:53"),
            ("[2001:db8::1]", "udp [2001:db8::1]:53 [fd00::2]:53"),
        ] {
            let one = format!(
                r#"[{{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "{ip}"}}]"#
            );
            assert_eq!(mapped(&one), [expected]);
        }
    }

    #[test]
    fn wrong_values_name_key_and_value() {
        for (mappings, keys, words) in [
            (r#"[{"hostPort": 0, "containerPort": 80}]"#, "", "Invalid host port number: 0"),
            (r#"[{"hostPort": 70000, "containerPort": 80}]"#, "", "hostPort 70000"),
            (r#"[{"hostPort": 80}]"#, "", "Invalid container port number: 0"),
            (r#"[{"hostPort": 8, "containerPort": 8, "protocol": "x"}]"#, "", "protocol \"x\""),
            (r#"[{"hostPort": 8, "containerPort": 8, "hostIP": "x"}]"#, "", "hostIP \"x\""),
            ("[]", r#", "backend": "pf""#, "backend \"pf\""),
            ("[]", r#", "conditionsV6": ["-m", "x"]"#, "conditionsV6 \"-m\""),
        ] {
            let error = parse(mappings, keys).unwrap_err().to_string();
            assert!(error.contains(words), "{mappings} {keys}: {error}");
        }
    }

    #[test]
    fn one_port_of_the_host_leads_to_one_place() {
        let two = r#"[{"hostPort": 1, "containerPort": 2}, {"hostPort": 1, "containerPort": 3}]"#;
        let addresses = ["10.0.1.2".parse().unwrap()];
        let error = parse(two, "").unwrap().mappings(&addresses).unwrap_err().to_string();
        assert!(error.contains("tcp *:1 leads to 10.0.1.2:2 already"), "{error}");
    }
}
