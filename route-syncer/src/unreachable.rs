//! Ranges that are unreachable wherever no better route leads: what is not in use of this node's own,
//! and the whole cluster's.
//!
//! Packets to them are answered at once. Otherwise they would leave by the default route: those to
//! this node's own range to come back from there, those to unknown nodes to vanish, or to leave the
//! cluster with a Pod's address.
//!
//! The longest prefix wins whatever the metric, so these routes take nothing from the narrower ones
//! of nodes, bridges and uplinks. What they could take is what is reached by a *wider* route, most
//! often the default one: so a range of the cluster is left alone where a known address in it is
//! reached like that ([`Obstacle`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::{ArgAction, Args};
use ipnetwork::IpNetwork;

use crate::claims::{Judged, Refusal, Verdict, check_range};
use crate::observed::Observed;
use crate::ranges::{covers, overlap};

/// The metric for this node's own ranges: higher than that of any route which the kernel makes of an
/// address.
pub const OWN_METRIC: u32 = 4096;
/// The metric for the ranges of the cluster: a node's own range is the better answer.
pub const CLUSTER_METRIC: u32 = 8192;

/// Which ranges are to be unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Unreachable {
    /// Make this node's own ranges unreachable wherever no better route leads: packets to Pod
    /// addresses that are not in use, or to all of them while the bridge is missing, are answered
    /// and do not leave by the default route, to come back from there.
    ///
    /// The routes have metric 4096: the bridge's are better, whichever came first.
    #[arg(long = "own-unreachable", value_name = "BOOL", action = ArgAction::Set,
          default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub own: bool,

    /// Make the ranges of the cluster unreachable wherever no better route leads: packets to nodes
    /// that nobody knows are answered and do not leave by the default route. The ranges are those of
    /// --cluster-cidr and those that the source knows.
    ///
    /// The routes have metric 8192. A range is left alone, and status says so, if a service range, a
    /// node's address or a gateway in it would be lost.
    #[arg(long = "cluster-unreachable", value_name = "BOOL", action = ArgAction::Set,
          default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub cluster: bool,
}

/// Why a range of the cluster is not made unreachable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It is no range that a cluster can have.
    #[error(transparent)]
    Range(#[from] Refusal),
    /// All of it is on a link.
    #[error("it is in the subnet of local address {0}")]
    LocalSubnet(IpNetwork),
    /// The kernel looks for a route to a service before its address is translated.
    #[error("it overlaps the service range {0}")]
    ServiceRange(IpNetwork),
    /// An address that is needed is reached by a wider route.
    #[error("{0}, a node or a gateway, is in it and no narrower route leads there")]
    Needed(IpAddr),
}

/// This node's own ranges that can be unreachable where no better route leads. Not one that has the
/// node's own address in it: it would take its neighbours away.
pub fn own(judged: &[Judged]) -> impl Iterator<Item = IpNetwork> {
    let own = judged.iter().filter(|judged| judged.verdict == Verdict::Own);
    let is_apart = |judged: &&Judged| {
        let Judged { claim, .. } = judged;
        !claim.gateway.is_some_and(|own| claim.cidr.contains(own))
    };
    own.filter(is_apart).map(|judged| judged.claim.cidr)
}

/// What keeps each of the cluster's ranges from being unreachable, if anything does. A range that one
/// node has all of is not among them: in it no node is unknown.
pub fn cluster(
    ranges: &[IpNetwork],
    judged: &[Judged],
    observed: &Observed,
    service_cidrs: &[IpNetwork],
    protocol: u8,
) -> BTreeMap<IpNetwork, Result<(), Obstacle>> {
    let is_claimed = |range: IpNetwork| {
        judged.iter().any(|judged| {
            covers(judged.claim.cidr, range) && !matches!(judged.verdict, Verdict::Refused(_))
        })
    };
    ranges
        .iter()
        .filter(|&&range| !is_claimed(range))
        .map(|&range| (range, check(range, judged, observed, service_cidrs, protocol)))
        .collect()
}

fn check(
    range: IpNetwork,
    judged: &[Judged],
    observed: &Observed,
    service_cidrs: &[IpNetwork],
    protocol: u8,
) -> Result<(), Obstacle> {
    check_range(range)?;
    if let Some(&service) = service_cidrs.iter().find(|&&service| overlap(service, range)) {
        return Err(Obstacle::ServiceRange(service));
    }
    let mut subnets = observed.addresses.iter().map(|address| address.subnet);
    if let Some(subnet) = subnets.find(|&subnet| covers(subnet, range)) {
        return Err(Obstacle::LocalSubnet(subnet));
    }
    let foreign = observed.routes.iter().filter(|route| route.protocol != protocol);
    let gateways = foreign.filter_map(|route| route.gateway);
    let nodes = judged.iter().filter_map(|judged| judged.claim.gateway);
    let mut needed = nodes.chain(gateways).filter(|&address| range.contains(address));
    match needed.find(|&address| !is_led_to(address, range, observed, protocol)) {
        Some(address) => Err(Obstacle::Needed(address)),
        None => Ok(()),
    }
}

