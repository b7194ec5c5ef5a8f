//! What follows from the configuration and the addresses: pure decisions, no effects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_conf::attachment::Attachment;
use cni_conf::result::{CniResult, IpConfig, Route};
use ipnetwork::IpNetwork;
use kernel::MacAddress;
use sha2::{Digest, Sha256};

use crate::conf::Conf;

/// What the container, the bridge and the host shall have.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// The container's addresses, each with its gateway where the network has one.
    pub(crate) ips: Vec<IpConfig>,
    /// The container's routes as they are reported.
    pub(crate) routes: Vec<Route>,
    /// The gateway addresses that the bridge must have.
    pub(crate) gateways: Vec<IpNetwork>,
    /// The container's hardware address.
    pub(crate) container_mac: MacAddress,
    /// The hardware address of the host's end.
    pub(crate) host_mac: MacAddress,
    /// The hardware address of the bridge, should it have to be made.
    pub(crate) bridge_mac: MacAddress,
}

impl Plan {
    /// Decides everything that can be decided without the kernel.
    pub(crate) fn new(conf: &Conf, attachment: &Attachment, assigned: &CniResult) -> Plan {
        let ips: Vec<_> = assigned.ips.iter().map(|ip| with_gateway(conf, ip)).collect();
        let gateways: Vec<_> = if conf.is_gateway {
            ips.iter().filter_map(gateway_address).collect()
        } else {
            Vec::new()
        };
        let mut routes = assigned.routes.clone();
        if conf.is_default_gateway {
            routes.extend(default_routes(&ips, &routes));
        }
        Plan {
            container_mac: container_mac(attachment, &ips),
            host_mac: mac_of(&[
                "host end",
                &attachment.network,
                &attachment.container_id,
                &attachment.ifname,
            ]),
            bridge_mac: bridge_mac(conf, &gateways),
            ips,
            routes,
            gateways,
        }
    }

    /// Whether any of the container's addresses is an IPv4 address.
    pub(crate) fn has_ipv4(&self) -> bool {
        self.ips.iter().any(|ip| ip.address.is_ipv4())
    }

    /// Whether any of the container's addresses is an IPv6 address.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.ips.iter().any(|ip| ip.address.is_ipv6())
    }

    /// The addresses as they are reported: on the interface of this place in the result.
    pub(crate) fn ips_of(&self, interface: usize) -> Vec<IpConfig> {
        self.ips.iter().map(|ip| IpConfig { interface: Some(interface), ..ip.clone() }).collect()
    }

    /// The routes as the kernel gets them: one without a gateway of its own goes through the first
    /// of its family.
    pub(crate) fn kernel_routes(&self, link: u32) -> Vec<kernel::route::Route> {
        self.routes.iter().map(|route| kernel_route(route, &self.ips, link)).collect()
    }
}

/// `isGateway` without a gateway from IPAM means the network's first address.
fn with_gateway(conf: &Conf, ip: &IpConfig) -> IpConfig {
    let first = || match ip.address {
        IpNetwork::V4(v4) => {
            IpAddr::V4(Ipv4Addr::from_bits(v4.network().to_bits().wrapping_add(1)))
        }
        IpNetwork::V6(v6) => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.network().to_bits().wrapping_add(1)))
        }
    };
    let gateway = ip.gateway.or_else(|| conf.is_gateway.then(first));
    IpConfig { gateway, ..ip.clone() }
}

/// The gateway's address as the bridge has it.
pub(crate) fn gateway_address(ip: &IpConfig) -> Option<IpNetwork> {
    IpNetwork::new(ip.gateway?, ip.address.prefix()).ok()
}

/// A default route for each family that has a gateway and no default route yet.
fn default_routes(ips: &[IpConfig], routes: &[Route]) -> Vec<Route> {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let any = any.into_iter().filter_map(|address| IpNetwork::new(address, 0).ok());
    let missing = |any: &IpNetwork| !routes.iter().any(|route| route.dst == *any);
    let route = |any: IpNetwork| Some(Route::new(any, Some(first_gateway(ips, any.is_ipv4())?)));
    any.filter(missing).filter_map(route).collect()
}

fn first_gateway(ips: &[IpConfig], v4: bool) -> Option<IpAddr> {
    ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)
}

fn kernel_route(route: &Route, ips: &[IpConfig], link: u32) -> kernel::route::Route {
    let plain = kernel::route::Route::new(route.dst);
    let gateway = route.gw.or_else(|| first_gateway(ips, route.dst.is_ipv4()));
    let default_scope = if gateway.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK };
    kernel::route::Route {
        gateway,
        link: Some(link),
        table: route.table.map_or(plain.table, table_of),
        scope: route.scope.unwrap_or(default_scope),
        priority: route.priority.unwrap_or(0),
        mtu: route.mtu,
        advmss: route.advmss,
        ..plain
    }
}

/// The kernel takes table 0, "unspecified", for the main one.
pub(crate) fn table_of(table: u32) -> u32 {
    if table == 0 { kernel::route::TABLE_MAIN } else { table }
}

/// `RT_SCOPE_UNIVERSE`: beyond a gateway.
const SCOPE_UNIVERSE: u8 = 0;
/// `RT_SCOPE_LINK`: on the link itself.
const SCOPE_LINK: u8 = 253;

