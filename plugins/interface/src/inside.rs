//! What the Pod's interface shall have, as far as it follows from the addresses that IPAM gave:
//! pure decisions, no effects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_conf::result::{IpConfig, Route};
use ipnetwork::IpNetwork;
use kernel::route::{SCOPE_LINK, SCOPE_UNIVERSE};

/// The addresses and routes of the Pod's interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inside {
    /// The addresses, each with its gateway where the network has one.
    pub ips: Vec<IpConfig>,
    /// The routes as they are reported.
    pub routes: Vec<Route>,
    /// Whether only the gateways are on the link, and the networks of the addresses behind them.
    pub behind_gateways: bool,
    /// Whether the kernel asks, before it uses an IPv6 address, if somebody else has it.
    pub detect_duplicates: bool,
}

impl Inside {
    /// Whether any of the addresses is an IPv4 address.
    pub fn has_ipv4(&self) -> bool {
        self.ips.iter().any(|ip| ip.address.is_ipv4())
    }

    /// Whether any of the addresses is an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.ips.iter().any(|ip| ip.address.is_ipv6())
    }

    /// The addresses as they are reported: on the interface of this place in the result.
    pub fn ips_of(&self, interface: usize) -> Vec<IpConfig> {
        self.ips.iter().map(|ip| IpConfig { interface: Some(interface), ..ip.clone() }).collect()
    }

    /// The routes as the kernel gets them, in an order in which each next hop is reachable. One
    /// without a gateway of its own goes through the first of its family.
    pub fn kernel_routes(&self, link: u32) -> Vec<kernel::route::Route> {
        let reported = self.routes.iter().map(|route| kernel_route(route, &self.ips, link));
        let to_gateways = self.ips.iter().filter(|_| self.behind_gateways);
        to_gateways.flat_map(|ip| through_gateway(ip, link)).chain(reported).collect()
    }
}

/// The address with a gateway: IPAM's, else the network's first address.
pub fn with_gateway(ip: &IpConfig) -> IpConfig {
    let first = match ip.address {
        IpNetwork::V4(v4) => {
            IpAddr::V4(Ipv4Addr::from_bits(v4.network().to_bits().wrapping_add(1)))
        }
        IpNetwork::V6(v6) => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.network().to_bits().wrapping_add(1)))
        }
    };
    IpConfig { gateway: ip.gateway.or(Some(first)), ..ip.clone() }
}

/// The gateway's address as a link of the network has it.
pub fn gateway_address(ip: &IpConfig) -> Option<IpNetwork> {
    IpNetwork::new(ip.gateway?, ip.address.prefix()).ok()
}

/// A default route for each family that has a gateway and no default route yet.
pub fn default_routes(ips: &[IpConfig], routes: &[Route]) -> Vec<Route> {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let any = any.into_iter().filter_map(|address| IpNetwork::new(address, 0).ok());
    let missing = |any: &IpNetwork| !routes.iter().any(|route| route.dst == *any);
    let route = |any: IpNetwork| Some(Route::new(any, Some(first_gateway(ips, any.is_ipv4())?)));
    any.filter(missing).filter_map(route).collect()
}

fn first_gateway(ips: &[IpConfig], v4: bool) -> Option<IpAddr> {
    ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)
}

/// The way to the gateway alone, and through it to the address's network.
fn through_gateway(ip: &IpConfig, link: u32) -> Vec<kernel::route::Route> {
    let Some(gateway) = ip.gateway else { return Vec::new() };
    let on_link = kernel::route::Route {
        scope: SCOPE_LINK,
        ..kernel::route::Route::new(gateway.into()).dev(link)
    };
    // Nothing but the gateway may be in the network: then there is no way beyond it.
    let network = IpNetwork::new(ip.address.network(), ip.address.prefix()).ok();
    let beyond = network.filter(|network| *network != IpNetwork::from(gateway));
    let beyond = beyond.map(|network| kernel::route::Route::new(network).via(gateway).dev(link));
    [on_link].into_iter().chain(beyond).collect()
}

