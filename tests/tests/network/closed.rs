//! The promises on hosts that let nothing pass by default, as Docker and some distributions have it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cbr0_tests::node::Node;
use cbr0_tests::probe::Endpoint;
use cbr0_tests::require::{self, Part};
use cbr0_tests::topology::outside_addresses;
use cbr0_tests::{LabError, Outcome, Result, process};

use crate::fixture::{Cluster, Families};
use crate::promises_hold_on;

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a program of iptables on a node.
fn iptables(folder: &Path, node: &Node, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(folder.join(program));
    command.args(arguments);
    let done = node.netns().run(|| process::run(command, b"", DEADLINE))??;
    if !done.status.success() {
        return Err(LabError::Wrong(format!("{program} {arguments:?}: {}", done.stderr)));
    }
    Ok(done.stdout)
}

fn closed(folder: &Path) -> Result<Option<Cluster>> {
    if !require::root()? || !require::nf_tables()? {
        return Ok(None);
    }
    Cluster::prepared(|node| {
        for program in ["iptables-nft", "ip6tables-nft"] {
            iptables(folder, node, program, &["-P", "FORWARD", "DROP"])?;
        }
        Ok(())
    })
}

#[test]
fn p26_addresses_are_as_promised_where_forwarded_packets_are_dropped_by_default() -> Outcome {
    let Some(folder) = require::part(Part::Iptables)? else { return Ok(()) };
    let Some(cluster) = closed(&folder)? else { return Ok(()) };
    promises_hold_on(&cluster, Families::Both)?;
    let saved = iptables(&folder, &cluster.lab.nodes[0], "iptables-nft-save", &[])?;
    for line in [
        ":FORWARD DROP [",
        "-A FORWARD -m comment --comment \"cbr0 route syncer\" -j CBR0-FORWARD",
        "-A CBR0-FORWARD -s 10.0.1.0/24 -j ACCEPT",
        "-A CBR0-FORWARD -d 10.0.1.0/24 -j ACCEPT",
    ] {
        assert!(saved.contains(line), "no {line} in {saved}");
    }
    Ok(())
}

/// The rules are back when somebody empties the tables, or puts back what was saved before.
#[test]
fn p26_what_lets_pods_through_is_repaired_when_it_is_flushed() -> Outcome {
    let Some(folder) = require::part(Part::Iptables)? else { return Ok(()) };
    let Some(cluster) = closed(&folder)? else { return Ok(()) };
    let (a, c) = (cluster.add(1, "a", Families::Both)?, cluster.add(2, "c", Families::Both)?);
    let _outside = Endpoint::serve(cluster.lab.outside.netns())?;
    a.reaches(&c.addresses)?;
    for node in &cluster.lab.nodes {
        for program in ["iptables-nft", "ip6tables-nft"] {
            iptables(&folder, node, program, &["-F", "FORWARD"])?;
            iptables(&folder, node, program, &["-F", "CBR0-FORWARD"])?;
        }
    }
    // A call tries again until the way is free.
    a.reaches(&c.addresses)?;
    a.is_seen_as(&a.node, &Families::Both.of(outside_addresses()))?;
    Ok(())
}
