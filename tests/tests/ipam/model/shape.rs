//! Networks that are full soon, with their addresses counted by hand.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A configuration, and what it gives.
pub(crate) struct Shape {
    pub(crate) ipam: Value,
    /// Of each range set, every address that can be given, with the prefix length it gets.
    pub(crate) pools: Vec<Vec<(IpAddr, u8)>>,
    /// Gateways that lie in a range, and are never given.
    pub(crate) gateways: Vec<IpAddr>,
}

impl Shape {
    /// Every configuration that is tried.
    pub(crate) fn all() -> Vec<Shape> {
        let small = pool("10.1.2.", 2..=6, 29);
        let shape = |ranges: Value, pools: Vec<Vec<(IpAddr, u8)>>, gateways: &[&str]| Shape {
            ipam: json!({"ranges": ranges}),
            pools,
            gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        };
        vec![
            Shape {
                ipam: json!({"subnet": "10.1.2.0/29"}),
                pools: vec![small.clone()],
                gateways: vec!["10.1.2.1".parse().unwrap()],
            },
            // Two ranges in a set; the gateway of the second is not in what it hands out.
            shape(
                json!([[
                    {"subnet": "10.1.2.0/30"},
                    {"subnet": "10.1.3.0/28", "rangeStart": "10.1.3.4", "rangeEnd": "10.1.3.6"},
                ]]),
                vec![[pool("10.1.2.", 2..=2, 30), pool("10.1.3.", 4..=6, 28)].concat()],
                &["10.1.2.1"],
            ),
            // IPv6 has no broadcast address.
            shape(
                json!([[{"subnet": "10.1.2.0/29"}], [{"subnet": "2001:db8:1::/125"}]]),
                vec![small.clone(), pool("2001:db8:1::", 2..=7, 125)],
                &["10.1.2.1", "2001:db8:1::1"],
            ),
            // A part of a subnet, with a gateway in the middle of it.
            shape(
                json!([[{
                    "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.3", "rangeEnd": "10.1.2.7",
                    "gateway": "10.1.2.5",
                }]]),
                vec![[pool("10.1.2.", 3..=4, 24), pool("10.1.2.", 6..=7, 24)].concat()],
                &["10.1.2.5"],
            ),
            shape(
                json!([[{"subnet": "2001:db8:2::/126"}]]),
                vec![pool("2001:db8:2::", 2..=3, 126)],
                &["2001:db8:2::1"],
            ),
            // A gateway elsewhere: the first address is one like any other.
            shape(
                json!([[{"subnet": "10.1.2.0/30", "gateway": "192.0.2.1"}]]),
                vec![pool("10.1.2.", 1..=2, 30)],
                &[],
            ),
            // Two sets of a family, of which the second is full first.
            shape(
                json!([[{"subnet": "10.1.2.0/29"}], [{"subnet": "10.9.0.0/30"}]]),
                vec![small, pool("10.9.0.", 2..=2, 30)],
                &["10.1.2.1", "10.9.0.1"],
            ),
        ]
    }
}

fn pool(prefix: &str, hosts: std::ops::RangeInclusive<u8>, length: u8) -> Vec<(IpAddr, u8)> {
    hosts.map(|host| (format!("{prefix}{host}").parse().unwrap(), length)).collect()
}
