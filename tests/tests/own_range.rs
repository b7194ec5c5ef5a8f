//! A node that leaves the cluster has no range of its own any more.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use cbr0_tests::etcd::Etcd;
use cbr0_tests::process;
use cbr0_tests::require::{self, Part};
use cbr0_tests::topology::Topology;
use cbr0_tests::{Outcome, bins};
use ipnetwork::IpNetwork;
use kernel::route::{Route, TABLE_MAIN, add};
use nix::libc;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const ENDPOINT: &str = "http://10.100.0.1:2379";
const PROTOCOL: u8 = 214;
const METRIC: u32 = 4096;

#[test]
fn with_leave_the_own_range_is_no_longer_unreachable() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(program) = require::part(Part::Etcd)? else { return Ok(()) };
    let topology = Topology::create(1)?;
    let node = &topology.nodes[0];
    let _etcd = Etcd::start_at(program, &topology.router, ENDPOINT.to_owned(), Vec::new())?;
    let range = |text: &str| text.parse::<IpNetwork>().unwrap();
    let end = |text, protocol| Route {
        kind: libc::RTN_UNREACHABLE,
        priority: METRIC,
        protocol,
        ..Route::new(range(text))
    };
    // What a daemon left, and what others have.
    let ours = [end("10.0.1.0/24", PROTOCOL), end("fd00:1::/64", PROTOCOL)];
    let theirs = [end("10.0.9.0/24", 4), end("fd00:9::/64", 4)];
    let mut rtnl = node.rtnl()?;
    rtnl.request_all(&ours.map(|route| add(&route)))?;
    rtnl.request_all(&theirs.map(|route| add(&route)))?;

    let machine_id = node.folder().join("machine-id");
    fs::write(&machine_id, "a-machine\n").unwrap();
    let mut command = Command::new(bins::route_syncer()?);
    command.args(["leave", "--etcd-endpoints", ENDPOINT, "--node", &node.name]);
    command.arg("--machine-id").arg(machine_id);
    command.arg("--state-dir").arg(node.folder().join("state"));
    command.arg("--run-dir").arg(node.folder());
    let left = node.netns().run(|| process::run(command, b"", PATIENCE))??;
    assert!(left.status.success(), "{}", left.stderr);
    assert!(left.stdout.contains("removed 2 routes of protocol 214"), "{}", left.stdout);

    let routes = rtnl.routes(TABLE_MAIN)?;
    let ends = routes.iter().filter(|route| route.kind == libc::RTN_UNREACHABLE);
    let found: Vec<IpNetwork> = ends.map(|route| route.destination).collect();
    assert_eq!(found, theirs.map(|route| route.destination));
    Ok(())
}
