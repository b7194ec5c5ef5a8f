//! What follows from the configuration and the addresses: pure decisions, no effects.

use cni_conf::attachment::Attachment;
use cni_conf::result::CniResult;
use ipnetwork::IpNetwork;
use kernel::MacAddress;
use plugin_interface::inside::{self, gateway_address, with_gateway};
use plugin_interface::{Inside, mac};

use crate::conf::Conf;

/// What the container, the bridge and the host shall have.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// The container's addresses and routes.
    pub(crate) inside: Inside,
    /// The container's hardware address.
    pub(crate) container_mac: MacAddress,
    /// The gateway addresses that the bridge, or its link in the VLAN, must have.
    pub(crate) gateways: Vec<IpNetwork>,
    /// The hardware address of the bridge, should it have to be made.
    pub(crate) bridge_mac: MacAddress,
}

impl Plan {
    /// Decides everything that can be decided without the kernel.
    pub(crate) fn new(conf: &Conf, attachment: &Attachment, assigned: &CniResult) -> Plan {
        let mut ips = assigned.ips.clone();
        let mut routes = assigned.routes.clone();
        let mut gateways = Vec::new();
        if conf.is_gateway {
            ips = ips.iter().map(with_gateway).collect();
            gateways.extend(ips.iter().filter_map(gateway_address));
        }
        if conf.is_default_gateway {
            routes.extend(inside::default_routes(&ips, &routes));
        }
        Plan {
            container_mac: conf.mac.unwrap_or_else(|| mac::of_container(attachment, &ips)),
            bridge_mac: bridge_mac(conf, &gateways),
            inside: Inside {
                ips,
                routes,
                detect_duplicates: conf.detect_duplicates,
                ..Inside::default()
            },
            gateways,
        }
    }
}

impl Plan {
    /// The plan for addresses that came when the container's interface was there already.
    pub(crate) fn with(self, conf: &Conf, attachment: &Attachment, assigned: &CniResult) -> Plan {
        Plan { container_mac: self.container_mac, ..Plan::new(conf, attachment, assigned) }
    }
}

/// The hardware address of the link that has the gateway addresses.
pub(crate) fn gateway_mac(gateways: &[IpNetwork]) -> Option<MacAddress> {
    gateways.first().map(|gateway| mac::of_address(gateway.ip()))
}

/// A bridge with a gateway address keeps its MAC even when it is made anew. One without gets an
/// address by its name, which is no other's on this host; hosts tell theirs apart by the salt.
fn bridge_mac(conf: &Conf, gateways: &[IpNetwork]) -> MacAddress {
    match gateway_mac(gateways) {
        Some(mac) if conf.gateway_link().is_none() => mac,
        _ => mac::of_words(&["bridge", &conf.bridge, &random_salt()]),
    }
}

/// Two bridges of one name on two hosts may be on one link: their addresses must differ.
fn random_salt() -> String {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cni_conf::result::{IpConfig, Route};
    use plugin_interface::keys::Mtu;

    use super::*;

    fn conf(is_gateway: bool, is_default_gateway: bool) -> Conf {
        Conf {
            bridge: "cbr0".into(),
            is_gateway,
            is_default_gateway,
            force_address: false,
            masquerade: false,
            hairpin: false,
            promiscuous: false,
            isolated: false,
            vlans: None,
            check_mac: false,
            mac: None,
            detect_duplicates: false,
            leave_down: false,
            mtu: Mtu::Unset,
            sync_status: None,
        }
    }

    fn assigned(addresses: &[&str], routes: &[Route]) -> CniResult {
        let ip = |text: &&str| IpConfig {
            interface: None,
            address: text.parse().unwrap(),
            gateway: None,
        };
        CniResult {
            ips: addresses.iter().map(ip).collect(),
            routes: routes.to_vec(),
            ..CniResult::default()
        }
    }

    fn plan(conf: &Conf, addresses: &[&str], routes: &[Route]) -> Plan {
        let attachment = Attachment::new("net", "id", "eth0").unwrap();
        Plan::new(conf, &attachment, &assigned(addresses, routes))
    }

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn a_gateway_is_the_first_address_unless_ipam_says_otherwise() {
        let plan = plan(&conf(true, false), &["10.0.1.7/24", "fd00::7/64"], &[]);
        assert_eq!(plan.gateways, [network("10.0.1.1/24"), network("fd00::1/64")]);
        assert_eq!(plan.inside.routes, []);

        let mut given = assigned(&["10.0.1.7/24"], &[]);
        given.ips[0].gateway = Some("10.0.1.254".parse().unwrap());
        let attachment = Attachment::new("net", "id", "eth0").unwrap();
        let plan = Plan::new(&conf(true, false), &attachment, &given);
        assert_eq!(plan.gateways, [network("10.0.1.254/24")]);
    }

    #[test]
    fn without_gateway_nothing_is_put_on_the_bridge() {
        let plan = plan(&conf(false, false), &["10.0.1.7/24"], &[]);
        assert_eq!((plan.gateways, plan.inside.ips[0].gateway), (vec![], None));
    }

    #[test]
    fn each_family_gets_one_default_route() {
        let any4 = network("0.0.0.0/0");
        let gateway = |text: &str| Some(text.parse().unwrap());
        let both = plan(&conf(true, true), &["10.0.1.7/24", "fd00::7/64"], &[]);
        assert_eq!(
            both.inside.routes,
            [
                Route::new(any4, gateway("10.0.1.1")),
                Route::new(network("::/0"), gateway("fd00::1"))
            ]
        );

        let own = [Route::new(any4, None)];
        assert_eq!(plan(&conf(true, true), &["10.0.1.7/24"], &own).inside.routes, own);
    }

    #[test]
    fn a_wished_mac_comes_before_the_one_that_follows_from_the_address() {
        let mac = MacAddress([0x0a, 0, 0, 0, 0, 1]);
        let wished = plan(&Conf { mac: Some(mac), ..conf(true, false) }, &["10.0.1.7/24"], &[]);
        assert_eq!(wished.container_mac, mac);
    }

    #[test]
    fn a_bridge_with_a_gateway_keeps_its_mac_and_others_differ_from_host_to_host() {
        let gateway = plan(&conf(true, false), &["10.0.1.7/24"], &[]);
        assert_eq!(gateway.bridge_mac.to_string(), "0a:58:0a:00:01:01");
        assert_eq!(gateway.container_mac.to_string(), "0a:58:0a:00:01:07");

        let plain = plan(&conf(false, false), &[], &[]);
        assert_ne!(plain.container_mac, plain.bridge_mac);
        assert_ne!(plain.bridge_mac, bridge_mac(&conf(false, false), &[]), "two hosts must differ");
    }
}
