//! The cluster's configuration, the key `config`: flannel's JSON. It is read, never written: what
//! the cluster's network is, one node cannot decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::subnet::{Pool, Pools};

/// The network of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The range of all Pods, one a family.
    pub networks: Vec<IpNetwork>,
    /// The subnets it is cut into.
    pub pools: Pools,
}

/// Why there is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("there is no key {key} in etcd; put the Pod range there, such as: {}", example(key))]
    Missing {
        /// The key.
        key: String,
    },
    /// The key is there.
    #[error(
        "the value of {key} in etcd is wrong: {problem}; put another, such as: {}",
        example(key)
    )]
    Broken {
        /// The key.
        key: String,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON, or not of the shape.
    #[error("{0}")]
    Json(String),
    /// flannel's etcd layout has no keys for it.
    #[error("EnableIPv4 is false, and this layout has no leases of IPv6 alone")]
    V6Alone,
    /// The key is needed.
    #[error("{0} is missing")]
    NoNetwork(&'static str),
    /// Not a range.
    #[error("{key} {text:?} is no range of its family with all host bits zero")]
    Network {
        /// The key in the JSON.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// Room for fewer than four nodes, or no room for Pods.
    #[error("{key} {length} does not cut {network} into at least four subnets with room for Pods")]
    SubnetLen {
        /// The key in the JSON.
        key: &'static str,
        /// What it says, or would be by default.
        length: u8,
        /// What is to be cut.
        network: IpNetwork,
    },
    /// Not where a subnet can begin.
    #[error("{key} {text:?} is not where a /{length} of {network} begins")]
    Bound {
        /// The key in the JSON.
        key: &'static str,
        /// What it says.
        text: String,
        /// The subnets' prefix length.
        length: u8,
        /// Where subnets can be.
        network: IpNetwork,
    },
    /// There is nothing between them.
    #[error("{0} is greater than {1}")]
    Order(&'static str, &'static str),
}

/// The command that puts a sound configuration.
fn example(key: &str) -> String {
    format!("etcdctl put {key} '{{\"Network\": \"10.0.0.0/14\", \"SubnetLen\": 24}}'")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Written {
    #[serde(rename = "EnableIPv4")]
    enable_v4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_v6: bool,
    network: Option<String>,
    subnet_len: u8,
    subnet_min: Option<String>,
    subnet_max: Option<String>,
    #[serde(rename = "IPv6Network")]
    v6_network: Option<String>,
    #[serde(rename = "IPv6SubnetLen")]
    v6_subnet_len: u8,
    #[serde(rename = "IPv6SubnetMin")]
    v6_subnet_min: Option<String>,
    #[serde(rename = "IPv6SubnetMax")]
    v6_subnet_max: Option<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            enable_v4: true,
            enable_v6: false,
            network: None,
            subnet_len: 0,
            subnet_min: None,
            subnet_max: None,
            v6_network: None,
            v6_subnet_len: 0,
            v6_subnet_min: None,
            v6_subnet_max: None,
        }
    }
}

/// Reads the configuration. `key` is its full name, for what is said about it.
///
/// # Errors
/// It is not there, or not sound.
pub fn parse(key: &str, value: Option<&[u8]>) -> Result<Config, ConfigError> {
    let Some(value) = value else {
        return Err(ConfigError::Missing { key: key.to_owned() });
    };
    config(value).map_err(|problem| ConfigError::Broken { key: key.to_owned(), problem })
}

fn config(value: &[u8]) -> Result<Config, Problem> {
    let written: Written =
        serde_json::from_slice(value).map_err(|error| Problem::Json(error.to_string()))?;
    if !written.enable_v4 {
        return Err(Problem::V6Alone);
    }
    let (network, v4) =
        V4.pool(written.network, written.subnet_len, written.subnet_min, written.subnet_max)?;
    let mut config = Config { networks: vec![network], pools: Pools { v4, v6: None } };
    if written.enable_v6 {
        let (network, v6) = V6.pool(
            written.v6_network,
            written.v6_subnet_len,
            written.v6_subnet_min,
            written.v6_subnet_max,
        )?;
        config.networks.push(network);
        config.pools.v6 = Some(v6);
    }
    Ok(config)
}

/// What differs between the families: the names of the keys, and some lengths.
struct Family {
    network: &'static str,
    length: &'static str,
    min: &'static str,
    max: &'static str,
    bits: u8,
    /// The usual length of a subnet.
    usual: u8,
    /// The longest that has room for Pods.
    longest: u8,
}

const V4: Family = Family {
    network: "Network",
    length: "SubnetLen",
    min: "SubnetMin",
    max: "SubnetMax",
    bits: 32,
    usual: 24,
    longest: 30,
};
const V6: Family = Family {
    network: "IPv6Network",
    length: "IPv6SubnetLen",
    min: "IPv6SubnetMin",
    max: "IPv6SubnetMax",
    bits: 128,
    usual: 64,
    longest: 126,
};

impl Family {
    fn pool(
        &self,
        network: Option<String>,
        length: u8,
        min: Option<String>,
        max: Option<String>,
    ) -> Result<(IpNetwork, Pool), Problem> {
        let text = network.ok_or(Problem::NoNetwork(self.network))?;
        let network = self.network(text)?;
        // The usual length needs room for four subnets; where there is less, a network is cut
        // into four.
        let quarter = network.prefix().saturating_add(2);
        let length = if length == 0 { self.usual.max(quarter) } else { length };
        if length < quarter || length > self.longest {
            return Err(Problem::SubnetLen { key: self.length, length, network });
        }
        // flannel leaves out the first subnet, in which the network's own address lies.
        let size = 1u128 << (self.bits - length);
        let (start, end) = (bits(network.network()), bits(network.broadcast()));
        let bound = |key, text: Option<String>, default| match text {
            Some(text) => self.bound(key, text, length, network),
            None => Ok(default),
        };
        let first = bound(self.min, min, start + size)?;
        let last = bound(self.max, max, end - (size - 1))?;
        if first > last {
            return Err(Problem::Order(self.min, self.max));
        }
        let pool = Pool { first: self.address(first), last: self.address(last), prefix: length };
        Ok((network, pool))
    }

    fn network(&self, text: String) -> Result<IpNetwork, Problem> {
        let range = cni_conf::json::cidr(&text).ok();
        let sound = |range: &IpNetwork| {
            range.is_ipv4() == (self.bits == 32) && range.network() == range.ip()
        };
        range.filter(sound).ok_or(Problem::Network { key: self.network, text })
    }

    fn bound(
        &self,
        key: &'static str,
        text: String,
        length: u8,
        network: IpNetwork,
    ) -> Result<u128, Problem> {
        let address: Option<IpAddr> = text.parse().ok();
        let address = address.filter(|&address| {
            network.contains(address) && bits(address).is_multiple_of(1 << (self.bits - length))
        });
        address.map(bits).ok_or(Problem::Bound { key, text, length, network })
    }

    fn address(&self, bits: u128) -> IpAddr {
        if self.bits == 32 {
            Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into()
        } else {
            Ipv6Addr::from_bits(bits).into()
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        parse("/coreos.com/network/config", Some(text.as_bytes()))
    }

    fn pool(text: &str) -> (String, String, u8) {
        let pool = read(text).unwrap().pools.v4;
        (pool.first.to_string(), pool.last.to_string(), pool.prefix)
    }

    #[test]
    fn the_defaults_are_flannels() {
        let expected = ("10.0.1.0".to_owned(), "10.3.255.0".to_owned(), 24);
        assert_eq!(pool(r#"{"Network": "10.0.0.0/14"}"#), expected);
        let text = r#"{"Network": "10.0.0.0/14", "Backend": {"Type": "vxlan"}, "Other": 1}"#;
        assert_eq!(pool(text), expected);
        let small = ("10.0.0.64".to_owned(), "10.0.0.192".to_owned(), 26);
        assert_eq!(pool(r#"{"Network": "10.0.0.0/24"}"#), small);
    }

    #[test]
    fn the_bounds_can_be_given() {
        let text = r#"{"Network": "10.0.0.0/8", "SubnetLen": 20, "SubnetMin": "10.10.0.0",
                       "SubnetMax": "10.99.0.0"}"#;
        assert_eq!(pool(text), ("10.10.0.0".to_owned(), "10.99.0.0".to_owned(), 20));
    }

    #[test]
    fn both_families() {
        let text = r#"{"EnableIPv6": true, "Network": "10.0.0.0/14", "IPv6Network": "fd00::/48"}"#;
        let config = read(text).unwrap();
        assert_eq!(config.networks.len(), 2);
        let v6 = config.pools.v6.unwrap();
        assert_eq!((v6.first.to_string().as_str(), v6.prefix), ("fd00:0:0:1::", 64));
        assert_eq!(v6.last.to_string(), "fd00:0:0:ffff::");
    }

    #[test]
    fn a_missing_key_is_answered_with_an_example() {
        let error = parse("/x/config", None).unwrap_err().to_string();
        assert!(error.contains("etcdctl put /x/config '{\"Network\": \"10.0.0.0/14\""), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "EOF"),
            ("{}", "Network is missing"),
            (r#"{"Network": "10.0.0.1/14"}"#, "\"10.0.0.1/14\""),
            (r#"{"Network": "fd00::/48"}"#, "\"fd00::/48\""),
            (r#"{"Network": "10.0.0.0/14", "SubnetLen": 15}"#, "SubnetLen 15"),
            (r#"{"Network": "10.0.0.0/14", "SubnetLen": 31}"#, "SubnetLen 31"),
            (r#"{"Network": "10.0.0.0/29"}"#, "SubnetLen 31"),
            (r#"{"Network": "10.0.0.0/14", "SubnetMin": "10.0.1.1"}"#, "\"10.0.1.1\""),
            (r#"{"Network": "10.0.0.0/14", "SubnetMax": "11.0.0.0"}"#, "\"11.0.0.0\""),
            (
                r#"{"Network": "10.0.0.0/14", "SubnetMin": "10.2.0.0", "SubnetMax": "10.1.0.0"}"#,
                "greater",
            ),
            (r#"{"Network": "10.0.0.0/14", "EnableIPv4": false}"#, "IPv6 alone"),
            (r#"{"Network": "10.0.0.0/14", "EnableIPv6": true}"#, "IPv6Network is missing"),
            (r#"{"Network": 5}"#, "invalid type"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(part) && error.contains("etcdctl put"), "{text}: {error}");
        }
    }
}
