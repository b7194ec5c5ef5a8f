//! The four promises of the Pod network, on two nodes with the conflist that people copy and the
//! route syncer: every address is unchanged inside the cluster, and masqueraded outside.
#![allow(clippy::unwrap_used)]

mod closed;
mod fixture;
mod restart;

use std::time::Duration;

use cbr0_tests::probe::{Endpoint, call_within};
use cbr0_tests::topology::{node_addresses, outside_addresses, pod_ranges};
use cbr0_tests::{LabError, Outcome, require};
use ipnetwork::IpNetwork;

use crate::fixture::{Cluster, Families, host_reaches};

fn all_promises_hold(families: Families) -> Outcome {
    let Some(cluster) = Cluster::new()? else { return Ok(()) };
    promises_hold_on(&cluster, families)
}

pub(crate) fn promises_hold_on(cluster: &Cluster, families: Families) -> Outcome {
    let (a, b) = (cluster.add(1, "a", families)?, cluster.add(1, "b", families)?);
    let c = cluster.add(2, "c", families)?;
    let _nodes = [Endpoint::serve(cluster.node(1))?, Endpoint::serve(cluster.node(2))?];
    let _outside = Endpoint::serve(cluster.lab.outside.netns())?;

    for (from, to) in [(&a, &b), (&b, &a), (&a, &c), (&c, &a)] {
        from.reaches(&to.addresses)?;
    }
    for pod in [&a, &c] {
        host_reaches(cluster.node(1), &pod.addresses)?;
        host_reaches(cluster.node(2), &pod.addresses)?;
        pod.reaches(&families.of(node_addresses(1)))?;
        pod.reaches(&families.of(node_addresses(2)))?;
    }
    // All but the last promise needs no packet filter.
    if !require::nf_tables()? {
        return Ok(());
    }
    for pod in [&a, &c] {
        pod.is_seen_as(&pod.node, &families.of(outside_addresses()))?;
    }
    Ok(())
}

#[test]
fn all_promises_hold_in_ipv4() -> Outcome {
    all_promises_hold(Families::V4)
}

#[test]
fn all_promises_hold_in_ipv6() -> Outcome {
    all_promises_hold(Families::V6)
}

#[test]
fn all_promises_hold_in_both_families_at_once() -> Outcome {
    all_promises_hold(Families::Both)
}

/// The first Pod of a node: its bridge, gateway and route are all new.
#[test]
fn a_nodes_first_pod_answers_the_first_packet_from_another_node() -> Outcome {
    /// Less than the second after which TCP tries again: a lost first packet fails the call.
    const ONE_TRY: Duration = Duration::from_millis(900);
    let Some(cluster) = Cluster::new()? else { return Ok(()) };
    let pod = cluster.add(1, "first", Families::Both)?;
    for address in &pod.addresses {
        let called = call_within(cluster.node(2), *address, ONE_TRY);
        called.map_err(|error| LabError::Wrong(format!("node 2 calls {address}: {error}")))?;
    }
    Ok(())
}

/// What the lab itself takes for granted: without masquerading, a Pod gets no answer from outside.
#[test]
fn the_outside_does_not_know_the_pods() -> Outcome {
    let Some(cluster) = Cluster::new()? else { return Ok(()) };
    let pod = cluster.add(1, "hidden", Families::Both)?;
    for address in &pod.addresses {
        let outside = cluster.lab.outside.netns();
        assert!(call_within(outside, *address, Duration::from_millis(300)).is_err(), "{address}");
    }
    let ranges: Vec<IpNetwork> = pod_ranges(1).into();
    assert!(ranges.iter().zip(&pod.addresses).all(|(range, own)| range.contains(*own)));
    Ok(())
}
