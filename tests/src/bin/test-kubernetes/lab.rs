//! The whole cluster, and the few ways in which scenarios ask it something.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context as _;
use cbr0_tests::machine::Machine;
use cbr0_tests::topology::{self, Topology};
use cbr0_tests::{LabError, Result, http};

use crate::control::Control;
use crate::node::{NAMES, Node};
use crate::programs::Programs;
use crate::table::{End, Table};
use crate::waiting;

/// Where the host outside of the cluster answers.
pub(crate) const OUTSIDE_PORT: u16 = 80;
/// The number of the control plane's address on the switch.
const CONTROL: usize = 0;

/// The cluster, running.
pub(crate) struct Lab {
    pub(crate) programs: Programs,
    pub(crate) control: Control,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Topology,
    pub(crate) table: Table,
    /// The Pod range that a node had which left.
    pub(crate) left: Option<String>,
    /// That of the scenario that runs.
    scenario: u8,
}

impl Lab {
    /// Starts a control plane and three nodes, without a network for Pods.
    pub(crate) fn start(programs: Programs) -> Result<Self> {
        let overlay = programs.path("containerd");
        let mut machines = Vec::new();
        let network = Topology::build(u8::try_from(NAMES.len()).unwrap_or(u8::MAX), |name| {
            if !NAMES.contains(&name) {
                return cbr0_tests::node::Node::create(name);
            }
            let machine = Machine::start(&overlay)?;
            let node = machine.node(name)?;
            machines.push(machine);
            Ok(node)
        })?;
        let control = start_control(&programs, &network)?;
        let mut nodes = Vec::new();
        for (number, (name, machine)) in (1..).zip(NAMES.into_iter().zip(machines)) {
            let mut node = Node::new(name, machine, topology::node_addresses(number)[0]);
            node.start(&programs, &control)?;
            nodes.push(node);
        }
        serve_outside(&network)?;
        Ok(Lab {
            programs,
            control,
            nodes,
            network,
            table: Table::default(),
            left: None,
            scenario: 0,
        })
    }

    /// Begins a scenario: what is asked for is in a namespace of its own.
    pub(crate) fn begin(&mut self, scenario: u8) -> Result<()> {
        self.scenario = scenario;
        let namespace = self.namespace();
        self.kubectl_anywhere(&["create", "namespace", &namespace])?;
        waiting::until("the ServiceAccount of a new namespace", || {
            self.kubectl(&["get", "serviceaccount", "default"])
        })?;
        Ok(())
    }

    /// Removes what is left of the scenario that runs.
    pub(crate) fn end(&mut self) -> Result<()> {
        let namespace = self.namespace();
        self.kubectl_anywhere(&["delete", "namespace", &namespace, "--timeout=150s"])?;
        Ok(())
    }

    /// The namespace of the scenario that runs.
    pub(crate) fn namespace(&self) -> String {
        format!("scenario-{}", self.scenario)
    }

    /// Tries one thing, and notes how it ends. An error ends the scenario.
    pub(crate) fn step<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let done = if waiting::interrupted() {
            Err(LabError::Wrong("interrupted".to_owned()))
        } else {
            work(self)
        };
        let took = started.elapsed();
        let (end, word) = match &done {
            Ok(_) => (End::Passed, "ok".to_owned()),
            Err(error) => (End::Failed, format!("FAILED: {error}")),
        };
        crate::say(&format!("{}  {what} … {word} ({:.1} s)", self.scenario, took.as_secs_f64()));
        self.table.add(self.scenario, what, end, took);
        done
    }

    /// Notes that something is not tried.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        crate::say(&format!("{}  {what} … skipped: {why}", self.scenario));
        self.table.add(self.scenario, what, End::Skipped(why.to_owned()), Duration::ZERO);
    }

    /// Starts a node's kubelet, which was stopped.
    pub(crate) fn start_kubelet(&mut self, name: &str) -> Result<()> {
        let programs = &self.programs;
        self.nodes
            .iter_mut()
            .filter(|node| node.name == name)
            .try_for_each(|node| node.start_kubelet(programs))
    }

    /// Takes a node's power away, and gives it back: what it had on disk is there, and nothing else.
    pub(crate) fn reboot(&mut self, name: &str) -> Result<()> {
        let number =
            (1..).zip(NAMES).find(|(_, known)| *known == name).map_or(0, |(number, _)| number);
        let (overlay, control, programs) =
            (self.programs.path("containerd"), &self.control, &self.programs);
        let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) else {
            return Ok(());
        };
        let disk = node.halt()?;
        topology::detach(&self.network.switch, name)?;
        let machine = Machine::start(&overlay)?;
        topology::attach_node(&self.network.switch, &machine.node(name)?, number)?;
        node.boot(machine, &disk, programs, control)
    }

    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.ok_or_else(|| LabError::Wrong(format!("there is no node {name:?}")))
    }

    /// As [`Lab::node`], to change it.
    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        node.ok_or_else(|| LabError::Wrong(format!("there is no node {name:?}")))
    }
}

/// A host that is none of the cluster's, and answers to Pods; for as long as this process.
fn serve_outside(network: &Topology) -> Result<()> {
    let listener = network.outside.netns().run(|| http::listen(OUTSIDE_PORT))?;
    let listener = listener.context(|| "listen outside of the cluster".to_owned())?;
    thread::spawn(move || http::serve(&listener, "outside"));
    Ok(())
}

fn start_control(programs: &Programs, network: &Topology) -> Result<Control> {
    let machine = Machine::start(&programs.path("containerd"))?;
    let host = machine.node("control")?;
    let addresses = topology::etcd_addresses();
    topology::attach(&network.switch, &host, addresses)?;
    topology::add_way_out(&host)?;
    let address: IpAddr = addresses[CONTROL];
    Control::start(programs, machine, address)
}
