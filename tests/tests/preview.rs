//! What the route syncer says it would do, against what it does: the commands of `diff`, run by the
//! real `ip`, and a look at a real etcd.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cbr0_tests::etcd::Etcd;
use cbr0_tests::node::Node;
use cbr0_tests::process::{self, Finished};
use cbr0_tests::require::{self, Part};
use cbr0_tests::syncer::Syncer;
use cbr0_tests::topology::{Topology, node_addresses};
use cbr0_tests::{LabError, Outcome, Result, bins, cluster};
use kernel::route::{Route, TABLE_MAIN};

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PROTOCOL: u8 = 214;
const ENDPOINT: &str = "http://10.100.0.1:2379";

fn run(node: &Node, command: Command) -> Result<Finished> {
    node.netns().run(|| process::run(command, b"", PATIENCE))?
}

fn diff(node: &Node, facts: &[&str]) -> Result<Finished> {
    let mut command = Command::new(bins::route_syncer()?);
    command.args(["diff", "--node", &node.name, "--run-dir"]).arg(node.folder().join("none"));
    command.args(facts);
    run(node, command)
}

/// Our routes on a node.
fn routes(node: &Node) -> Result<Vec<Route>> {
    let all = node.rtnl()?.routes(TABLE_MAIN)?;
    Ok(all.into_iter().filter(|route| route.protocol == PROTOCOL).collect())
}

/// The `bridge` of the same iproute2 as this `ip`, which Debian has in the folder beside.
fn bridge_of(ip: &Path) -> PathBuf {
    let ip = fs::canonicalize(ip).unwrap();
    let beside = [ip.with_file_name("bridge"), ip.with_file_name("../sbin/bridge")];
    beside.into_iter().find(|path| path.exists()).unwrap_or_else(|| "bridge".into())
}

/// Runs the commands as a shell would, with the real `ip` and `bridge`.
fn obey(node: &Node, ip: &Path, commands: &str) -> Outcome {
    for line in commands.lines() {
        let program = if line.starts_with("bridge ") { bridge_of(ip) } else { ip.to_owned() };
        let mut command = Command::new(program);
        command.args(line.split(' ').skip(1));
        let done = run(node, command)?;
        assert_eq!(done.status.code(), Some(0), "{line}: {}", done.stderr);
    }
    Ok(())
}

#[test]
fn the_commands_of_diff_do_what_the_daemon_does() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(ip) = require::part(Part::Ip)? else { return Ok(()) };
    let topology = Topology::create(3)?;
    let [node, by_hand, _] = topology.nodes.as_slice() else { panic!("three nodes") };
    let nodes_file = node.folder().join("nodes.json");
    cluster::write_nodes(&nodes_file, (1..).zip(&topology.nodes))?;
    let facts = ["--source", "file", "--nodes-file", nodes_file.to_str().unwrap()];

    let code = |node| Ok::<_, LabError>(diff(node, &facts)?.status.code());

    // Made by hand, the daemon has nothing to add, and the other way round.
    let told = diff(by_hand, &facts)?;
    assert_eq!((told.status.code(), told.stdout.lines().count()), (Some(1), 6), "{}", told.stdout);
    obey(by_hand, &ip, &told.stdout)?;
    assert_eq!((code(by_hand)?, code(node)?), (Some(0), Some(1)));
    let made_by_hand = routes(by_hand)?;
    assert_eq!(made_by_hand.len(), 6);
    drop(Syncer::start(by_hand, &nodes_file)?);
    assert_eq!(routes(by_hand)?, made_by_hand);

    // Removals, too.
    cluster::write_nodes(&nodes_file, (1..).zip(&topology.nodes[..2]))?;
    let told = diff(by_hand, &facts)?;
    assert!(told.stdout.lines().all(|line| line.contains(" del ")), "{}", told.stdout);
    obey(by_hand, &ip, &told.stdout)?;
    assert_eq!(diff(by_hand, &facts)?.stdout, "");
    Ok(())
}

