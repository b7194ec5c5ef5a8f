//! The four promises of the Pod network, on two nodes with the conflist that people copy and the
//! route syncer: every address is unchanged inside the cluster, and masqueraded outside.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::Duration;

use cbr0_tests::cluster;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::probe::{Endpoint, Source, call, call_within};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::syncer::Syncer;
use cbr0_tests::topology::{Topology, node_addresses, outside_addresses, pod_ranges};
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use ipnetwork::IpNetwork;
use kernel::NetNs;

/// Two nodes on which Pods can be added.
struct Cluster {
    /// They end first: what they write to goes with the nodes.
    _syncers: Vec<Syncer>,
    lab: Topology,
}

impl Cluster {
    /// `None` on a machine where no namespaces can be made.
    fn new() -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let lab = Topology::create(2)?;
        let nodes_file = lab.switch.folder().join("nodes.json");
        cluster::write_nodes(&nodes_file, (1..).zip(&lab.nodes))?;
        let syncers = lab.nodes.iter().map(|node| Syncer::start(node, &nodes_file));
        let syncers = syncers.collect::<Result<_>>()?;
        Ok(Some(Cluster { lab, _syncers: syncers }))
    }

    /// Adds a Pod to node 1 or 2, with an address of each family.
    fn add(&self, number: u8, name: &str, families: Families) -> Result<Member> {
        let node = &self.lab.nodes[usize::from(number) - 1];
        let conflist = cluster::conflist(node, &families.of(pod_ranges(number)))?;
        let pod = Pod::create(name)?;
        let mut runtime = Runtime::new(node, bins::plugin_dir()?);
        let result = runtime.add(&Network::from_value(&conflist)?, &pod.attachment())?;
        let addresses = pod::addresses(&result)?;
        assert_eq!(addresses.len(), families.of([(), ()]).len(), "{result}");
        let node = families.of(node_addresses(number));
        Ok(Member { _endpoint: Endpoint::serve(pod.netns())?, pod, addresses, node })
    }

    fn node(&self, number: u8) -> &NetNs {
        self.lab.nodes[usize::from(number) - 1].netns()
    }
}

#[derive(Clone, Copy)]
enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// What is for IPv4, what is for IPv6, or both.
    fn of<T>(self, [v4, v6]: [T; 2]) -> Vec<T> {
        match self {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Both => vec![v4, v6],
        }
    }
}

/// A Pod that answers.
struct Member {
    pod: Pod,
    addresses: Vec<IpAddr>,
    /// Its node's addresses in the same families.
    node: Vec<IpAddr>,
    _endpoint: Endpoint,
}

impl Member {
    /// Whoever is called sees the Pod's own address.
    fn reaches(&self, called: &[IpAddr]) -> Result<()> {
        self.is_seen_as(&self.addresses, called)
    }

    fn is_seen_as(&self, seen: &[IpAddr], called: &[IpAddr]) -> Result<()> {
        for ((own, seen), called) in self.addresses.iter().zip(seen).zip(called) {
            let expected = Source { own: *own, seen: *seen };
            let source = call(self.pod.netns(), *called)
                .map_err(|error| LabError::Wrong(format!("{own} calls {called}: {error}")))?;
            assert_eq!(source, expected, "{own} calls {called}");
        }
        Ok(())
    }
}

/// The Pods see whatever address the host's own socket has.
fn host_reaches(host: &NetNs, called: &[IpAddr]) -> Result<()> {
    for called in called {
        let source = call(host, *called)
            .map_err(|error| LabError::Wrong(format!("a node calls {called}: {error}")))?;
        assert_eq!(source.seen, source.own, "a node calls {called}");
    }
    Ok(())
}

fn all_promises_hold(families: Families) -> Outcome {
    let Some(cluster) = Cluster::new()? else { return Ok(()) };
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
