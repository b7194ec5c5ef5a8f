//! A cluster of two nodes, and Pods that tell by which address they were called.

use std::fs;
use std::net::IpAddr;

use cbr0_tests::node::Node;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::probe::{Endpoint, Source, call};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::syncer::Syncer;
use cbr0_tests::topology::{Topology, node_addresses, pod_ranges};
use cbr0_tests::{LabError, Result, bins, cluster, require};
use kernel::NetNs;

/// Two nodes on which Pods can be added.
pub(crate) struct Cluster {
    /// They end first: what they write to goes with the nodes.
    syncers: Vec<Option<Syncer>>,
    pub(crate) lab: Topology,
}

impl Cluster {
    /// `None` on a machine where no namespaces can be made.
    pub(crate) fn new() -> Result<Option<Self>> {
        Self::prepared(|_| Ok(()))
    }

    /// The same, on nodes that were prepared.
    pub(crate) fn prepared(prepare: impl Fn(&Node) -> Result<()>) -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let lab = Topology::create(2)?;
        lab.nodes.iter().try_for_each(prepare)?;
        let nodes_file = lab.switch.folder().join("nodes.json");
        cluster::write_nodes(&nodes_file, (1..).zip(&lab.nodes))?;
        let syncers = lab.nodes.iter().map(|node| Syncer::start(node, &nodes_file).map(Some));
        let syncers = syncers.collect::<Result<_>>()?;
        Ok(Some(Cluster { lab, syncers }))
    }

    /// Kills the daemon of a node, starts it again, and returns when it has synced.
    pub(crate) fn restart_syncer(&mut self, number: u8) -> Result<()> {
        let place = usize::from(number) - 1;
        self.syncers[place] = None;
        let node = &self.lab.nodes[place];
        // What the last one wrote is no sign of this one.
        fs::remove_file(cluster::written_conflist(node)).unwrap();
        let nodes_file = self.lab.switch.folder().join("nodes.json");
        self.syncers[place] = Some(Syncer::start(node, &nodes_file)?);
        Ok(())
    }

    /// Adds a Pod to node 1 or 2, with an address of each family.
    pub(crate) fn add(&self, number: u8, name: &str, families: Families) -> Result<Member> {
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

    pub(crate) fn node(&self, number: u8) -> &NetNs {
        self.lab.nodes[usize::from(number) - 1].netns()
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// What is for IPv4, what is for IPv6, or both.
    pub(crate) fn of<T>(self, [v4, v6]: [T; 2]) -> Vec<T> {
        match self {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Both => vec![v4, v6],
        }
    }
}

/// A Pod that answers.
pub(crate) struct Member {
    pub(crate) pod: Pod,
    pub(crate) addresses: Vec<IpAddr>,
    /// Its node's addresses in the same families.
    pub(crate) node: Vec<IpAddr>,
    _endpoint: Endpoint,
}

impl Member {
    /// Whoever is called sees the Pod's own address.
    pub(crate) fn reaches(&self, called: &[IpAddr]) -> Result<()> {
        self.is_seen_as(&self.addresses, called)
    }

    pub(crate) fn is_seen_as(&self, seen: &[IpAddr], called: &[IpAddr]) -> Result<()> {
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
pub(crate) fn host_reaches(host: &NetNs, called: &[IpAddr]) -> Result<()> {
    for called in called {
        let source = call(host, *called)
            .map_err(|error| LabError::Wrong(format!("a node calls {called}: {error}")))?;
        assert_eq!(source.seen, source.own, "a node calls {called}");
    }
    Ok(())
}