/// An address keeps its MAC whoever has it, so that a neighbour's memory of it is right even when
/// the address has just changed hands. The first bytes are those of kubenet.
fn container_mac(attachment: &Attachment, ips: &[IpConfig]) -> MacAddress {
    let v4 = ips.iter().find_map(|ip| match ip.address.ip() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    });
    match (v4, ips.first()) {
        (Some(v4), _) => mac_of_ipv4(v4),
        (None, Some(ip)) => mac_of(&["address", &ip.address.ip().to_string()]),
        (None, None) => mac_of(&[
            "container end",
            &attachment.network,
            &attachment.container_id,
            &attachment.ifname,
        ]),
    }
}

/// A bridge with a gateway address keeps its MAC even when it is made anew. One without gets an
/// address by its name, which is no other's on this host; hosts tell theirs apart by the salt.
fn bridge_mac(conf: &Conf, gateways: &[IpNetwork]) -> MacAddress {
    match gateways.first().map(IpNetwork::ip) {
        Some(IpAddr::V4(v4)) => mac_of_ipv4(v4),
        Some(IpAddr::V6(v6)) => mac_of(&["address", &v6.to_string()]),
        None => mac_of(&["bridge", &conf.bridge, &random_salt()]),
    }
}

/// Two bridges of one name on two hosts may be on one link: their addresses must differ.
fn random_salt() -> String {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).to_string()
}

fn mac_of_ipv4(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress([0x0a, 0x58, a, b, c, d])
}

/// A locally administered unicast address (IEEE 802) from a hash of these words.
fn mac_of(words: &[&str]) -> MacAddress {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word);
        hash.update([0]);
    }
    let hash = hash.finalize();
    MacAddress([0x0a, hash[0], hash[1], hash[2], hash[3], hash[4]])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn conf(is_gateway: bool, is_default_gateway: bool) -> Conf {
        Conf {
            bridge: "cbr0".into(),
            is_gateway,
            is_default_gateway,
            masquerade: false,
            hairpin: false,
            promiscuous: false,
            mtu: None,
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
        assert_eq!(plan.routes, []);

        let mut given = assigned(&["10.0.1.7/24"], &[]);
        given.ips[0].gateway = Some("10.0.1.254".parse().unwrap());
        let attachment = Attachment::new("net", "id", "eth0").unwrap();
        let plan = Plan::new(&conf(true, false), &attachment, &given);
        assert_eq!(plan.gateways, [network("10.0.1.254/24")]);
    }

    #[test]
    fn without_gateway_nothing_is_put_on_the_bridge() {
        let plan = plan(&conf(false, false), &["10.0.1.7/24"], &[]);
        assert_eq!((plan.gateways, plan.ips[0].gateway), (vec![], None));
    }

    #[test]
    fn each_family_gets_one_default_route() {
        let any4 = network("0.0.0.0/0");
        let gateway = |text: &str| Some(text.parse().unwrap());
        let both = plan(&conf(true, true), &["10.0.1.7/24", "fd00::7/64"], &[]);
        assert_eq!(
            both.routes,
            [
                Route::new(any4, gateway("10.0.1.1")),
                Route::new(network("::/0"), gateway("fd00::1"))
            ]
        );

        let own = [Route::new(any4, None)];
        assert_eq!(plan(&conf(true, true), &["10.0.1.7/24"], &own).routes, own);
    }

    #[test]
    fn routes_without_a_gateway_take_the_first_of_their_family() {
        let routes =
            [Route::new(network("192.0.2.0/24"), None), Route::new(network("2001:db8::/32"), None)];
        let plan = plan(&conf(true, false), &["10.0.1.7/24"], &routes);
        let kernel = plan.kernel_routes(7);
        assert_eq!(
            (kernel[0].gateway, kernel[0].scope, kernel[0].link),
            (Some("10.0.1.1".parse().unwrap()), 0, Some(7))
        );
        assert_eq!((kernel[1].gateway, kernel[1].scope), (None, SCOPE_LINK));
    }

    #[test]
    fn macs_follow_the_address() {
        let mac =
            |addresses: &[&str]| plan(&conf(true, false), addresses, &[]).container_mac.to_string();
        assert_eq!(mac(&["10.0.1.7/24"]), "0a:58:0a:00:01:07");
        assert_eq!(mac(&["fd00::7/64", "10.0.1.7/24"]), "0a:58:0a:00:01:07");
        assert_eq!(mac(&["fd00::7/64"]), mac(&["fd00::7/64"]));
        assert_ne!(mac(&["fd00::7/64"]), mac(&["fd00::8/64"]));
        assert_eq!(
            plan(&conf(true, false), &["10.0.1.7/24"], &[]).bridge_mac.to_string(),
            "0a:58:0a:00:01:01"
        );
    }

    #[test]
    fn the_three_macs_differ() {
        let plan = plan(&conf(false, false), &[], &[]);
        assert_ne!(plan.container_mac, plan.host_mac);
        assert_ne!(plan.host_mac, plan.bridge_mac);
        assert_ne!(
            plan.bridge_mac,
            super::bridge_mac(&conf(false, false), &[]),
            "two hosts must differ"
        );
    }
}
