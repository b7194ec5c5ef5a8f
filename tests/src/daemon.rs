//! A route syncer of which everything is asked: its status, its log, and the routes that it made.
//!
//! All of it is a node's own: the status is in the node's folder, and so is the log.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kernel::route::{Route, TABLE_MAIN};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::error::{Context, LabError, Result};
use crate::folder::FolderEvents;
use crate::node::Node;
use crate::{bins, process};

/// How long something that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The number of its routes.
pub const PROTOCOL: u8 = 214;

/// A daemon; it ends with this value.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it on a node, whose folder has its log from then on.
    ///
    /// # Errors
    /// It does not start, or the log cannot be made.
    pub fn spawn(node: &Node, mut command: Command) -> Result<Self> {
        let log = log_file(node);
        let output = File::create(&log).context(|| format!("make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = node.netns().run(|| command.spawn())?;
        Ok(Self { child: child.context(|| "start route-syncer".to_owned())? })
    }

    /// Ends it without a chance to do anything.
    pub fn kill(self) {
        drop(self);
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It has not ended within [`PATIENCE`]; it is killed then.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let process = Pid::from_raw(self.child.id().cast_signed());
        let (sender, ended) = mpsc::channel();
        // The receiver is gone only after the deadline.
        thread::spawn(move || drop(sender.send(self.child.wait())));
        match ended.recv_timeout(PATIENCE) {
            Ok(status) => status.context(|| "wait for route-syncer".to_owned()),
            Err(_) => {
                kill(process, Signal::SIGKILL).context(|| "kill route-syncer".to_owned())?;
                let what = "the end of route-syncer".to_owned();
                Err(LabError::Timeout { what, deadline: PATIENCE })
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).context(|| format!("send {signal} to route-syncer"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(node: &Node) -> std::path::PathBuf {
    node.folder().join("log")
}

/// What the last daemon of a node has logged.
pub fn log(node: &Node) -> String {
    fs::read_to_string(log_file(node)).unwrap_or_default()
}

/// What `route-syncer status --json` says on a node; null if it says nothing of the kind.
///
/// # Errors
/// It does not run.
pub fn status(node: &Node) -> Result<Value> {
    let mut command = Command::new(bins::route_syncer()?);
    command.args(["status", "--json", "--run-dir"]).arg(node.folder());
    let done = node.netns().run(|| process::run(command, b"", PATIENCE))??;
    Ok(serde_json::from_str(&done.stdout).unwrap_or(Value::Null))
}

/// Waits until the status of a node is as it should be, and returns it.
///
/// # Errors
/// It is not so in time: told with the status and the log.
pub fn wait(node: &Node, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    // The status is renamed into its place, the log written to.
    let changes = FolderEvents::open(node.folder())?;
    let as_it_should_be = || Ok(Some(status(node)?).filter(&is_so));
    changes.wait(PATIENCE, as_it_should_be)?.ok_or_else(|| {
        let (name, log, status) = (&node.name, log(node), status(node).unwrap_or_default());
        LabError::Wrong(format!("{name}, no {what} in:\n{status:#}\nlog:\n{log}"))
    })
}

/// The daemon's routes on a node to others, as `destination via gateway`, sorted.
///
/// # Errors
/// The kernel does not tell.
pub fn routes(node: &Node) -> Result<Vec<String>> {
    let all = node.rtnl()?.routes(TABLE_MAIN)?;
    let ours = all.iter().filter(|route| route.protocol == PROTOCOL);
    // Those that make ranges unreachable have none.
    let show = |route: &Route| Some(format!("{} via {}", route.destination, route.gateway?));
    Ok(sorted(ours.filter_map(show)))
}

/// What a value of a status says; nothing if it is no text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Rows in an order in which they can be compared.
pub fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}
