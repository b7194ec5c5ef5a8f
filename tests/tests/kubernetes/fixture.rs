//! A cluster with an API server on its router, and its daemons.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cbr0_tests::daemon::{self, Daemon, PATIENCE, sorted, text};
use cbr0_tests::kube::{ApiServer, PORT, Programs};
use cbr0_tests::node::Node;
use cbr0_tests::require::{self, Part};
use cbr0_tests::topology::{Topology, node_addresses, node_name, pod_ranges};
use cbr0_tests::{LabError, Result, bins, process, wait};
use kernel::netlink::{Protocol, Socket};
use serde_json::{Value, json};

/// Where the API server is.
pub(crate) const SERVER: &str = "10.100.0.1";
/// Tokens of users that may list and watch Nodes, and of one who may nothing.
pub(crate) const TOKENS: [&str; 2] = ["syncer", "successor"];
pub(crate) const STRANGER: &str = "stranger";
pub(crate) const NODES: &str = "/api/v1/nodes";
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTM_DELROUTE: u16 = 25;
pub(crate) struct Lab {
    pub(crate) topology: Topology,
    pub(crate) server: ApiServer,
}

impl Lab {
    /// An API server with Node objects for all nodes. `None` where that cannot be.
    pub(crate) fn new(nodes: u8) -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let Some(apiserver) = require::part(Part::KubeApiserver)? else { return Ok(None) };
        let Some(etcd) = require::part(Part::Etcd)? else { return Ok(None) };
        let Some(openssl) = require::part(Part::Openssl)? else { return Ok(None) };
        let topology = Topology::create(nodes)?;
        let programs = Programs { apiserver, etcd, openssl };
        let tokens = [TOKENS[0], STRANGER];
        let address = SERVER.parse().unwrap();
        let server = ApiServer::start(programs, &topology.router, address, &tokens)?;
        let lab = Lab { topology, server };
        lab.allow(&TOKENS.map(|user| json!({"kind": "User", "name": user})))?;
        for number in 1..=nodes {
            lab.add(number)?;
        }
        Ok(Some(lab))
    }

    /// Lets these do what the README says that the route syncer must be let do.
    pub(crate) fn allow(&self, subjects: &[Value]) -> Result<()> {
        const PATH: &str = "/apis/rbac.authorization.k8s.io/v1";
        const GROUP: &str = "rbac.authorization.k8s.io";
        let name = format!("route-syncer-{}", subjects[0]["name"].as_str().unwrap_or_default());
        let rules =
            json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]);
        let role = json!({"metadata": {"name": name}, "rules": rules});
        self.server.ask("POST", &format!("{PATH}/clusterroles"), &role)?;
        let reference = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        let binding =
            json!({"metadata": {"name": name}, "roleRef": reference, "subjects": subjects});
        self.server.ask("POST", &format!("{PATH}/clusterrolebindings"), &binding).map(drop)
    }

    /// Makes the Node object of a node, as its kubelet and the controller manager do.
    pub(crate) fn add(&self, number: u8) -> Result<()> {
        let ranges = pod_ranges(number).map(|range| range.to_string());
        self.create(&node_name(number), &ranges, &node_addresses(number))
    }

    pub(crate) fn create(
        &self,
        name: &str,
        ranges: &[impl ToString],
        addresses: &[impl ToString],
    ) -> Result<()> {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let internal = |ip: &_| json!({"type": "InternalIP", "address": ToString::to_string(ip)});
        let mut known: Vec<Value> = addresses.iter().map(internal).collect();
        known.push(json!({"type": "ExternalIP", "address": "192.0.2.77"}));
        let node = json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
            "status": {"addresses": known},
        });
        self.server.ask("POST", NODES, &node).map(drop)
    }

    pub(crate) fn delete(&self, number: u8) -> Result<()> {
        let path = format!("{NODES}/{}", node_name(number));
        self.server.ask("DELETE", &path, &Value::Null).map(drop)
    }

    /// Sets a condition of a Node, as a kubelet does for a sign of life.
    pub(crate) fn beat(&self, number: u8, ready: bool, count: usize) -> Result<()> {
        let time = format!("2026-01-01T00:00:{:02}Z", count % 60);
        let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastHeartbeatTime": time, "reason": format!("Beat{count}")});
        let path = format!("{NODES}/{}/status", node_name(number));
        let status = json!({"status": {"conditions": [condition]}});
        self.server.ask("PATCH", &path, &status).map(drop)
    }

    /// Node number `number`, from 1.
    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.topology.nodes[number - 1]
    }

    /// The file with the token of a node's daemon.
    pub(crate) fn token_file(&self, number: usize) -> PathBuf {
        self.node(number).folder().join("token")
    }

    fn kubeconfig(&self, number: usize) -> PathBuf {
        let path = self.node(number).folder().join("kubeconfig");
        let kubeconfig = json!({
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{SERVER}:{PORT}"),
                "certificate-authority": self.server.ca(),
            }}],
            "users": [{"name": "lab", "user": {"tokenFile": self.token_file(number)}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        });
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    /// Starts the daemon of a node, as the user that may what it must.
    pub(crate) fn start(&self, number: usize) -> Result<Daemon> {
        self.start_as(number, TOKENS[0], &[])
    }

    pub(crate) fn start_as(&self, number: usize, token: &str, more: &[&str]) -> Result<Daemon> {
        fs::write(self.token_file(number), token).unwrap();
        let mut command = Command::new(bins::route_syncer()?);
        command.args(self.arguments(number)).args(more);
        command.arg("--kubeconfig").arg(self.kubeconfig(number));
        self.spawn(number, command)
    }

    /// What a daemon is told but for how it reaches the API server.
    pub(crate) fn arguments(&self, number: usize) -> Vec<String> {
        let folder = self.node(number).folder().to_string_lossy().into_owned();
        let (name, state) = (self.node(number).name.clone(), format!("{folder}/state"));
        let words = ["run", "--source", "kubernetes", "--node", &name, "--run-dir", &folder];
        let more = ["--state-dir", &state, "--cluster-cidr", "10.0.0.0/14"];
        words.iter().chain(&more).map(|&word| word.to_owned()).collect()
    }

    pub(crate) fn spawn(&self, number: usize, command: Command) -> Result<Daemon> {
        Daemon::spawn(self.node(number), command)
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

    /// Waits until the table of node 1 is this and the source well: `NODE STATE` for each row of
    /// IPv4, in any order.
    pub(crate) fn wait_for_rows(&self, rows: &[&str]) -> Result<Value> {
        let expected = sorted(rows.iter().map(|&row| row.to_owned()));
        self.wait(1, &format!("{rows:?}"), |status| {
            status["sourceError"].is_null() && states(status) == expected
        })
    }

    /// Waits until the daemon of node 1 says this of why it hears nothing.
    pub(crate) fn wait_for_trouble(&self, words: &str) -> Result<Value> {
        self.wait(1, words, |status| text(&status["sourceError"]).contains(words))
    }

    /// Our routes on node 1, as `destination via gateway`, sorted.
    pub(crate) fn routes(&self) -> Result<Vec<String>> {
        daemon::routes(self.node(1))
    }

    /// Waits until our routes on node 1 are these, in any order.
    pub(crate) fn wait_for_routes(&self, routes: &[&str]) -> Result<()> {
        let expected = sorted(routes.iter().map(|&route| route.to_owned()));
        let mut changes = self.listen()?;
        let until = Instant::now() + PATIENCE;
        while self.routes()? != expected {
            if !wait::readable(&changes.0, until)? {
                let (found, log) = (self.routes()?, self.log(1));
                return Err(LabError::Wrong(format!("{found:?} is not {expected:?}; log:\n{log}")));
            }
            changes.counts()?;
        }
        Ok(())
    }

    /// Hears from now on of what happens to routes on node 1.
    pub(crate) fn listen(&self) -> Result<RouteEvents> {
        let open = || {
            let mut socket = Socket::open(Protocol::Route)?;
            socket.subscribe(RTNLGRP_IPV4_ROUTE)?;
            socket.subscribe(RTNLGRP_IPV6_ROUTE)?;
            Ok::<_, kernel::Error>(socket)
        };
        Ok(RouteEvents(self.node(1).netns().run(open)??))
    }

    /// Runs a program in the network of the API server.
    pub(crate) fn at_server(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments);
        let router = self.topology.router.netns();
        let done = router.run(|| process::run(command, b"", PATIENCE))??;
        if done.status.success() { Ok(()) } else { Err(LabError::Wrong(done.stderr)) }
    }
}

/// What was heard of routes.
pub(crate) struct RouteEvents(Socket);

impl RouteEvents {
    /// How many there were, and how many of them of routes that were deleted.
    pub(crate) fn counts(&mut self) -> Result<(usize, usize)> {
        let events = self.0.events()?.unwrap();
        let deleted = events.iter().filter(|event| event.kind == RTM_DELROUTE).count();
        Ok((events.len(), deleted))
    }
}

/// `NODE STATE` for each row of IPv4.
pub(crate) fn states(status: &Value) -> Vec<String> {
    let rows = status["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let v4 = rows.iter().filter(|row| text(&row["podCIDR"]).contains('.'));
    sorted(v4.map(|row| format!("{} {}", text(&row["node"]), text(&row["state"]))))
}

/// Whether a status has a note with this text.
pub(crate) fn notes(status: &Value, part: &str) -> bool {
    let notes = status["notes"].as_array().map(Vec::as_slice).unwrap_or_default();
    notes.iter().any(|note| text(note).contains(part))
}
