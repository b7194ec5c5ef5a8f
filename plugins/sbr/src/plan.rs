//! Which address gets which table, and which routes go there; pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_conf::result::IpConfig;
use ipnetwork::IpNetwork;
use kernel::route::{Route, TABLE_MAIN};
use kernel::rule::{Rule, Rules};

use crate::conf::Conf;

/// Who made a rule to a table of ours, and a default route in it. Neither the kernel nor a known
/// routing daemon uses these numbers.
pub(crate) const OWN_TABLE: u8 = 203;
/// Who made a rule to a table that the configuration names.
pub(crate) const GIVEN_TABLE: u8 = 204;
/// The first table that is given.
const FIRST_TABLE: u32 = 100;
/// The kernel's own: default, main and local.
const KERNELS: std::ops::RangeInclusive<u32> = 253..=255;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The rules, one an address.
    pub(crate) rules: Vec<Rule>,
    /// The routes in the rules' tables, each behind those that its gateway is reached by.
    pub(crate) routes: Vec<Route>,
    /// The routes of the main table that have gone there.
    pub(crate) moved: Vec<Route>,
}

impl Plan {
    /// The plan for these addresses of a link, in a namespace with these rules and routes.
    pub(crate) fn make(
        conf: &Conf,
        ips: &[IpConfig],
        link: u32,
        rules: &Rules,
        routes: &[Route],
    ) -> Plan {
        let mut plan = Plan::default();
        let is_taken = |table: u32| {
            let used = rules.tables.contains(&table) || routes.iter().any(|it| it.table == table);
            used || KERNELS.contains(&table)
        };
        let mut free = (FIRST_TABLE..).filter(|table| !is_taken(*table));
        for ip in ips {
            let source = ip.address.ip();
            let (table, protocol) = match conf.table {
                Some(table) => (table, GIVEN_TABLE),
                None => (free.next().unwrap_or(u32::MAX), OWN_TABLE),
            };
            plan.rules.push(Rule { source, table, protocol, priority: None });
            if conf.table.is_none() {
                plan.fill(conf, ip, link, table, routes);
            }
        }
        plan
    }

    /// Fills the table of an address.
    fn fill(&mut self, conf: &Conf, ip: &IpConfig, link: u32, table: u32, routes: &[Route]) {
        let own = routes.iter().filter(|route| is_movable(route, link) && is_for(route, ip));
        let mut own: Vec<_> = own.collect();
        // A gateway is reached by a route that must be there before.
        own.sort_by_key(|route| route.gateway.is_some());
        let given = conf.gateway_of(ip.address.ip(), None);
        let gateway = conf.gateway_of(ip.address.ip(), ip.gateway);
        let mut has_default = false;
        for route in own {
            if !self.moved.contains(route) {
                self.moved.push(*route);
            }
            let is_default = route.destination.prefix() == 0;
            if is_default && given.is_some() {
                continue;
            }
            has_default |= is_default;
            let hint = conf.source_hints.then_some(ip.address.ip());
            self.routes.push(Route { table, source: route.source.or(hint), ..*route });
        }
        if let (Some(gateway), Some(all), false) = (gateway, all(ip.address.ip()), has_default) {
            let source = conf.source_hints.then_some(ip.address.ip());
            let way = Route::new(all).via(gateway).dev(link);
            self.routes.push(Route { table, protocol: OWN_TABLE, source, ..way });
        }
    }
}

/// Whether a route is one that goes where the link's address goes. Neighbours are asked, and answer,
/// with link-local addresses, whatever rules there are.
fn is_movable(route: &Route, link: u32) -> bool {
    let is_link_local = matches!(route.destination.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast());
    route.link == Some(link) && route.table == TABLE_MAIN && !is_link_local
}

/// Whether a route is for what this address sends: by its own source or gateway, or for anybody.
fn is_for(route: &Route, ip: &IpConfig) -> bool {
    let is_near = |address: Option<IpAddr>| address.is_some_and(|it| ip.address.contains(it));
    route.destination.is_ipv4() == ip.address.is_ipv4()
        && match (route.source, route.gateway) {
            // The kernel's route to the network of an IPv6 address has no source.
            (None, None) => route.destination.prefix() == 0 || !is_of_another(route, ip),
            (source, gateway) => is_near(source) || is_near(gateway),
        }
}

