//! The decision, without effects: facts become claims, claims the table of routes, and the table is
//! compared with the kernel's.

use std::collections::HashSet;

use ipnetwork::IpNetwork;

use crate::claims::{Judged, Surroundings, claims, held_claims, judge};
use crate::desired::Desired;
use crate::difference::{Change, Difference, difference};
use crate::limit::limit;
use crate::observed::{Address, Observed};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::unreachable::{self, CLUSTER_METRIC, OWN_METRIC};

/// Judges what the nodes claim. The claims of listed nodes come before those of held ones: a range
/// that is claimed again belongs to whom the list says. `told` are the cluster's ranges that the
/// source knows, `before` is the table as it was: who has a route keeps it, whoever else comes.
pub fn judge_all(
    roster: &Roster,
    told: &[IpNetwork],
    before: &Desired,
    observed: &Observed,
    settings: &Settings,
) -> Vec<Judged> {
    // An address of the tunnel is no way to anybody, and out of this node's own range.
    let is_apart = |address: &&Address| !observed.tunnel.has(address.link);
    let addresses: Vec<Address> = observed.addresses.iter().filter(is_apart).copied().collect();
    let around = Surroundings {
        node: &settings.node,
        service_cidrs: &settings.service_cidrs,
        cluster_cidrs: &bounds(settings, told),
        off_link: settings.off_link,
        links: &observed.links,
        addresses: &addresses,
    };
    let listed = claims(&roster.listed);
    let mut judged = judge(listed.chain(held_claims(&roster.held)).collect(), &around);
    limit(&mut judged, settings.max_routes, || routed(before, observed, settings.protocol));
    judged
}

/// The ranges outside of which nobody has Pods: those of the command line, but for families of which
/// the source knows some. It judges by them itself, and by more: whom it has accepted once it holds,
/// whatever is made of the ranges later.
fn bounds(settings: &Settings, told: &[IpNetwork]) -> Vec<IpNetwork> {
    let is_told = |cidr: &&IpNetwork| told.iter().any(|known| known.is_ipv4() == cidr.is_ipv4());
    settings.cluster_cidrs.iter().filter(|cidr| !is_told(cidr)).copied().collect()
}

/// Where routes of ours lead, or would if there was a link.
fn routed(before: &Desired, observed: &Observed, protocol: u8) -> HashSet<IpNetwork> {
    let in_kernel = observed.routes.iter().filter(|route| route.protocol == protocol);
    let mut routed: HashSet<IpNetwork> = in_kernel.map(|route| route.destination).collect();
    routed.extend(before.routes.keys());
    routed.extend(before.kept.iter().map(|(destination, _)| *destination));
    routed
}

/// The table of routes that these claims make in a cluster of these ranges.
pub fn desired(
    judged: &[Judged],
    cluster: &[IpNetwork],
    observed: &Observed,
    settings: &Settings,
) -> Desired {
    let mut desired = Desired::fold(judged, &observed.tunnel);
    if settings.unreachable.own {
        let own = unreachable::own(judged).map(|range| (range, OWN_METRIC));
        desired.unreachable.extend(own);
    }
    if settings.unreachable.cluster {
        let Settings { service_cidrs, protocol, .. } = settings;
        let ranges = unreachable::cluster(cluster, judged, observed, service_cidrs, *protocol);
        for (range, verdict) in ranges {
            match verdict {
                Ok(()) => drop(desired.unreachable.insert(range, CLUSTER_METRIC)),
                Err(obstacle) => drop(desired.obstacles.insert(range, obstacle)),
            }
        }
    }
    desired
}

/// The ranges of the cluster: those of the command line, and those that the source knows.
pub fn cluster_cidrs(settings: &Settings, told: &[IpNetwork]) -> Vec<IpNetwork> {
    let mut cidrs = settings.cluster_cidrs.clone();
    cidrs.extend(told.iter().filter(|cidr| !settings.cluster_cidrs.contains(cidr)));
    cidrs
}

