//! The route syncer on a node, as a process.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Context, LabError, Result};
use crate::node::Node;
use crate::{bins, cluster};

/// Many times what a first sync takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// The command that runs it, for [`NetNs::run`](kernel::NetNs::run) to start inside the node.
///
/// # Errors
/// It has not been built.
pub fn command(node: &Node, nodes_file: &Path) -> Result<Command> {
    let mut command = Command::new(bins::route_syncer()?);
    command.args(["run", "--source", "file", "--node", &node.name]);
    command.arg("--nodes-file").arg(nodes_file);
    command.arg("--run-dir").arg(node.folder());
    Ok(command)
}

/// Waits for a route syncer to say that its first sync is done. Made before it is started.
#[derive(Debug)]
pub struct FirstSync {
    sign: PathBuf,
    /// Tells of every file that appears in the node's folder.
    appeared: Inotify,
}

impl FirstSync {
    /// Begins to watch.
    ///
    /// # Errors
    /// The node's folder cannot be watched.
    pub fn watch(node: &Node) -> Result<Self> {
        let what = || format!("watch {}", node.folder().display());
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let appeared = Inotify::init(flags).context(what)?;
        let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        appeared.add_watch(node.folder(), appears).context(what)?;
        Ok(FirstSync { sign: cluster::sync_status(node), appeared })
    }

    /// Waits; `log` is told if nothing comes.
    ///
    /// # Errors
    /// No sign in time.
    pub fn wait(&self, log: &Path) -> Result<()> {
        let until = Instant::now() + DEADLINE;
        while !self.sign.exists() {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.appeared.as_fd(), PollFlags::POLLIN)];
            let what = || format!("wait for {}", self.sign.display());
            if poll(&mut ready, timeout).context(what)? == 0 {
                let log = fs::read_to_string(log).unwrap_or_default();
                let sign = self.sign.display();
                return Err(LabError::Wrong(format!(
                    "the route syncer has not written {sign} within {DEADLINE:?}; its log:\n{log}"
                )));
            }
            self.appeared.read_events().context(what)?;
        }
        Ok(())
    }
}

/// A route syncer that ends with this value; the routes it made stay.
#[derive(Debug)]
pub struct Syncer {
    process: Child,
}

impl Syncer {
    /// Starts one inside a node, and returns when it has synced.
    ///
    /// # Errors
    /// It does not start, or does not sync in time.
    pub fn start(node: &Node, nodes_file: &Path) -> Result<Self> {
        let first_sync = FirstSync::watch(node)?;
        let log = node.folder().join("route-syncer.log");
        let output = File::create(&log).context(|| format!("make {}", log.display()))?;
        let mut command = command(node, nodes_file)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = node.netns().run(|| command.spawn())?;
        let syncer = Syncer { process: process.context(|| "start route-syncer".to_owned())? };
        first_sync.wait(&log)?;
        Ok(syncer)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
