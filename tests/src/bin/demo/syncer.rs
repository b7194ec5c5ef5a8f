//! The route syncers of the demo: one a node, all reading one file of nodes.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::topology::{node_addresses, pod_ranges};
use cbr0_tests::{LabError, Result, bins};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

use crate::processes;
use crate::state;

/// Ten times what a first sync takes on a slow machine.
const FIRST_SYNC: Duration = Duration::from_secs(10);

/// A route syncer that was started on a node.
pub(crate) struct Syncer<'a> {
    node: &'a Node,
    record: PathBuf,
    /// Tells of every file that appears in the node's folder.
    appeared: Inotify,
}

/// Writes the file that tells every syncer where every node's Pods are.
pub(crate) fn write_nodes(nodes: &[Node]) -> Result<()> {
    let entry = |(number, node): (u8, &Node)| {
        let ranges = pod_ranges(number).map(|range| range.to_string());
        json!({"name": node.name, "addresses": node_addresses(number), "podCIDRs": ranges})
    };
    let list: Vec<Value> = (1..).zip(nodes).map(entry).collect();
    state::write(NODES_FILE, &format!("{:#}\n", Value::Array(list)))
}

const NODES_FILE: &str = "nodes.json";

/// Where a node's syncer says that it has synced, for the plugins' STATUS.
pub(crate) fn status_file(node: &Node) -> PathBuf {
    node.folder().join("synced.json")
}

impl<'a> Syncer<'a> {
    /// Starts one inside a node; it outlives this process.
    pub(crate) fn start(node: &'a Node) -> Result<Self> {
        let what = || format!("watch {}", node.folder().display());
        let appeared =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context(what)?;
        appeared
            .add_watch(node.folder(), AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)
            .context(what)?;
        let mut command = Command::new(bins::route_syncer()?);
        command.args(["run", "--source", "file", "--node", &node.name]);
        command.arg("--nodes-file").arg(state::path(NODES_FILE));
        command.arg("--run-dir").arg(node.folder());
        let record = state::process_file(&format!("{}-route-syncer", node.name));
        node.netns().run(|| processes::start_recorded(&command, &record))??;
        Ok(Syncer { node, record, appeared })
    }

    /// Waits for its first sync.
    ///
    /// # Errors
    /// None within [`FIRST_SYNC`]: with the syncer's log.
    pub(crate) fn wait(&self) -> Result<()> {
        let until = Instant::now() + FIRST_SYNC;
        while !status_file(self.node).exists() {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.appeared.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout).context(|| "wait for a file".to_owned())? == 0 {
                return Err(self.silent());
            }
            self.appeared.read_events().context(|| "read of a file".to_owned())?;
        }
        Ok(())
    }

    fn silent(&self) -> LabError {
        let log = fs::read_to_string(self.record.with_extension("log")).unwrap_or_default();
        LabError::Wrong(format!(
            "the route syncer of {} has not synced within {FIRST_SYNC:?}; its log:\n{log}",
            self.node.name
        ))
    }
}
