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

/// A route syncer that was started on a node. It goes on when this value is dropped.
#[derive(Debug)]
pub struct Started {
    process: Child,
    log: PathBuf,
    /// The file that it writes when its first sync is done.
    sign: PathBuf,
    /// Tells of every file that appears in the node's folder.
    appeared: Inotify,
}

impl Started {
    /// Starts one inside a node.
    ///
    /// # Errors
    /// It has not been built, or does not start.
    pub fn new(node: &Node, nodes_file: &Path) -> Result<Self> {
        let appeared = watch(node.folder())?;
        let log = node.folder().join("route-syncer.log");
        let output = File::create(&log).context(|| format!("make {}", log.display()))?;
        let mut command = Command::new(bins::route_syncer()?);
        command.args(["run", "--source", "file", "--node", &node.name]);
        command.arg("--nodes-file").arg(nodes_file).arg("--run-dir").arg(node.folder());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = node.netns().run(|| command.spawn())?;
        let process = process.context(|| "start route-syncer".to_owned())?;
        Ok(Started { process, log, sign: cluster::sync_status(node), appeared })
    }

    /// Waits until its first sync is done.
    ///
    /// # Errors
    /// It is not in time: told with its log.
    pub fn wait(&self) -> Result<()> {
        let until = Instant::now() + DEADLINE;
        while !self.sign.exists() {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.appeared.as_fd(), PollFlags::POLLIN)];
            let what = || format!("wait for {}", self.sign.display());
            if poll(&mut ready, timeout).context(what)? == 0 {
                return Err(self.silent());
            }
            self.appeared.read_events().context(what)?;
        }
        Ok(())
    }

    fn silent(&self) -> LabError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let sign = self.sign.display();
        LabError::Wrong(format!(
            "the route syncer has not written {sign} within {DEADLINE:?}; its log:\n{log}"
        ))
    }
}

/// Begins to tell of files that appear in a folder.
fn watch(folder: &Path) -> Result<Inotify> {
    let what = || format!("watch {}", folder.display());
    let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
    let appeared = Inotify::init(flags).context(what)?;
    let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    appeared.add_watch(folder, appears).context(what)?;
    Ok(appeared)
}

/// A route syncer that has synced, and ends with this value; the routes it made stay.
#[derive(Debug)]
pub struct Syncer {
    started: Started,
}

impl Syncer {
    /// Starts one inside a node, and returns when it has synced.
    ///
    /// # Errors
    /// It does not start, or does not sync in time.
    pub fn start(node: &Node, nodes_file: &Path) -> Result<Self> {
        let syncer = Syncer { started: Started::new(node, nodes_file)? };
        syncer.started.wait()?;
        Ok(syncer)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.started.process.kill();
        let _ = self.started.process.wait();
    }
}
