//! The route syncer on a node, as a process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::{Context, LabError, Result};
use crate::folder::FolderEvents;
use crate::node::Node;
use crate::process::{self, Finished};
use crate::{bins, cluster};

/// Many times what a first sync takes.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Where the route syncers of a cluster have their facts from.
#[derive(Debug, Clone)]
pub enum Facts {
    /// A file with a list of nodes.
    File(PathBuf),
    /// The etcd at these URLs.
    Etcd(String),
}

impl Facts {
    /// What `route-syncer run` is told on a node.
    fn run(&self, node: &Node) -> Vec<OsString> {
        let mut arguments = ["run", "--source"].map(OsString::from).to_vec();
        match self {
            Facts::File(nodes_file) => {
                arguments.extend(["file", "--node", &node.name, "--nodes-file"].map(Into::into));
                arguments.push(nodes_file.into());
                arguments.extend(["--run-dir".into(), node.folder().into()]);
            }
            Facts::Etcd(endpoints) => {
                arguments.push("etcd".into());
                arguments.extend(member(node, endpoints));
            }
        }
        arguments
    }
}

/// Who a node is in etcd, and what it remembers of that: `run` and `leave` are told the same.
fn member(node: &Node, endpoints: &str) -> Vec<OsString> {
    let mut arguments =
        ["--node", &node.name, "--etcd-endpoints", endpoints].map(OsString::from).to_vec();
    let folder = node.folder();
    arguments.extend(["--machine-id".into(), folder.join("machine-id").into()]);
    arguments.extend(["--state-dir".into(), folder.join("state").into()]);
    arguments.extend(["--run-dir".into(), folder.into()]);
    arguments
}

/// Gives a node an ID of its own; all that is installed on a real machine gets one.
fn identify(node: &Node) -> Result<()> {
    let (source, file) = ("/proc/sys/kernel/random/uuid", node.folder().join("machine-id"));
    if file.exists() {
        return Ok(());
    }
    let id = fs::read_to_string(source).context(|| format!("read {source}"))?;
    fs::write(&file, id.replace('-', "")).context(|| format!("write {}", file.display()))
}

/// Runs `route-syncer leave` on a node, to its end.
///
/// # Errors
/// It has not been built, or does not start or end.
pub fn leave(node: &Node, endpoints: &str) -> Result<Finished> {
    let mut command = Command::new(bins::route_syncer()?);
    command.arg("leave").args(member(node, endpoints));
    node.netns().run(|| process::run(command, b"", DEADLINE))?
}

/// A route syncer that was started on a node. It goes on when this value is dropped.
#[derive(Debug)]
pub struct Started {
    process: Child,
    log: PathBuf,
    /// What it writes when its first sync is done: the sign for plugins, then the conflist.
    signs: [PathBuf; 2],
    folder: FolderEvents,
}

impl Started {
    /// Starts one inside a node, where it also writes the node's conflist.
    ///
    /// # Errors
    /// It has not been built, or does not start.
    pub fn new(node: &Node, facts: &Facts) -> Result<Self> {
        Self::with(node, facts, &[])
    }

    /// As [`Started::new`], with more options.
    ///
    /// # Errors
    /// As [`Started::new`].
    pub fn with(node: &Node, facts: &Facts, options: &[&str]) -> Result<Self> {
        identify(node)?;
        let folder = FolderEvents::open(node.folder())?;
        let log = node.folder().join("route-syncer.log");
        let output = File::create(&log).context(|| format!("make {}", log.display()))?;
        let signs = [cluster::sync_status(node), cluster::written_conflist(node)];
        let mut command = Command::new(bins::route_syncer()?);
        command.args(facts.run(node)).arg("--conflist").arg(&signs[1]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = node.netns().run(|| command.spawn())?;
        let process = process.context(|| "start route-syncer".to_owned())?;
        Ok(Started { process, log, signs, folder })
    }

    /// Waits until its first sync is done and it has written the conflist.
    ///
    /// # Errors
    /// It is not in time: told with its log.
    pub fn wait(&self) -> Result<()> {
        let written = || Ok(self.signs.iter().all(|sign| sign.exists()).then_some(()));
        self.folder.wait(DEADLINE, written)?.ok_or_else(|| self.silent())
    }

    fn silent(&self) -> LabError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let missing = self.signs.iter().find(|sign| !sign.exists());
        LabError::Wrong(format!(
            "the route syncer has not written {:?} within {DEADLINE:?}; its log:\n{log}",
            missing.unwrap_or(&self.signs[1])
        ))
    }
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
        Self::start_with(node, nodes_file, &[])
    }

    /// As [`Syncer::start`], with more options.
    ///
    /// # Errors
    /// As [`Syncer::start`].
    pub fn start_with(node: &Node, nodes_file: &Path, options: &[&str]) -> Result<Self> {
        let facts = Facts::File(nodes_file.to_owned());
        let syncer = Syncer { started: Started::with(node, &facts, options)? };
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
