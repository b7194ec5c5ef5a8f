//! The difference, against a model of the kernel's table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const OURS: u8 = 214;
const STATIC: u8 = 4;

/// The kernel's rules: adding with EXCL fails where the destination and metric are taken, replacing
/// takes the first route of the destination and metric whoever made it, deleting takes the one
/// that is the same in all.
fn make(table: &mut Vec<Route>, change: &Change) {
    let route = *change.route();
    let same_key =
        |other: &Route| other.destination == route.destination && other.metric == route.metric;
    match change {
        Change::Add(_) => {
            assert!(!table.iter().any(same_key), "EEXIST: {route:?}");
            table.push(route);
        }
        Change::Replace(_) => {
            assert!(!table.contains(&route), "EEXIST: {route:?}");
            let place = table.iter().position(same_key).expect("ENOENT");
            table[place] = route;
        }
        Change::Delete(_) => {
            let place = table.iter().position(|other| *other == route).expect("ESRCH");
            table.remove(place);
        }
    }
}

fn apply(desired: &Desired, observed: &[Route]) -> Vec<Route> {
    let mut table = observed.to_vec();
    for change in &difference(desired, observed, OURS).changes {
        make(&mut table, change);
    }
    table
}

fn destination(number: u8) -> IpNetwork {
    if number.is_multiple_of(2) {
        format!("10.0.{number}.0/24").parse().unwrap()
    } else {
        format!("fd00:{number}::/64").parse().unwrap()
    }
}

fn next_hop(destination: IpNetwork, number: u8) -> NextHop {
    let gateway = if destination.is_ipv4() {
        IpAddr::from([10, 100, 0, number])
    } else {
        format!("fd00:100::{number}").parse().unwrap()
    };
    NextHop { gateway, link: u32::from(number % 3), on_link: false }
}

fn route(number: u8, gateway: u8, protocol: u8) -> Route {
    wanted(destination(number), next_hop(destination(number), gateway), protocol)
}

fn desired(pairs: &[(u8, u8)]) -> Desired {
    let route = |&(number, gateway): &(u8, u8)| {
        (destination(number), next_hop(destination(number), gateway))
    };
    Desired { routes: pairs.iter().map(route).collect(), ..Desired::default() }
}

fn changes(desired: &Desired, observed: &[Route]) -> Vec<Change> {
    difference(desired, observed, OURS).changes
}

#[test]
fn nothing_to_do_means_no_change() {
    let table = [route(2, 1, OURS), route(3, 1, OURS), route(9, 1, STATIC)];
    assert_eq!(difference(&desired(&[(2, 1), (3, 1)]), &table, OURS), Difference::default());
}

#[test]
fn a_missing_route_is_added_and_a_stale_one_removed_after_that() {
    let stale = route(4, 1, OURS);
    let expected = [Change::Add(route(2, 1, OURS)), Change::Delete(stale)];
    assert_eq!(changes(&desired(&[(2, 1)]), &[stale]), expected);
}

#[test]
fn a_moved_next_hop_is_one_replace() {
    for number in [2, 3] {
        let expected = [Change::Replace(route(number, 7, OURS))];
        assert_eq!(changes(&desired(&[(number, 7)]), &[route(number, 1, OURS)]), expected);
    }
}

#[test]
fn a_route_of_ours_with_several_next_hops_or_of_another_kind_is_replaced() {
    let several = Route { gateway: None, link: None, ..route(3, 1, OURS) };
    let blackhole = Route { kind: libc::RTN_BLACKHOLE, ..route(3, 1, OURS) };
    for wrong in [several, blackhole] {
        let expected = [Change::Replace(route(3, 1, OURS))];
        assert_eq!(changes(&desired(&[(3, 1)]), &[wrong]), expected);
    }
}

#[test]
fn a_route_of_ours_with_another_metric_goes_after_the_right_one_came() {
    let wrong = Route { metric: 50, ..route(2, 1, OURS) };
    let expected = [Change::Add(route(2, 1, OURS)), Change::Delete(wrong)];
    assert_eq!(changes(&desired(&[(2, 1)]), &[wrong]), expected);
}

#[test]
fn a_foreign_route_is_a_conflict_and_nothing_is_done() {
    let found = difference(&desired(&[(2, 1)]), &[route(2, 9, STATIC)], OURS);
    assert_eq!(found.changes, []);
    let foreign = Foreign { metric: 0, protocol: STATIC };
    assert_eq!(found.conflicts, BTreeMap::from([(destination(2), foreign)]));
}

