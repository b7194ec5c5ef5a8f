//! Each refusal, and who wins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn range(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn claim(node: &str, cidr: &str, gateway: &str) -> Claim {
    let gateway = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
    Claim { node: node.into(), cidr: range(cidr), gateway, vtep: None, held_since: None }
}

fn address(link: u32, text: &str) -> Address {
    Address { link, local: range(text).ip(), subnet: range(text) }
}

fn link(index: u32, up: bool, carrier: bool) -> Link {
    Link { index, name: format!("eth{index}"), up, carrier, mtu: Some(1500) }
}

const CLUSTER: [&str; 3] = ["10.0.0.0/8", "11.0.0.0/8", "::/0"];

/// Node 1: 10.0.1.0/24, its bridge, and an uplink of both families.
fn verdicts(claims: Vec<Claim>) -> Vec<Verdict> {
    verdicts_with(OffLink::Skip, claims)
}

fn verdicts_with(off_link: OffLink, claims: Vec<Claim>) -> Vec<Verdict> {
    let own = claim("node1", "10.0.1.0/24", "10.100.0.2");
    let links = [link(1, false, true), link(2, true, true), link(3, true, true)];
    let addresses = [
        address(1, "127.0.0.1/8"),
        address(2, "10.100.0.2/24"),
        address(2, "fd00:100::2/64"),
        address(3, "10.0.1.1/24"),
    ];
    let services = [range("10.96.0.0/16")];
    let cluster = CLUSTER.map(range);
    let around = Surroundings {
        node: "node1",
        service_cidrs: &services,
        cluster_cidrs: &cluster,
        off_link,
        links: &links,
        addresses: &addresses,
    };
    let judged = judge(std::iter::once(own).chain(claims).collect(), &around);
    assert_eq!(judged[0].verdict, Verdict::Own);
    judged.into_iter().skip(1).map(|judged| judged.verdict).collect()
}

