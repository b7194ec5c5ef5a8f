//! The demo's story, from the first namespace to the last call.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::probe::Endpoint;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::syncer::Started;
use cbr0_tests::topology::{self, DualStack, Topology, node_addresses, pod_ranges};
use cbr0_tests::{LabError, Result, bins, cluster};
use kernel::route::TABLE_MAIN;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;
use serde_json::Value;

use crate::matrix::{Kind, Matrix, Party};
use crate::state;
use crate::{Lab, names};

/// A Pod that was added, with what the demo tells about it.
struct AddedPod {
    pod: Pod,
    node: u8,
    addresses: DualStack<IpAddr>,
    mac: String,
}

/// Builds the network, shows it, and proves it.
pub(crate) fn run(supervisor: i32, lab: Lab) -> Result<ExitCode> {
    end_with(supervisor)?;
    state::record_worker()?;
    let topology = Topology::build(lab.nodes, |host| {
        Node::with(host, names::create(host)?, &state::path(host))
    })?;
    println!("{} nodes on one switch, a router, and the outside behind it.", topology.nodes.len());
    start_syncers(&topology.nodes)?;
    println!("Every node's route syncer has synced.\n");

    let pods = add_pods(&topology, lab.pods)?;
    print_pods(&pods);
    print_routes(&topology)?;
    let matrix = call_everybody(&topology, &pods)?;
    println!("{matrix}");
    let (calls, kept) = matrix.count();
    if calls != kept {
        println!("FAILED: {kept} of {calls} calls came as promised.");
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "OK: all {calls} calls came as promised: by the caller's address, outside its node's."
    );
    if lab.keep {
        println!("\nIt stays, for: scripts/demo status | exec node1 -- ip route | down");
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets this process die with its supervisor, which could not clean up after it any more.
fn end_with(supervisor: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .context(|| "tie the worker to its supervisor".to_owned())?;
    // The supervisor's mask is inherited, and would be by all that is started here.
    SigSet::empty().thread_set_mask().context(|| "unblock signals".to_owned())?;
    // The supervisor may have died before all that.
    if getppid().as_raw() == supervisor {
        Ok(())
    } else {
        Err(LabError::Wrong("the demo's supervisor is gone".to_owned()))
    }
}

/// Starts a route syncer on every node, and waits for all of them. They outlive this process.
fn start_syncers(nodes: &[Node]) -> Result<()> {
    let nodes_file = state::path("nodes.json");
    cluster::write_nodes(&nodes_file, nodes)?;
    let started = nodes.iter().map(|node| Started::new(node, &nodes_file));
    started.collect::<Result<Vec<_>>>()?.iter().try_for_each(Started::wait)
}

fn add_pods(topology: &Topology, pods_a_node: u8) -> Result<Vec<AddedPod>> {
    let mut added = Vec::new();
    for (number, node) in (1..).zip(&topology.nodes) {
        let network = configure(node, number)?;
        let mut runtime = Runtime::new(node, bins::plugin_dir()?);
        for pod in 1..=pods_a_node {
            let name = format!("{}-pod{pod}", node.name);
            let pod = Pod::with(&name, names::create(&name)?);
            let result = runtime.add(&network, &Attachment::new(&name, names::path(&name)))?;
            let addresses = pod::addresses(&result)?.try_into();
            let addresses = addresses.map_err(|_| {
                LabError::Wrong(format!("{name} has not one address a family: {result}"))
            })?;
            added.push(AddedPod { pod, node: number, addresses, mac: mac_in_the_pod(&result) });
        }
    }
    Ok(added)
}

/// Puts the conflist, with the node's own values, into the node's folder.
fn configure(node: &Node, number: u8) -> Result<Network> {
    let list = cluster::conflist(node, &pod_ranges(number))?;
    state::write(&format!("{}/10-cbr0.conflist", node.name), &format!("{list:#}\n"))?;
    Network::from_value(&list)
}

fn mac_in_the_pod(result: &Value) -> String {
    let interfaces = result["interfaces"].as_array();
    let inside = interfaces.and_then(|interfaces| {
        interfaces.iter().find(|interface| interface["sandbox"].is_string())
    });
    inside.and_then(|interface| interface["mac"].as_str()).unwrap_or("?").to_owned()
}

fn print_pods(pods: &[AddedPod]) {
    println!("{:<14}{:<8}{:<14}{:<22}MAC", "Pod", "node", "IPv4", "IPv6");
    for AddedPod { pod, node, addresses: [v4, v6], mac } in pods {
        println!(
            "{:<14}node{node:<4}{:<14}{:<22}{mac}",
            pod.container_id,
            v4.to_string(),
            v6.to_string()
        );
    }
    println!();
}

fn print_routes(topology: &Topology) -> Result<()> {
    for node in &topology.nodes {
        println!("Routes of {}:", node.name);
        let mut rtnl = node.rtnl()?;
        for route in rtnl.routes(TABLE_MAIN)? {
            let link = route.link.map(|link| rtnl.link_by_index(link)).transpose()?.flatten();
            // Every link has its own link-local network; it says nothing here.
            if matches!(route.destination.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local()) {
                continue;
            }
            let mut line = format!("  {:<20}", route.destination.to_string());
            if let Some(gateway) = route.gateway {
                let _ = write!(line, " via {gateway}");
            }
            println!("{line} dev {}", link.map(|link| link.name).unwrap_or_default());
        }
    }
    println!();
    Ok(())
}

fn call_everybody(topology: &Topology, pods: &[AddedPod]) -> Result<Matrix> {
    let mut parties = Vec::new();
    for AddedPod { pod, node, addresses, .. } in pods {
        let (name, node) = (pod.container_id.clone(), node_addresses(*node));
        parties.push(Party {
            name,
            kind: Kind::Pod,
            addresses: *addresses,
            node,
            netns: pod.netns(),
        });
    }
    for (number, node) in (1..).zip(&topology.nodes) {
        let addresses = node_addresses(number);
        parties.push(Party {
            name: node.name.clone(),
            kind: Kind::Node,
            addresses,
            node: addresses,
            netns: node.netns(),
        });
    }
    let addresses = topology::outside_addresses();
    let name = topology.outside.name.clone();
    parties.push(Party {
        name,
        kind: Kind::Outside,
        addresses,
        node: addresses,
        netns: topology.outside.netns(),
    });

    let _listening =
        parties.iter().map(|party| Endpoint::serve(party.netns)).collect::<Result<Vec<_>>>()?;
    Ok(Matrix::of(&parties))
}
