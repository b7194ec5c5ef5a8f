//! Three nodes, the last of them behind a router: their Pods reach each other, through the tunnel
//! where they must, with their own addresses.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::IpAddr;

use cbr0_tests::pod::{self, Pod};
use cbr0_tests::probe::{Endpoint, Source, call};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::syncer::Syncer;
use cbr0_tests::topology::{Topology, UPLINK, addresses_behind_router, outside_addresses};
use cbr0_tests::{LabError, Outcome, Result, bins, cluster, require};
use kernel::route::{Route, TABLE_MAIN};
use kernel::sysctl;
use nix::libc;

const PROTOCOL: u8 = 214;

struct Cluster {
    /// They end first: what they write to goes with the nodes.
    _syncers: Vec<Syncer>,
    topology: Topology,
}

/// A Pod that answers.
struct Member {
    pod: Pod,
    addresses: Vec<IpAddr>,
    _endpoint: Endpoint,
}

impl Cluster {
    /// `None` where no namespaces can be made, or no tunnels.
    fn new() -> Result<Option<Self>> {
        if !require::root()? || !require::link_kind("vxlan")? {
            return Ok(None);
        }
        let topology = Topology::create_with_one_behind(3)?;
        let nodes_file = topology.switch.folder().join("nodes.json");
        cluster::write_nodes(&nodes_file, (1..).zip(&topology.nodes))?;
        // The strictest of hosts: what comes in must come by the way that leads back.
        for node in &topology.nodes {
            for link in ["all", "default", UPLINK] {
                let key = format!("net/ipv4/conf/{link}/rp_filter");
                node.netns().run(|| sysctl::set(&key, "1"))??;
            }
        }
        let start = |node| Syncer::start_with(node, &nodes_file, &["--off-link", "vxlan"]);
        let syncers = topology.nodes.iter().map(start).collect::<Result<_>>()?;
        Ok(Some(Cluster { topology, _syncers: syncers }))
    }

    /// Adds a Pod to a node, by the conflist that its route syncer wrote.
    fn add(&self, number: usize, name: &str) -> Result<Member> {
        let node = &self.topology.nodes[number - 1];
        let conflist = cluster::read_conflist(node)?;
        let pod = Pod::create(name)?;
        let mut runtime = Runtime::new(node, bins::plugin_dir()?);
        let result = runtime.add(&Network::from_value(&conflist)?, &pod.attachment())?;
        let addresses = pod::addresses(&result)?;
        Ok(Member { _endpoint: Endpoint::serve(pod.netns())?, pod, addresses })
    }
}

fn seen(from: &Member, to: &Member) -> Result<()> {
    for (&own, &called) in from.addresses.iter().zip(&to.addresses) {
        let source = call(from.pod.netns(), called)
            .map_err(|error| LabError::Wrong(format!("{own} calls {called}: {error}")))?;
        assert_eq!(source, Source { own, seen: own }, "{own} calls {called}");
    }
    Ok(())
}

#[test]
fn p26_pods_on_different_links_reach_each_other_with_their_own_addresses() -> Outcome {
    let Some(cluster) = Cluster::new()? else { return Ok(()) };
    let pods = [cluster.add(1, "one")?, cluster.add(2, "two")?, cluster.add(3, "three")?];
    for from in &pods {
        for to in &pods {
            if from.pod.container_id != to.pod.container_id {
                seen(from, to)?;
            }
        }
    }
    // Nodes reach Pods behind the router, and these the outside as their node.
    for (number, called) in [(0, &pods[2]), (2, &pods[0])] {
        for &called in &called.addresses {
            let source = call(cluster.topology.nodes[number].netns(), called)?;
            assert_eq!(source.own, source.seen, "node {} calls {called}", number + 1);
        }
    }
    let _outside = Endpoint::serve(cluster.topology.outside.netns())?;
    for (called, node) in outside_addresses().into_iter().zip(addresses_behind_router(3)) {
        assert_eq!(call(pods[2].pod.netns(), called)?.seen, node);
    }
    Ok(())
}

#[test]
fn only_who_must_goes_through_the_tunnel_and_packets_fit_into_it() -> Outcome {
    let Some(cluster) = Cluster::new()? else { return Ok(()) };
    let links = |number: usize| -> Result<Vec<String>> {
        let mut rtnl = cluster.topology.nodes[number - 1].rtnl()?;
        let routes = rtnl.routes(TABLE_MAIN)?;
        // Those of the own and the cluster's range lead nowhere.
        let leads = |route: &&Route| route.protocol == PROTOCOL && route.kind == libc::RTN_UNICAST;
        let ours = routes.iter().filter(leads);
        let name = |link: u32| Ok(rtnl.link_by_index(link)?.unwrap().name);
        ours.filter_map(|route| route.link).map(name).collect()
    };
    assert_eq!(links(1)?, ["eth0", "cbr0-vxlan", "eth0", "cbr0-vxlan6"]);
    assert_eq!(links(3)?, ["cbr0-vxlan", "cbr0-vxlan", "cbr0-vxlan6", "cbr0-vxlan6"]);

    let pod = cluster.add(1, "one")?;
    let far = cluster.add(3, "three")?;
    let eth0 = kernel::Rtnl::open_in(pod.pod.netns())?.link_by_name("eth0")?.unwrap();
    assert_eq!(eth0.mtu, 1500 - 70);
    Ok(seen(&pod, &far)?)
}
