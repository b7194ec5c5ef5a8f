//! A cluster with an etcd on its router, and its daemons.

use std::fs;
use std::process::Command;
use std::time::Duration;

use cbr0_tests::daemon::{self, Daemon, PATIENCE, sorted, text};
use cbr0_tests::etcd::Etcd;
use cbr0_tests::node::Node;
use cbr0_tests::require::{self, Part};
use cbr0_tests::topology::Topology;
use cbr0_tests::{Result, bins, process};
use kernel::netlink::{Protocol, Socket};
use serde_json::Value;

pub(crate) const PREFIX: &str = "/coreos.com/network";
/// Where etcd is.
pub(crate) const ROUTER: &str = "10.100.0.1";
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTM_DELROUTE: u16 = 25;
/// How long the lease of a mortal daemon outlives it.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

pub(crate) struct Lab {
    pub(crate) topology: Topology,
    pub(crate) etcd: Etcd,
}

impl Lab {
    /// An etcd with the usual network, and nodes without daemons. `None` where that cannot be.
    pub(crate) fn new(nodes: u8) -> Result<Option<Self>> {
        let lab = Self::without_config(nodes)?;
        if let Some(lab) = &lab {
            lab.put("config", r#"{"Network": "10.0.0.0/14"}"#)?;
        }
        Ok(lab)
    }

    pub(crate) fn without_config(nodes: u8) -> Result<Option<Self>> {
        Self::at(nodes, format!("http://{ROUTER}:2379"), Vec::new())
    }

    /// With an etcd at this URL, and more options for it.
    pub(crate) fn at(nodes: u8, endpoint: String, options: Vec<String>) -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let Some(program) = require::part(Part::Etcd)? else { return Ok(None) };
        let topology = Topology::create(nodes)?;
        let etcd = Etcd::start_at(program, &topology.router, endpoint, options)?;
        Ok(Some(Lab { topology, etcd }))
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> Result<()> {
        self.etcd.ctl(&["put", &format!("{PREFIX}/{key}"), value]).map(drop)
    }

    /// As [`Lab::put`], for a value that is too long for a command line.
    pub(crate) fn put_long(&self, key: &str, value: &str) -> Result<()> {
        self.etcd.ctl_with(&["put", &format!("{PREFIX}/{key}")], value).map(drop)
    }

    /// A key as etcd has it: its value in base64, its revisions, its lease.
    pub(crate) fn key(&self, key: &str) -> Result<Value> {
        let answer = self.etcd.ctl(&["get", &format!("{PREFIX}/{key}"), "-w", "json"])?;
        Ok(serde_json::from_str::<Value>(&answer).unwrap()["kvs"][0].take())
    }

    /// Node number `number`, from 1.
    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.topology.nodes[number - 1]
    }

    /// Starts the daemon of a node, with a lease that no pause of a busy machine lets expire.
    pub(crate) fn start(&self, number: usize) -> Result<Daemon> {
        self.start_with(number, &[])
    }

    /// Starts the daemon of a node whose lease is to expire [`SHORT`]ly after it is killed.
    pub(crate) fn start_mortal(&self, number: usize) -> Result<Daemon> {
        self.start_with(number, &["--lease-ttl", "2s"])
    }

    pub(crate) fn start_with(&self, number: usize, more: &[&str]) -> Result<Daemon> {
        let node = self.node(number);
        let mut command = self.command(number, "run");
        command.args(["--source", "etcd", "--run-dir"]).arg(node.folder()).args(more);
        Daemon::spawn(node, command)
    }

    /// Runs `leave` or `forget` on a node, and returns all that it says.
    pub(crate) fn say(&self, number: usize, words: &[&str]) -> Result<String> {
        let mut command = self.command(number, words[0]);
        command.args(&words[1..]);
        if words[0] == "leave" {
            command.arg("--run-dir").arg(self.node(number).folder());
        }
        let done = self.node(number).netns().run(|| process::run(command, b"", PATIENCE))??;
        Ok(done.stdout + &done.stderr)
    }

    fn command(&self, number: usize, verb: &str) -> Command {
        let node = self.node(number);
        let machine_id = node.folder().join("machine-id");
        fs::write(&machine_id, format!("machine-of-{}\n", node.name)).unwrap();
        let mut command = Command::new(bins::route_syncer().unwrap());
        command.arg(verb).args(["--etcd-endpoints", &self.etcd.endpoint, "--node", &node.name]);
        command.arg("--machine-id").arg(machine_id);
        command.arg("--state-dir").arg(node.folder().join("state"));
        command
    }

    pub(crate) fn log(&self, number: usize) -> String {
        daemon::log(self.node(number))
    }

    /// Waits until the status of a node is as it should be, and returns it.
    pub(crate) fn wait(
        &self,
        number: usize,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        daemon::wait(self.node(number), what, is_so)
    }

    /// Waits until a node's table is this, with `NODE STATE` for each row, in any order.
    pub(crate) fn wait_for_rows(&self, number: usize, rows: &[&str]) -> Result<Value> {
        let expected: Vec<String> = sorted(rows.iter().map(|&row| row.to_owned()));
        self.wait(number, &format!("{rows:?}"), |status| states(status) == expected)
    }

    /// Waits until a daemon has read etcd: before, it shows what it remembers.
    pub(crate) fn wait_for_reading(&self, number: usize) -> Result<Value> {
        self.wait(number, "reading", |_| self.log(number).contains("the source names"))
    }

    /// Our routes on a node to others, as `destination via gateway`, sorted.
    pub(crate) fn routes(&self, number: usize) -> Result<Vec<String>> {
        daemon::routes(self.node(number))
    }

    /// Hears from now on of routes that are deleted on a node.
    pub(crate) fn deletions(&self, number: usize) -> Result<Deletions> {
        let open = || {
            let mut socket = Socket::open(Protocol::Route)?;
            socket.subscribe(RTNLGRP_IPV4_ROUTE)?;
            Ok::<_, kernel::Error>(socket)
        };
        Ok(Deletions(self.node(number).netns().run(open)??))
    }
}

/// What was heard of deleted routes.
pub(crate) struct Deletions(Socket);

impl Deletions {
    pub(crate) fn count(&mut self) -> Result<usize> {
        let events = self.0.events()?.unwrap();
        Ok(events.iter().filter(|event| event.kind == RTM_DELROUTE).count())
    }
}

/// `NODE STATE` for each row.
pub(crate) fn states(status: &Value) -> Vec<String> {
    let rows = status["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    sorted(rows.iter().map(|row| format!("{} {}", text(&row["node"]), text(&row["state"]))))
}

/// The Pod range that a status tells for a node.
pub(crate) fn range_of(status: &Value, node: &str) -> String {
    let rows = status["routes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["node"] == node);
    text(&row.unwrap_or_else(|| panic!("no {node} in {status:#}"))["podCIDR"])
}

/// Whether a status names a problem with this text.
pub(crate) fn tells(status: &Value, part: &str) -> bool {
    let problems = status["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    problems.iter().any(|problem| text(problem).contains(part))
}

/// Whether a status says that etcd is away, and since when.
pub(crate) fn is_away(status: &Value) -> bool {
    !text(&status["sourceError"]).is_empty() && text(&status["sourceErrorSince"]).ends_with('Z')
}