/// Whether an address in the range is on a link or has a route of others that is no wider than the
/// range. Links that are down count, too: what becomes of a range must not follow their ups and downs.
fn is_led_to(address: IpAddr, range: IpNetwork, observed: &Observed, protocol: u8) -> bool {
    let is_narrow = |to: IpNetwork| to.contains(address) && covers(range, to);
    let others = observed.routes.iter().filter(|route| route.protocol != protocol);
    observed.addresses.iter().any(|local| is_narrow(local.subnet))
        || others.into_iter().any(|route| is_narrow(route.destination))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::claims::Claim;
    use crate::desired::NextHop;
    use crate::difference::wanted;
    use crate::observed::{Address, Route};

    const OURS: u8 = 214;

    fn range(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    /// A node on 10.100.0.0/24, with routes of others as `destination via gateway`.
    fn observed(routes: &[(&str, &str)]) -> Observed {
        let subnet = range("10.100.0.1/24");
        let foreign = |&(to, via): &(&str, &str)| Route {
            protocol: 4,
            ..wanted(
                range(to),
                NextHop { gateway: via.parse().unwrap(), link: 2, on_link: false },
                OURS,
            )
        };
        Observed {
            addresses: vec![Address { link: 2, local: subnet.ip(), subnet }],
            routes: routes.iter().map(foreign).collect(),
            ..Observed::default()
        }
    }

    fn claim(cidr: &str, gateway: &str, verdict: Verdict) -> Judged {
        let (node, gateway) = ("node2".to_owned(), Some(gateway.parse().unwrap()));
        let claim = Claim { node, cidr: range(cidr), gateway, vtep: None, held_since: None };
        Judged { claim, verdict }
    }

    fn obstacle(text: &str, judged: &[Judged], observed: &Observed) -> Option<Obstacle> {
        let services = [range("10.112.0.0/12")];
        let verdicts = cluster(&[range(text)], judged, observed, &services, OURS);
        verdicts[&range(text)].clone().err()
    }

    #[test]
    fn a_range_beside_and_around_the_underlay_is_unreachable() {
        let observed = observed(&[("0.0.0.0/0", "10.100.0.254")]);
        for text in ["10.0.0.0/14", "fd00::/16", "10.96.0.0/12"] {
            assert_eq!(obstacle(text, &[], &observed), None, "{text}");
        }
        // The underlay's own route is narrower, so around it there is no harm either.
        let verdicts = cluster(&[range("10.0.0.0/8")], &[], &observed, &[], OURS);
        assert_eq!(verdicts[&range("10.0.0.0/8")], Ok(()));
    }

    #[test]
    fn a_range_that_is_on_a_link_is_left_alone() {
        let observed = observed(&[]);
        for text in ["10.100.0.0/24", "10.100.0.128/25"] {
            let found = obstacle(text, &[], &observed);
            assert!(matches!(found, Some(Obstacle::LocalSubnet(_))), "{text}: {found:?}");
        }
    }

    #[test]
    fn services_and_insane_ranges_are_left_alone() {
        let observed = observed(&[]);
        for text in ["10.0.0.0/8", "10.113.0.0/16"] {
            let found = obstacle(text, &[], &observed);
            assert!(matches!(found, Some(Obstacle::ServiceRange(_))), "{text}: {found:?}");
        }
        for text in ["0.0.0.0/0", "8.0.0.0/7", "127.0.0.0/8", "fe80::/16"] {
            let found = obstacle(text, &[], &observed);
            assert!(matches!(found, Some(Obstacle::Range(_))), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_node_that_is_reached_by_the_default_route_stays_reachable() {
        let far =
            claim("10.0.2.0/24", "10.2.0.9", Verdict::OffLink { gateway: range("10.2.0.9").ip() });
        let needed = Some(Obstacle::Needed(range("10.2.0.9").ip()));
        let by_default = observed(&[("0.0.0.0/0", "10.100.0.254")]);
        assert_eq!(obstacle("10.0.0.0/14", std::slice::from_ref(&far), &by_default), needed);
        // As wide as the range is better than it, by its metric.
        for way in ["10.2.0.0/24", "10.0.0.0/14"] {
            let by_route = observed(&[(way, "10.100.0.254")]);
            assert_eq!(obstacle("10.0.0.0/14", std::slice::from_ref(&far), &by_route), None);
        }
    }

    #[test]
    fn a_gateway_that_is_reached_by_a_wider_route_stays_reachable() {
        let observed = observed(&[("192.0.2.0/24", "10.1.0.254")]);
        let needed = Some(Obstacle::Needed(range("10.1.0.254").ip()));
        assert_eq!(obstacle("10.0.0.0/14", &[], &observed), needed);
    }

    #[test]
    fn a_range_that_one_node_has_all_of_is_that_nodes() {
        let gateway = range("10.100.0.2").ip();
        for verdict in
            [Verdict::Own, Verdict::Route { gateway, link: 2 }, Verdict::OffLink { gateway }]
        {
            let judged = [claim("10.0.0.0/14", "10.100.0.2", verdict)];
            let ranges = [range("10.0.0.0/14"), range("10.1.0.0/16")];
            assert_eq!(cluster(&ranges, &judged, &observed(&[]), &[], OURS), BTreeMap::new());
        }
    }

    #[test]
    fn an_own_range_with_the_nodes_address_in_it_is_left_alone() {
        let judged = [
            claim("10.0.1.0/24", "10.100.0.1", Verdict::Own),
            claim("10.100.0.0/16", "10.100.0.1", Verdict::Own),
            claim("10.0.2.0/24", "10.100.0.2", Verdict::Refused(Refusal::DefaultRoute)),
        ];
        assert_eq!(own(&judged).collect::<Vec<_>>(), [range("10.0.1.0/24")]);
    }
}
