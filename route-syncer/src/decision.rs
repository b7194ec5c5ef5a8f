//! The decision, without effects: facts become claims, claims the table of routes, and the table is
//! compared with the kernel's.

use ipnetwork::IpNetwork;

use crate::claims::{Judged, Surroundings, claims, held_claims, judge};
use crate::desired::Desired;
use crate::difference::{Change, Difference, difference};
use crate::observed::{Address, Observed};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::unreachable::{self, CLUSTER_METRIC, OWN_METRIC};

/// Judges what the nodes claim. The claims of listed nodes come before those of held ones: a range
/// that is claimed again belongs to whom the list says.
pub fn judge_all(roster: &Roster, observed: &Observed, settings: &Settings) -> Vec<Judged> {
    // An address of the tunnel is no way to anybody, and out of this node's own range.
    let is_apart = |address: &&Address| !observed.tunnel.has(address.link);
    let addresses: Vec<Address> = observed.addresses.iter().filter(is_apart).copied().collect();
    let around = Surroundings {
        node: &settings.node,
        service_cidrs: &settings.service_cidrs,
        off_link: settings.off_link,
        links: &observed.links,
        addresses: &addresses,
    };
    let listed = claims(&roster.listed);
    judge(listed.chain(held_claims(&roster.held)).collect(), &around)
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

    #[test]
    fn a_range_that_is_claimed_again_switches_at_once_from_a_held_claim() {
        let gone = node("node2", "10.100.0.2", "10.0.2.0/24");
        let held = HeldNode { node: gone, since: "2026-01-01T00:00:00Z".into() };
        let mut roster = Roster { held: vec![held], ..Roster::default() };
        let next_hop = |roster: &Roster| {
            let judged = judge_all(roster, &observed(), &settings());
            let desired = desired(&judged, &[], &observed(), &settings());
            let to: Vec<_> =
                desired.routes.into_iter().map(|(to, hop)| (to, hop.gateway)).collect();
            to
        };
        let cidr: IpNetwork = "10.0.2.0/24".parse().unwrap();
        assert_eq!(next_hop(&roster), [(cidr, IpAddr::from([10, 100, 0, 2]))]);

        roster.listed = vec![node("node5", "10.100.0.5", "10.0.2.0/24")];
        assert_eq!(next_hop(&roster), [(cidr, IpAddr::from([10, 100, 0, 5]))]);
        let judged = judge_all(&roster, &observed(), &settings());
        let refused = Verdict::Refused(Refusal::Taken { node: "node5".into(), cidr });
        assert_eq!(judged[1].verdict, refused, "who is held stands back, and it is shown");
    }
}