/// Whether a route leads to the network of another address: one of ours would be the same.
fn is_of_another(route: &Route, ip: &IpConfig) -> bool {
    const KERNEL: u8 = 2;
    let own = IpNetwork::new(ip.address.network(), ip.address.prefix());
    route.protocol == KERNEL && own.is_ok_and(|own| own != route.destination)
}

/// All addresses of a family.
fn all(of: IpAddr) -> Option<IpNetwork> {
    let first = match of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNetwork::new(first, 0).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LINK: u32 = 7;

    fn ip(address: &str, gateway: &str) -> IpConfig {
        let gateway = gateway.parse().ok();
        IpConfig { interface: None, address: address.parse().unwrap(), gateway }
    }

    fn route(destination: &str) -> Route {
        Route::new(destination.parse().unwrap()).dev(LINK)
    }

    fn via(destination: &str, gateway: &str) -> Route {
        route(destination).via(gateway.parse().unwrap())
    }

    fn of_kernel(destination: &str, source: &str) -> Route {
        Route { protocol: 2, source: source.parse().ok(), ..route(destination) }
    }

    fn made(conf: &Conf, ips: &[IpConfig], routes: &[Route]) -> (Vec<u32>, Vec<String>, usize) {
        let rules = Rules { tables: vec![254, 255, 101], ..Rules::default() };
        let plan = Plan::make(conf, ips, LINK, &rules, routes);
        let show = |route: &Route| {
            let via = route.gateway.map(|it| format!(" via {it}")).unwrap_or_default();
            let source = route.source.map(|it| format!(" src {it}")).unwrap_or_default();
            format!("{}: {}{via}{source} ({})", route.table, route.destination, route.protocol)
        };
        let tables = plan.rules.iter().map(|rule| rule.table).collect();
        (tables, plan.routes.iter().map(show).collect(), plan.moved.len())
    }

    #[test]
    fn each_address_has_a_table_with_the_routes_that_are_its_own() {
        let routes = [
            via("0.0.0.0/0", "10.1.0.1"),
            of_kernel("10.1.0.0/16", "10.1.0.5"),
            of_kernel("10.2.0.0/16", "10.2.0.5"),
            of_kernel("fd00::/64", ""),
            of_kernel("fe80::/64", ""),
            Route { link: Some(1), ..route("10.9.0.0/16") },
            Route { table: 300, ..route("10.8.0.0/16") },
        ];
        let ips =
            [ip("10.1.0.5/16", "10.1.0.1"), ip("10.2.0.5/16", "10.2.0.1"), ip("fd00::5/64", "")];
        let (tables, routes, moved) = made(&Conf::default(), &ips, &routes);
        assert_eq!(tables, [100, 102, 103]);
        let wanted = [
            "100: 10.1.0.0/16 src 10.1.0.5 (2)",
            "100: 0.0.0.0/0 via 10.1.0.1 (3)",
            "102: 10.2.0.0/16 src 10.2.0.5 (2)",
            "102: 0.0.0.0/0 via 10.2.0.1 (203)",
            "103: fd00::/64 (2)",
        ];
        assert_eq!((routes, moved), (wanted.map(String::from).to_vec(), 4));
    }

    #[test]
    fn gateways_and_hints_are_the_networks_and_a_given_table_is_left_alone() {
        let routes = [via("0.0.0.0/0", "10.1.0.1"), route("10.9.0.0/16")];
        let ips = [ip("10.1.0.5/16", "10.1.0.1")];
        let conf = Conf {
            gateways: vec!["10.1.0.9".parse().unwrap()],
            source_hints: true,
            ..Conf::default()
        };
        let (_, filled, moved) = made(&conf, &ips, &routes);
        let wanted =
            ["100: 10.9.0.0/16 src 10.1.0.5 (3)", "100: 0.0.0.0/0 via 10.1.0.9 src 10.1.0.5 (203)"];
        assert_eq!((filled, moved), (wanted.map(String::from).to_vec(), 2));
        let given = Conf { table: Some(500), ..conf };
        assert_eq!(made(&given, &ips, &routes), (vec![500], vec![], 0));
    }
}