/// The tunnel and what is known in it: devices, addresses, neighbours, forwarding entries.
fn tunnel(node: &Node) -> Result<Vec<String>> {
    let mut rtnl = node.rtnl()?;
    let mut found = Vec::new();
    for name in ["cbr0-vxlan", "cbr0-vxlan6"] {
        let link = rtnl.link_by_name(name)?.unwrap();
        let own = rtnl.addresses(link.index)?.into_iter().filter(|own| !own.link_local);
        let own: Vec<_> = own.map(|own| own.address).collect();
        let neighbours = rtnl.neighbours(link.index)?.into_iter().filter(|one| one.permanent);
        let neighbours: Vec<_> = neighbours.collect();
        let entries = rtnl.forwarding_entries(link.index)?;
        let (made_as, mac, mtu) = (link.made_as, link.mac, link.mtu);
        found.push(format!("{made_as:?} {mac:?} {mtu} {own:?} {neighbours:?} {entries:?}"));
    }
    Ok(found)
}

#[test]
fn the_commands_of_diff_make_the_tunnel_that_the_daemon_would() -> Outcome {
    if !require::root()? || !require::link_kind("vxlan")? {
        return Ok(());
    }
    let Some(ip) = require::part(Part::Ip)? else { return Ok(()) };
    let topology = Topology::create_with_one_behind(3)?;
    let node = &topology.nodes[0];
    let nodes_file = node.folder().join("nodes.json");
    cluster::write_nodes(&nodes_file, (1..).zip(&topology.nodes))?;
    let vxlan = ["--off-link", "vxlan"];
    let facts = ["--source", "file", "--nodes-file", nodes_file.to_str().unwrap()];
    let facts = [&facts[..], &vxlan].concat();

    obey(node, &ip, &diff(node, &facts)?.stdout)?;
    let by_hand = (tunnel(node)?, routes(node)?);
    assert_eq!(diff(node, &facts)?.stdout, "");
    drop(Syncer::start_with(node, &nodes_file, &vxlan)?);
    assert_eq!((tunnel(node)?, routes(node)?), by_hand);

    // Without the node, and then without a tunnel.
    cluster::write_nodes(&nodes_file, (1..).zip(&topology.nodes[..2]))?;
    for facts in [&facts[..], &facts[..4]] {
        obey(node, &ip, &diff(node, facts)?.stdout)?;
        assert_eq!(diff(node, facts)?.stdout, "");
    }
    assert_eq!(node.rtnl()?.link_by_name("cbr0-vxlan")?, None);
    Ok(())
}

/// P24, where the source could be written to.
#[test]
fn p24_who_looks_at_etcd_takes_no_lease() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(program) = require::part(Part::Etcd)? else { return Ok(()) };
    let topology = Topology::create(2)?;
    let onlooker = &topology.nodes[1];
    let etcd = Etcd::start_at(program, &topology.router, ENDPOINT.to_owned(), Vec::new())?;
    etcd.ctl(&["put", "/coreos.com/network/config", r#"{"Network": "10.0.0.0/14"}"#])?;
    let value = format!(r#"{{"PublicIP": "{}", "BackendType": "host-gw"}}"#, node_addresses(1)[0]);
    etcd.ctl(&["put", "/coreos.com/network/subnets/10.0.7.0-24", &value])?;

    let before = (etcd.ctl(&["get", "--prefix", ""])?, etcd.ctl(&["lease", "list"])?);
    let machine_id = onlooker.folder().join("machine-id");
    fs::write(&machine_id, "an-onlooker\n").unwrap();
    let state_dir = onlooker.folder().join("state");
    let (machine, state) = (machine_id.to_str().unwrap(), state_dir.to_str().unwrap());
    let facts = ["--source", "etcd", "--etcd-endpoints", ENDPOINT, "--machine-id", machine];
    let told = diff(onlooker, &[&facts[..], &["--state-dir", state]].concat())?;
    assert_eq!((told.status.code(), told.stdout.lines().count()), (Some(1), 2), "{}", told.stdout);
    assert!(told.stdout.starts_with("ip route add 10.0.7.0/24 via"), "{}", told.stdout);
    assert!(told.stderr.contains("would be taken"), "{}", told.stderr);
    assert_eq!((etcd.ctl(&["get", "--prefix", ""])?, etcd.ctl(&["lease", "list"])?), before);
    assert!(!state_dir.exists());
    Ok(())
}