fn verdict(cidr: &str, gateway: &str) -> Verdict {
    verdicts(vec![claim("node2", cidr, gateway)]).remove(0)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_sane_claim_becomes_a_route_in_both_families() {
    for (cidr, gateway) in [("10.0.2.0/24", "10.100.0.3"), ("fd00:2::/64", "fd00:100::3")] {
        assert_eq!(verdict(cidr, gateway), Verdict::Route { gateway: ip(gateway), link: 2 });
    }
}

#[test]
fn p18_every_unsafe_claim_is_refused_for_its_own_reason() {
    use Refusal::*;
    let taken = |text| LocalSubnet(range(text));
    let cases = [
        ("0.0.0.0/0", "10.100.0.3", DefaultRoute),
        ("::/0", "fd00:100::3", DefaultRoute),
        ("0.0.0.0/1", "10.100.0.3", TooWide(8)),
        ("8.0.0.0/7", "10.100.0.3", TooWide(8)),
        ("fd00::/15", "fd00:100::3", TooWide(16)),
        ("10.0.2.1/24", "10.100.0.3", HostBits(range("10.0.2.0/24"))),
        ("127.1.0.0/16", "10.100.0.3", NotUnicast(range("127.0.0.0/8"))),
        ("224.0.0.0/8", "10.100.0.3", NotUnicast(range("224.0.0.0/4"))),
        ("fe80::/64", "fd00:100::3", NotUnicast(range("fe80::/10"))),
        ("::ffff:10.0.2.0/120", "fd00:100::3", NotUnicast(range("::ffff:0.0.0.0/96"))),
        ("10.0.1.0/24", "10.100.0.3", OwnRange(range("10.0.1.0/24"))),
        ("10.0.0.0/16", "10.100.0.3", OwnRange(range("10.0.1.0/24"))),
        ("10.0.1.128/25", "10.100.0.3", OwnRange(range("10.0.1.0/24"))),
        ("10.96.5.0/24", "10.100.0.3", ServiceRange(range("10.96.0.0/16"))),
        ("10.100.0.0/24", "10.100.0.3", taken("10.100.0.2/24")),
        ("10.100.0.128/25", "10.100.0.3", taken("10.100.0.2/24")),
        ("10.100.0.0/16", "10.100.0.3", taken("10.100.0.2/24")),
        ("fd00:100::/48", "fd00:100::3", taken("fd00:100::2/64")),
        ("12.0.2.0/24", "10.100.0.3", OutsideCluster),
        ("10.0.2.0/24", "", NoGateway("IPv4")),
        ("fd00:2::/64", "", NoGateway("IPv6")),
        ("10.0.2.0/24", "10.100.0.2", GatewayIsSelf(ip("10.100.0.2"))),
        ("10.0.2.0/24", "127.0.0.9", GatewayNotUnicast(ip("127.0.0.9"))),
        ("10.0.2.0/24", "224.0.0.1", GatewayNotUnicast(ip("224.0.0.1"))),
        ("10.0.2.0/24", "0.0.0.0", GatewayNotUnicast(ip("0.0.0.0"))),
        ("10.0.2.0/24", "169.254.0.7", GatewayNotUnicast(ip("169.254.0.7"))),
        ("fd00:2::/64", "fe80::1", GatewayNotUnicast(ip("fe80::1"))),
        ("10.0.2.0/24", "10.0.2.9", GatewayInside(ip("10.0.2.9"))),
    ];
    for (cidr, gateway, refusal) in cases {
        assert_eq!(verdict(cidr, gateway), Verdict::Refused(refusal), "{cidr} via {gateway}");
    }
}

#[test]
fn the_shortest_prefixes_are_still_claims() {
    assert!(matches!(verdict("11.0.0.0/8", "10.100.0.3"), Verdict::Route { .. }));
    assert!(matches!(verdict("fc00::/16", "fd00:100::3"), Verdict::Route { .. }));
}

#[test]
fn a_gateway_without_a_live_link_is_off_link() {
    let gateway = ip("10.200.0.3");
    assert_eq!(verdict("10.0.2.0/24", "10.200.0.3"), Verdict::OffLink { gateway });
    // 127.0.0.0/8 is on a link, but not on a live one; so is any subnet of a link that is down.
    let addresses = [address(1, "10.200.0.2/24")];
    assert_eq!(link_to(gateway, &[link(1, false, true)], &addresses), None);
    assert_eq!(link_to(gateway, &[link(1, true, false)], &addresses), Some(1));
}

#[test]
fn the_link_is_the_narrowest_then_with_carrier_then_the_first() {
    let gateway = ip("10.200.0.3");
    let on = |first: &str, second: &str, carrier: bool| {
        let links = [link(5, true, carrier), link(6, true, true)];
        link_to(gateway, &links, &[address(6, second), address(5, first)])
    };
    assert_eq!(on("10.200.0.2/16", "10.200.0.4/24", true), Some(6));
    assert_eq!(on("10.200.0.2/24", "10.200.0.4/16", false), Some(5));
    assert_eq!(on("10.200.0.2/24", "10.200.0.4/24", false), Some(6));
    assert_eq!(on("10.200.0.2/24", "10.200.0.4/24", true), Some(5));
}

#[test]
fn of_two_that_overlap_the_first_in_the_list_wins() {
    let second = claim("node3", "10.0.2.128/25", "10.100.0.4");
    let first = claim("node2", "10.0.2.0/24", "10.100.0.3");
    let refused = |node: &str, cidr| {
        Verdict::Refused(Refusal::Taken { node: node.into(), cidr: range(cidr) })
    };
    let forward = verdicts(vec![first.clone(), second.clone()]);
    assert!(matches!(forward[0], Verdict::Route { .. }));
    assert_eq!(forward[1], refused("node2", "10.0.2.0/24"));
    let backward = verdicts(vec![second, first]);
    assert!(matches!(backward[0], Verdict::Route { .. }));
    assert_eq!(backward[1], refused("node3", "10.0.2.128/25"));
}

#[test]
fn a_refused_claim_takes_nothing_from_others() {
    let refused = claim("node2", "10.0.2.0/24", "127.0.0.1");
    let sane = claim("node3", "10.0.2.0/24", "10.100.0.4");
    let found = verdicts(vec![refused, sane]);
    assert!(matches!(found[0], Verdict::Refused(_)));
    assert!(matches!(found[1], Verdict::Route { .. }));
}

#[test]
fn an_off_link_claim_keeps_its_range() {
    let first = claim("node2", "10.0.2.0/24", "10.200.0.3");
    let second = claim("node3", "10.0.2.0/24", "10.100.0.4");
    assert!(matches!(verdicts(vec![first, second])[1], Verdict::Refused(Refusal::Taken { .. })));
}

#[test]
fn an_insane_own_claim_does_not_refuse_all_others() {
    let own = claim("node1", "0.0.0.0/0", "10.100.0.2");
    let other = claim("node2", "10.0.2.0/24", "10.100.0.3");
    let found = verdicts(vec![own, other]);
    assert_eq!(found[0], Verdict::Refused(Refusal::DefaultRoute));
    assert!(matches!(found[1], Verdict::Route { .. }));
}

#[test]
fn claims_take_the_gateway_of_their_family() {
    let node = Node {
        name: "node2".into(),
        addresses: vec![ip("10.100.0.3"), ip("fd00:100::3")],
        pod_cidrs: vec![range("fd00:2::/64"), range("10.0.2.0/24")],
        vteps: None,
    };
    let since = "2026-01-01T00:00:00Z".to_owned();
    let found: Vec<_> = held_claims(&[HeldNode { node, since: since.clone() }]).collect();
    assert_eq!(found[0].gateway, Some(ip("fd00:100::3")));
    assert_eq!(found[1].gateway, Some(ip("10.100.0.3")));
    assert!(found.iter().all(|claim| claim.held_since.as_ref() == Some(&since)));
}

#[test]
fn nodes_behind_a_router_are_reached_through_the_tunnel_if_they_have_an_end_of_it() {
    let mac = |text: &str| text.parse().unwrap();
    let behind = |cidr: &str, gateway: &str, vtep: Option<&str>| Claim {
        vtep: vtep.map(mac),
        ..claim("node2", cidr, gateway)
    };
    let vtep = "0e:cb:0a:65:00:03";
    let claims = vec![
        behind("10.0.2.0/24", "10.101.0.3", Some(vtep)),
        behind("10.0.3.0/24", "10.101.0.4", None),
        behind("10.0.4.0/24", "10.100.0.4", Some("0e:cb:0a:64:00:04")),
        behind("10.0.5.0/24", "10.101.0.5", Some(vtep)),
        behind("fd00:5::/64", "fd00:101::5", Some(vtep)),
        behind("10.0.6.0/24", "10.101.0.3", Some(vtep)),
    ];
    let node2 = Verdict::Tunnel { gateway: ip("10.101.0.3"), vtep: mac(vtep) };
    let taken = Refusal::VtepTaken { node: "node2".into(), mac: mac(vtep) };
    assert_eq!(
        verdicts_with(OffLink::Vxlan, claims.clone()),
        [
            node2.clone(),
            Verdict::OffLink { gateway: ip("10.101.0.4") },
            Verdict::Route { gateway: ip("10.100.0.4"), link: 2 },
            Verdict::Refused(taken),
            Verdict::Tunnel { gateway: ip("fd00:101::5"), vtep: mac(vtep) },
            node2,
        ]
    );
    let skipped = verdicts_with(OffLink::Skip, claims);
    assert_eq!(skipped[0], Verdict::OffLink { gateway: ip("10.101.0.3") });
    assert_eq!(skipped[3], Verdict::OffLink { gateway: ip("10.101.0.5") });
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "10.0.1.0/24";
    const SERVICES: &str = "10.96.0.0/16";
    const LOCAL: [&str; 4] = ["127.0.0.1/8", "10.100.0.2/24", "fd00:100::2/64", "10.0.1.1/24"];

    /// Addresses near the ranges that matter, and any others.
    fn address() -> impl Strategy<Value = IpAddr> {
        let near = prop::sample::select(vec![
            "10.0.1.0",
            "10.0.2.0",
            "10.96.4.0",
            "10.100.0.2",
            "10.100.0.9",
            "127.0.0.0",
            "169.254.0.0",
            "224.0.0.0",
            "0.0.0.0",
            "fd00:100::2",
            "fd00:100::9",
            "fd00:2::",
            "fe80::1",
            "ff02::1",
            "::",
            "::1",
            "::ffff:10.0.2.0",
        ]);
        prop_oneof![
            3 => (near, 0u8..3).prop_map(|(text, low)| nearby(ip(text), low)),
            1 => any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            1 => any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        ]
    }

    fn nearby(address: IpAddr, low: u8) -> IpAddr {
        match address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() ^ u32::from(low)).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() ^ u128::from(low)).into()),
        }
    }

    /// Any range, with host bits or without.
    fn any_range() -> impl Strategy<Value = IpNetwork> {
        (address(), 0u8..=128, prop::bool::weighted(0.8)).prop_map(|(address, prefix, is_clean)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let any = IpNetwork::new(address, prefix % (longest + 1)).unwrap();
            if is_clean { ranges::network(any) } else { any }
        })
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let vtep = prop::option::of(prop::sample::select(vec![1u8, 2, 3]));
        let node = 1u8..6;
        (node, any_range(), prop::option::weighted(0.9, address()), vtep).prop_map(
            |(node, cidr, gateway, vtep)| Claim {
                node: format!("node{node}"),
                cidr,
                // As a source does it: the gateway is of the family of the range.
                gateway: gateway.filter(|gateway| gateway.is_ipv4() == cidr.is_ipv4()),
                vtep: vtep.map(|last| MacAddress([2, 0, 0, 0, 0, last])),
                held_since: None,
            },
        )
    }

    fn modes() -> impl Strategy<Value = OffLink> {
        prop::sample::select(vec![OffLink::Skip, OffLink::Vxlan, OffLink::Fail])
    }

    /// What is wrong with a route to this range by this gateway, if anything.
    fn harm(cidr: IpNetwork, gateway: IpAddr) -> Option<String> {
        let protected = [OWN, SERVICES].into_iter().chain(LOCAL).map(range);
        let special = ranges::not_unicast();
        let mut forbidden = protected.chain(special.iter().copied());
        if let Some(hurt) = forbidden.find(|&other| ranges::overlap(other, cidr)) {
            return Some(format!("it takes {hurt}"));
        }
        let shortest = if cidr.is_ipv4() { 8 } else { 16 };
        let wrong = cidr.prefix() < shortest
            || !CLUSTER.iter().any(|cluster| ranges::covers(range(cluster), cidr))
            || ranges::network(cidr) != cidr
            || gateway.is_ipv4() != cidr.is_ipv4()
            || cidr.contains(gateway)
            || LOCAL.iter().any(|local| range(local).ip() == gateway)
            || special.iter().any(|special| special.contains(gateway));
        wrong.then(|| format!("{gateway} or the range is wrong"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn p18_no_claims_whatever_hurt(
            claims in prop::collection::vec(any_claim(), 1..30),
            off_link in modes(),
        ) {
            let verdicts = verdicts_with(off_link, claims.clone());
            let mut winners: Vec<IpNetwork> = Vec::new();
            for (claim, verdict) in claims.iter().zip(verdicts) {
                let gateway = match verdict {
                    Verdict::Route { gateway, link } => {
                        let subnet = if gateway.is_ipv4() { LOCAL[1] } else { LOCAL[2] };
                        let bridge = range(LOCAL[3]).contains(gateway);
                        prop_assert!(range(subnet).contains(gateway) || bridge);
                        prop_assert_eq!(link, if bridge { 3 } else { 2 });
                        gateway
                    }
                    Verdict::Tunnel { gateway, .. } | Verdict::OffLink { gateway } => gateway,
                    Verdict::Own => {
                        prop_assert_eq!(&claim.node, "node1");
                        continue;
                    }
                    Verdict::Refused(_) => continue,
                };
                let harm = if claim.node == "node1" { None } else { harm(claim.cidr, gateway) };
                prop_assert_eq!(harm, None, "{} via {}", claim.cidr, gateway);
                let other = winners.iter().find(|&&won| ranges::overlap(won, claim.cidr));
                prop_assert_eq!(other, None, "{} overlaps another winner", claim.cidr);
                winners.push(claim.cidr);
            }
        }
    }
}