/// What has to change. Without a complete list in this life (`listed`) nothing is evidence enough
/// to remove a route.
pub fn changes(desired: &Desired, observed: &Observed, protocol: u8, listed: bool) -> Difference {
    let mut difference = difference(desired, &observed.routes, protocol);
    if !listed {
        difference.changes.retain(|change| !matches!(change, Change::Delete(_)));
    }
    difference
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::claims::{Refusal, Verdict};
    use crate::host::options::HostOptions;
    use crate::observed::Link;
    use crate::off_link::OffLink;
    use crate::serve::options::ServeOptions;
    use crate::source::{HeldNode, Node};
    use crate::unreachable::Unreachable;

    fn node(name: &str, address: &str, pod_cidr: &str) -> Node {
        Node {
            name: name.into(),
            addresses: vec![address.parse().unwrap()],
            pod_cidrs: vec![pod_cidr.parse().unwrap()],
            vteps: None,
        }
    }

    fn settings() -> Settings {
        Settings {
            node: "node1".into(),
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            max_routes: 10_000,
            protocol: 214,
            off_link: OffLink::Skip,
            memory: None,
            unreachable: Unreachable { own: true, cluster: true },
            run_dir: "/nowhere".into(),
            mtu: None,
            conflist: None,
            subnet_env: None,
            host: HostOptions::default(),
            serve: ServeOptions::default(),
        }
    }

    fn observed() -> Observed {
        let link = Link { index: 2, name: "eth0".into(), up: true, carrier: true, mtu: Some(1500) };
        let subnet: IpNetwork = "10.100.0.1/24".parse().unwrap();
        Observed {
            links: vec![link],
            addresses: vec![Address { link: 2, local: subnet.ip(), subnet }],
            ..Observed::default()
        }
    }

    fn judge_of(roster: &Roster) -> Vec<Judged> {
        judge_all(roster, &[], &Desired::default(), &observed(), &settings())
    }

    /// Who has a route, in the kernel or in the table before, is not pushed out by those that come
    /// first in a list.
    #[test]
    fn p18_too_many_claims_take_no_route_from_who_has_one() {
        let listed = [3, 4, 5].map(|number| {
            node(&format!("node{number}"), &format!("10.100.0.{number}"), &range(number))
        });
        let held = HeldNode { node: node("node9", "10.100.0.9", &range(9)), since: String::new() };
        let roster = Roster { listed: listed.into(), held: vec![held], ..Roster::default() };
        let mut settings = settings();
        settings.max_routes = 2;
        let refused = |before: &Desired, settings: &Settings| -> Vec<String> {
            let judged = judge_all(&roster, &[], before, &observed(), settings);
            let is_refused = |judged: &&Judged| {
                judged.verdict == Verdict::Refused(Refusal::TooMany(settings.max_routes))
            };
            judged.iter().filter(is_refused).map(|judged| judged.claim.node.clone()).collect()
        };
        assert_eq!(refused(&Desired::default(), &settings), ["node5", "node9"]);
        let routed = |node: &str| {
            let judged = judge_of(&roster).into_iter().filter(|one| one.claim.node == node);
            Desired::fold(&judged.collect::<Vec<_>>(), &observed().tunnel)
        };
        assert_eq!(refused(&routed("node9"), &settings), ["node4", "node5"]);
        assert_eq!(refused(&routed("node5"), &settings), ["node4", "node9"]);
        // A limit that is lower than what there is takes nothing.
        settings.max_routes = 0;
        assert_eq!(refused(&routed("node4"), &settings), ["node3", "node5", "node9"]);
    }

    fn range(number: u8) -> String {
        format!("10.0.{number}.0/24")
    }

    #[test]
    fn p18_the_command_line_bounds_what_the_source_does_not() {
        let outside = node("node2", "10.100.0.2", "10.9.2.0/24");
        let roster = Roster { listed: vec![outside], ..Roster::default() };
        let mut settings = settings();
        let is_refused = |settings: &Settings, told: &[&str]| {
            let told: Vec<IpNetwork> = told.iter().map(|range| range.parse().unwrap()).collect();
            let judged = judge_all(&roster, &told, &Desired::default(), &observed(), settings);
            judged[0].verdict == Verdict::Refused(Refusal::OutsideCluster)
        };
        assert!(!is_refused(&settings, &[]), "no range is known");
        settings.cluster_cidrs = vec!["fd00::/16".parse().unwrap()];
        assert!(!is_refused(&settings, &[]), "none of its family is");
        settings.cluster_cidrs.push("10.0.0.0/14".parse().unwrap());
        assert!(is_refused(&settings, &[]));
        assert!(is_refused(&settings, &["fd00::/16"]));
        assert!(!is_refused(&settings, &["10.0.0.0/14"]), "the source has judged by it");
        settings.cluster_cidrs.push("10.8.0.0/14".parse().unwrap());
        assert!(!is_refused(&settings, &[]), "one of two covers it");
    }

    #[test]
    fn a_range_that_is_claimed_again_switches_at_once_from_a_held_claim() {
        let gone = node("node2", "10.100.0.2", "10.0.2.0/24");
        let held = HeldNode { node: gone, since: "2026-01-01T00:00:00Z".into() };
        let mut roster = Roster { held: vec![held], ..Roster::default() };
        let next_hop = |roster: &Roster| {
            let judged = judge_of(roster);
            let desired = desired(&judged, &[], &observed(), &settings());
            let to: Vec<_> =
                desired.routes.into_iter().map(|(to, hop)| (to, hop.gateway)).collect();
            to
        };
        let cidr: IpNetwork = "10.0.2.0/24".parse().unwrap();
        assert_eq!(next_hop(&roster), [(cidr, IpAddr::from([10, 100, 0, 2]))]);

        roster.listed = vec![node("node5", "10.100.0.5", "10.0.2.0/24")];
        assert_eq!(next_hop(&roster), [(cidr, IpAddr::from([10, 100, 0, 5]))]);
        let judged = judge_of(&roster);
        let refused = Verdict::Refused(Refusal::Taken { node: "node5".into(), cidr });
        assert_eq!(judged[1].verdict, refused, "who is held stands back, and it is shown");
    }
}