#[test]
fn beside_a_foreign_route_a_wrong_one_of_ours_is_not_replaced() {
    // The kernel would replace the first of the two, the foreign one.
    let table = [route(2, 9, STATIC), route(2, 8, OURS)];
    assert_eq!(changes(&desired(&[(2, 1)]), &table), [Change::Delete(route(2, 8, OURS))]);
}

#[test]
fn a_foreign_route_with_a_lower_metric_is_a_conflict_beside_ours() {
    let foreign = Route { metric: 256, ..route(3, 9, STATIC) };
    let found = difference(&desired(&[(3, 1)]), &[foreign], OURS);
    assert_eq!(found.changes, [Change::Add(route(3, 1, OURS))]);
    assert_eq!(found.conflicts[&destination(3)].metric, 256);
}

#[test]
fn a_foreign_route_with_a_higher_metric_only_stands_by() {
    let foreign = Route { metric: 4096, ..route(2, 9, STATIC) };
    let found = difference(&desired(&[(2, 1)]), &[foreign], OURS);
    assert_eq!(found.changes, [Change::Add(route(2, 1, OURS))]);
    assert!(found.conflicts.is_empty());
    assert_eq!(found.shadowed.len(), 1);
}

#[test]
fn an_off_link_claim_keeps_its_route_but_not_one_to_another_gateway() {
    let hop = next_hop(destination(2), 1);
    let kept = BTreeSet::from([(destination(2), hop.gateway)]);
    let desired = Desired { kept, ..Desired::default() };
    assert_eq!(changes(&desired, &[route(2, 1, OURS)]), []);
    let other = route(2, 7, OURS);
    assert_eq!(changes(&desired, &[other]), [Change::Delete(other)]);
}

/// A route that the kernel can have beside others: its table holds no two that are the same, and
/// of one destination and metric IPv6 holds only one (several next hops are one route there).
fn tables() -> impl Strategy<Value = Vec<Route>> {
    let one = (0u8..6, 0u8..3, prop_oneof![Just(OURS), Just(STATIC), Just(11)], 0u8..4).prop_map(
        |(number, gateway, protocol, kind)| {
            let route = route(number, gateway, protocol);
            match kind {
                0 => Route { metric: 50, ..route },
                1 => Route { gateway: None, link: None, ..route },
                _ => route,
            }
        },
    );
    proptest::collection::vec(one, 0..12).prop_map(|routes| {
        let mut table: Vec<Route> = Vec::new();
        for route in routes {
            let taken = table.iter().any(|other| {
                other.destination == route.destination
                    && other.metric == route.metric
                    && (route.destination.is_ipv6() || *other == route)
            });
            if !taken {
                table.push(route);
            }
        }
        table
    })
}

proptest! {
    #[test]
    fn applying_the_difference_makes_it_so(
        pairs in proptest::collection::vec((0u8..6, 0u8..3), 0..6),
        observed in tables(),
    ) {
        let desired = desired(&pairs);
        let after = apply(&desired, &observed);

        let foreign = |table: &[Route]| -> Vec<Route> {
            table.iter().filter(|route| route.protocol != OURS).copied().collect()
        };
        prop_assert_eq!(foreign(&after), foreign(&observed));

        let ours: Vec<&Route> = after.iter().filter(|route| route.protocol == OURS).collect();
        for route in &ours {
            let hop = desired.routes.get(&route.destination);
            prop_assert_eq!(hop.map(|hop| wanted(route.destination, *hop, OURS)), Some(**route));
        }
        for destination in desired.routes.keys() {
            let there = ours.iter().filter(|route| route.destination == *destination).count();
            let taken = after.iter().any(|route| {
                route.protocol != OURS
                    && route.destination == *destination
                    && route.metric == metric(*destination)
            });
            prop_assert!(there == 1 || (there == 0 && taken), "{} of {}", there, destination);
        }
    }

    #[test]
    fn a_second_difference_is_empty(
        pairs in proptest::collection::vec((0u8..6, 0u8..3), 0..6),
        observed in tables(),
    ) {
        let desired = desired(&pairs);
        let after = apply(&desired, &observed);
        prop_assert_eq!(difference(&desired, &after, OURS).changes, []);
    }

    /// At no step is a destination without a route of ours that has one before and after.
    #[test]
    fn no_instant_without_a_route(
        pairs in proptest::collection::vec((0u8..6, 0u8..3), 0..6),
        observed in tables(),
    ) {
        let desired = desired(&pairs);
        let mut table = observed.clone();
        let has = |table: &[Route], to: IpNetwork| table.iter().any(|r| r.destination == to);
        for change in &difference(&desired, &observed, OURS).changes {
            make(&mut table, change);
            for &to in desired.routes.keys().filter(|&&to| has(&observed, to)) {
                prop_assert!(has(&table, to), "{change:?} left {to} without a route");
            }
        }
    }
}
