//! P4: whatever the route syncer is about to ask of the kernel or of its folder when it is killed,
//! the next one puts everything right.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

use cbr0_tests::daemon::{self, Daemon};
use cbr0_tests::node::Node;
use cbr0_tests::require::{self, Part};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::syscall_name;
use cbr0_tests::topology::Topology;
use cbr0_tests::{LabError, Outcome, Result, bins, cluster};

/// Every request to the kernel, and every file that comes into its place.
const CALLS: [&str; 2] = ["sendto", "rename"];
/// The nodes before, and those that there are when it is killed.
const LISTS: [&[u8]; 2] = [&[1, 2, 3], &[1, 3, 4]];

struct Lab {
    topology: Topology,
    nodes_file: PathBuf,
    strace: PathBuf,
}

impl Lab {
    /// `None` where that cannot be.
    fn new() -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let Some(strace) = require::part(Part::Strace)? else { return Ok(None) };
        let topology = Topology::create(4)?;
        let nodes_file = topology.nodes[0].folder().join("nodes.json");
        Ok(Some(Self { topology, nodes_file, strace }))
    }

    fn node(&self) -> &Node {
        &self.topology.nodes[0]
    }

    fn list(&self, numbers: &[u8]) -> Result<()> {
        let named = |&number: &u8| (number, &self.topology.nodes[usize::from(number) - 1]);
        cluster::write_nodes(&self.nodes_file, numbers.iter().map(named))
    }

    /// Starts the daemon, under `strace` if there are options for it: as its parent's child all the
    /// same, so that who ends it ends both.
    fn start(&self, traced: &[&str]) -> Result<Daemon> {
        let mut command = Command::new(&self.strace);
        command.args(["-D", "-f", "-qq"]).args(traced).arg(bins::route_syncer()?);
        if traced.is_empty() {
            command = Command::new(bins::route_syncer()?);
        }
        command.args(["run", "--source", "file", "--node", "node1", "--nodes-file"]);
        command.arg(&self.nodes_file).arg("--run-dir").arg(self.node().folder());
        Daemon::spawn(self.node(), command)
    }

    fn wait_for_sync(&self) -> Result<()> {
        let is_done = |_: &_| daemon::log(self.node()).contains("the first sync is done");
        daemon::wait(self.node(), "first sync", is_done).map(drop)
    }

    /// What there is after a daemon was left alone until it had synced.
    fn settle(&self) -> Result<Snapshot> {
        let daemon = self.start(&[])?;
        self.wait_for_sync()?;
        daemon.kill();
        Snapshot::of(self.node().netns())
    }

    /// How often each of the calls is made until the status is written.
    fn counts(&self) -> Result<[usize; CALLS.len()]> {
        let file = self.node().folder().join("trace");
        let trace = format!("trace={}", CALLS.join(","));
        let daemon = self.start(&["-o", file.to_str().unwrap(), "-e", &trace])?;
        self.wait_for_sync()?;
        let own = format!("{} ", daemon.pid());
        daemon.kill();
        let trace = std::fs::read_to_string(file).unwrap();
        let mut lines: Vec<&str> = trace.lines().filter(|line| line.starts_with(&own)).collect();
        let is_last = |line: &&str| line.contains("route-syncer.json\")");
        lines.truncate(lines.iter().position(is_last).unwrap() + 1);
        let count = |name| lines.iter().filter(|line| syscall_name(line) == Some(name)).count();
        Ok(CALLS.map(count))
    }
}

#[test]
fn p04_killed_instead_of_any_request_and_started_again_it_converges() -> Outcome {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    lab.list(LISTS[0])?;
    let before = lab.settle()?;
    lab.list(LISTS[1])?;
    let counts = lab.counts()?;
    let after = lab.settle()?;
    let settles_as = |expected: &Snapshot, what: &str| match expected
        .difference(&lab.settle()?, &Shared::after_warm_up())
    {
        None => Ok(()),
        Some(difference) => Err(LabError::Wrong(format!("{what}:\n{difference}"))),
    };
    for (name, count) in CALLS.iter().zip(counts) {
        assert!(count > 0, "no {name}");
        for turn in 1..=count {
            lab.list(LISTS[0])?;
            settles_as(&before, "as before")?;
            lab.list(LISTS[1])?;
            let kill = format!("inject={name}:signal=KILL:when={turn}");
            let trace = format!("trace={name}");
            let killed = lab.start(&["-o", "/dev/null", "-e", &trace, "-e", &kill])?;
            assert!(!killed.wait()?.success());
            settles_as(&after, &format!("killed at {name} number {turn}"))?;
        }
    }
    Ok(())
}
