//! A node of the cluster, with its route syncer and its Pods.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use cbr0_tests::error::Context;
use cbr0_tests::folder::FolderEvents;
use cbr0_tests::node::Node;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::syncer::{DEADLINE, Facts, Started};
use cbr0_tests::topology::{self, DualStack};
use cbr0_tests::{LabError, Result, bins, cluster};
use ipnetwork::IpNetwork;
use kernel::route::{Route, TABLE_MAIN};
use serde_json::Value;

use crate::matrix::{Kind, Party};
use crate::{names, state};

/// The protocol of the routes that route syncers make.
pub(crate) const PROTOCOL: u8 = 214;

/// A node of the cluster.
pub(crate) struct Member {
    pub(crate) number: u8,
    pub(crate) node: Node,
    /// Those by which other nodes reach it.
    pub(crate) addresses: DualStack<IpAddr>,
    pub(crate) pods: Vec<AddedPod>,
}

/// A Pod that was added, with what the demo tells about it.
pub(crate) struct AddedPod {
    pub(crate) pod: Pod,
    /// One a family, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: String,
}

impl Member {
    /// A node without Pods, with its wire.
    pub(crate) fn new(number: u8, node: Node) -> Result<Self> {
        let addresses = topology::uplink_addresses(&node)?;
        Ok(Member { number, node, addresses, pods: Vec::new() })
    }

    /// The Pod ranges that the node has, by the conflist that its route syncer wrote.
    pub(crate) fn ranges(&self) -> Result<Vec<IpNetwork>> {
        Ok(cluster::ranges(&cluster::read_conflist(&self.node)?))
    }

    fn network(&self) -> Result<Network> {
        Network::from_value(&cluster::read_conflist(&self.node)?)
    }

    /// Adds Pods, as a container runtime does.
    pub(crate) fn add_pods(&mut self, count: u8) -> Result<()> {
        let (network, families) = (self.network()?, self.ranges()?.len());
        let mut runtime = Runtime::new(&self.node, bins::plugin_dir()?);
        for pod in 1..=count {
            let name = format!("{}-pod{pod}", self.node.name);
            let pod = Pod::with(&name, names::create(&name)?);
            let result = runtime.add(&network, &Attachment::new(&name, names::path(&name)))?;
            let addresses = pod::addresses(&result)?;
            if addresses.len() != families {
                let why = format!("{name} has not one address a range of its node: {result}");
                return Err(LabError::Wrong(why));
            }
            self.pods.push(AddedPod { pod, addresses, mac: mac_in_the_pod(&result) });
        }
        Ok(())
    }

    /// Takes all Pods out of the network.
    pub(crate) fn delete_pods(&self) -> Result<()> {
        let network = self.network()?;
        let mut runtime = Runtime::new(&self.node, bins::plugin_dir()?);
        self.pods.iter().try_for_each(|AddedPod { pod, .. }| {
            let name = &pod.container_id;
            runtime.del(&network, &Attachment::new(name, names::path(name)))
        })
    }

    /// Removes the node: what runs there, its wire, its Pods and itself, and its files.
    pub(crate) fn remove(self, switch: &Node) -> Result<()> {
        let Member { node, pods, .. } = self;
        for leader in state::leaders()? {
            leader.end_inside(&node.name)?;
        }
        topology::detach(switch, &node.name)?;
        pods.iter().try_for_each(|AddedPod { pod, .. }| names::remove(&pod.container_id))?;
        names::remove(&node.name)?;
        let folder = node.folder();
        fs::remove_dir_all(folder).context(|| format!("remove {}", folder.display()))
    }

    /// Its Pods, as those who call and are called.
    pub(crate) fn pod_parties(&self) -> impl Iterator<Item = Party<'_>> {
        self.pods.iter().map(|AddedPod { pod, addresses, .. }| Party {
            name: pod.container_id.clone(),
            kind: Kind::Pod,
            addresses: addresses.clone(),
            node: self.addresses,
            netns: pod.netns(),
        })
    }
}

fn mac_in_the_pod(result: &Value) -> String {
    let interfaces = result["interfaces"].as_array();
    let inside = interfaces.and_then(|interfaces| {
        interfaces.iter().find(|interface| interface["sandbox"].is_string())
    });
    inside.and_then(|interface| interface["mac"].as_str()).unwrap_or("?").to_owned()
}

/// Starts a route syncer on every node, and waits for all of them. They outlive this process.
pub(crate) fn start_syncers(members: &[Member], facts: &Facts, options: &[&str]) -> Result<()> {
    let started = members.iter().map(|member| Started::with(&member.node, facts, options));
    started.collect::<Result<Vec<_>>>()?.iter().try_for_each(Started::wait)
}

/// Waits until each of these nodes has the routes to all the others' Pods, and no more.
pub(crate) fn wait_for_routes(members: &[&Member]) -> Result<()> {
    for viewer in members {
        let others = members.iter().filter(|other| other.number != viewer.number);
        let ranges: Vec<_> = others.map(|other| other.ranges()).collect::<Result<_>>()?;
        let wanted: BTreeSet<IpNetwork> = ranges.into_iter().flatten().collect();
        // A route syncer writes its status once the routes are there.
        let folder = FolderEvents::open(viewer.node.folder())?;
        let look = || Ok((routes_to_pods(&viewer.node)? == wanted).then_some(()));
        folder.wait(DEADLINE, look)?.ok_or_else(|| {
            let name = &viewer.node.name;
            LabError::Wrong(format!("{name} has not exactly the routes {wanted:?} in {DEADLINE:?}"))
        })?;
    }
    Ok(())
}

fn routes_to_pods(node: &Node) -> Result<BTreeSet<IpNetwork>> {
    let routes = node.rtnl()?.routes(TABLE_MAIN)?;
    // Without a gateway it leads to no Pods: it is the answer where there are none.
    let leads = |route: &Route| route.protocol == PROTOCOL && route.gateway.is_some();
    let ours = routes.into_iter().filter(leads);
    Ok(ours.map(|route| route.destination).collect())
}