fn kernel_route(route: &Route, ips: &[IpConfig], link: u32) -> kernel::route::Route {
    let plain = kernel::route::Route::new(route.dst);
    // What is on the link by its scope is behind no gateway, and the kernel would refuse one.
    let is_on_link = route.scope.is_some_and(|scope| scope >= SCOPE_LINK);
    let of_family = || first_gateway(ips, route.dst.is_ipv4()).filter(|_| !is_on_link);
    let gateway = route.gw.or_else(of_family);
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
pub fn table_of(table: u32) -> u32 {
    if table == 0 { kernel::route::TABLE_MAIN } else { table }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpConfig {
        with_gateway(&IpConfig { interface: None, address: network(text), gateway: None })
    }

    fn gateway(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_gateway_is_the_first_address_unless_ipam_says_otherwise() {
        assert_eq!(gateway_address(&ip("10.0.1.7/24")), Some(network("10.0.1.1/24")));
        assert_eq!(gateway_address(&ip("fd00::7/64")), Some(network("fd00::1/64")));
        let given = IpConfig { gateway: gateway("10.0.1.254"), ..ip("10.0.1.7/24") };
        assert_eq!(gateway_address(&with_gateway(&given)), Some(network("10.0.1.254/24")));
    }

    #[test]
    fn each_family_gets_one_default_route() {
        let any4 = network("0.0.0.0/0");
        let ips = [ip("10.0.1.7/24"), ip("fd00::7/64")];
        assert_eq!(
            default_routes(&ips, &[]),
            [
                Route::new(any4, gateway("10.0.1.1")),
                Route::new(network("::/0"), gateway("fd00::1"))
            ]
        );
        assert_eq!(default_routes(&ips[..1], &[Route::new(any4, None)]), []);
    }

    #[test]
    fn routes_without_a_gateway_take_the_first_of_their_family() {
        let routes = vec![
            Route::new(network("192.0.2.0/24"), None),
            Route::new(network("2001:db8::/32"), None),
        ];
        let inside = Inside { ips: vec![ip("10.0.1.7/24")], routes, ..Inside::default() };
        let kernel = inside.kernel_routes(7);
        assert_eq!(
            (kernel[0].gateway, kernel[0].scope, kernel[0].link),
            (gateway("10.0.1.1"), 0, Some(7))
        );
        assert_eq!((kernel[1].gateway, kernel[1].scope), (None, SCOPE_LINK));
    }

    #[test]
    fn options_of_a_route_are_the_kernels() {
        let route = Route {
            mtu: Some(1400),
            advmss: Some(1360),
            priority: Some(7),
            table: Some(100),
            scope: Some(SCOPE_LINK),
            ..Route::new(network("192.0.2.0/24"), None)
        };
        let inside = Inside { routes: vec![route], ..Inside::default() };
        let [route] = inside.kernel_routes(7)[..] else { unreachable!() };
        assert_eq!((route.mtu, route.advmss, route.priority), (Some(1400), Some(1360), 7));
        assert_eq!((route.table, route.scope), (100, SCOPE_LINK));
    }

    #[test]
    fn behind_gateways_only_the_gateway_is_on_the_link() {
        let ips = vec![ip("10.0.1.7/24"), ip("fd00::7/64")];
        let inside = Inside { ips, routes: Vec::new(), behind_gateways: true, ..Inside::default() };
        let found: Vec<_> = inside
            .kernel_routes(7)
            .into_iter()
            .map(|route| (route.destination, route.gateway, route.scope))
            .collect();
        assert_eq!(
            found,
            [
                (network("10.0.1.1/32"), None, SCOPE_LINK),
                (network("10.0.1.0/24"), gateway("10.0.1.1"), SCOPE_UNIVERSE),
                (network("fd00::1/128"), None, SCOPE_LINK),
                (network("fd00::/64"), gateway("fd00::1"), SCOPE_UNIVERSE),
            ]
        );
    }
}
