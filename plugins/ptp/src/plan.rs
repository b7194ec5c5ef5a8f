//! What follows from the configuration and the addresses: pure decisions, no effects.

use std::net::IpAddr;

use cni_conf::attachment::Attachment;
use cni_conf::result::{CniResult, IpConfig};
use ipnetwork::IpNetwork;
use kernel::MacAddress;
use kernel::route::{Route, SCOPE_LINK};
use plugin_interface::{Error, Inside, Result, mac};

use crate::conf::Conf;

/// What the container and the host shall have.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// The container's addresses and routes.
    pub(crate) inside: Inside,
    /// The container's hardware address.
    pub(crate) container_mac: MacAddress,
    /// The addresses of the host's end: the gateways, each alone in its network.
    pub(crate) gateways: Vec<IpNetwork>,
}

impl Plan {
    /// Decides everything that can be decided without the kernel.
    ///
    /// # Errors
    /// An address has no gateway, or is its own.
    pub(crate) fn new(conf: &Conf, attachment: &Attachment, assigned: &CniResult) -> Result<Plan> {
        let ips = assigned.ips.clone();
        let wrong = |ip: &&IpConfig| ip.gateway.is_none_or(|gateway| gateway == ip.address.ip());
        if let Some(ip) = ips.iter().find(wrong) {
            return Err(Error::NoGateway { address: ip.address });
        }
        let container_mac = conf.mac.unwrap_or_else(|| mac::of_container(attachment, &ips));
        let routes = assigned.routes.clone();
        let gateways = gateways(&ips);
        let inside = Inside { ips, routes, behind_gateways: true, ..Inside::default() };
        Ok(Plan { inside, container_mac, gateways })
    }

    /// The host's ways to the container's addresses.
    pub(crate) fn host_routes(&self, host_end: u32) -> Vec<Route> {
        host_routes(&self.inside.ips, host_end)
    }

    /// The addresses of the host's end that it must be reachable by.
    pub(crate) fn gateway_addresses(&self) -> Vec<IpAddr> {
        self.gateways.iter().map(IpNetwork::ip).collect()
    }
}

/// The gateways of these addresses, each once and alone in its network.
pub(crate) fn gateways(ips: &[IpConfig]) -> Vec<IpNetwork> {
    let mut gateways: Vec<_> =
        ips.iter().filter_map(|ip| ip.gateway).map(IpNetwork::from).collect();
    gateways.sort();
    gateways.dedup();
    gateways
}

/// The ways to these addresses by the host's end of the veth.
pub(crate) fn host_routes(ips: &[IpConfig], host_end: u32) -> Vec<Route> {
    let route = |ip: &IpConfig| Route {
        scope: SCOPE_LINK,
        ..Route::new(ip.address.ip().into()).dev(host_end)
    };
    ips.iter().map(route).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(ips: &[(&str, Option<&str>)]) -> Result<Plan> {
        let conf = Conf { masquerade: false, mtu: Default::default(), mac: None };
        let ip = |(address, gateway): &(&str, Option<&str>)| IpConfig {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        };
        let ips = ips.iter().map(ip).collect();
        let attachment = Attachment::new("net", "id", "eth0").unwrap();
        Plan::new(&conf, &attachment, &CniResult { ips, ..CniResult::default() })
    }

    #[test]
    fn the_host_has_the_gateways_and_knows_the_way_to_the_addresses() {
        let plan = plan(&[
            ("10.0.1.7/24", Some("10.0.1.1")),
            ("10.0.1.8/24", Some("10.0.1.1")),
            ("fd00::7/64", Some("fd00::1")),
        ])
        .unwrap();
        let texts = |networks: &[IpNetwork]| networks.iter().map(ToString::to_string).collect();
        let gateways: Vec<String> = texts(&plan.gateways);
        assert_eq!(gateways, ["10.0.1.1/32", "fd00::1/128"]);
        let routes = plan.host_routes(7).into_iter().map(|route| route.destination);
        let routes: Vec<String> = texts(&routes.collect::<Vec<_>>());
        assert_eq!(routes, ["10.0.1.7/32", "10.0.1.8/32", "fd00::7/128"]);
        assert_eq!(plan.container_mac.to_string(), "0a:58:0a:00:01:07");
    }

    #[test]
    fn an_address_needs_a_gateway_that_is_somebody_else() {
        for gateway in [None, Some("10.0.1.7")] {
            let error = plan(&[("10.0.1.7/24", gateway)]).unwrap_err().to_string();
            assert!(error.contains("10.0.1.7/24") && error.contains("gateway"), "{error}");
        }
    }
}
