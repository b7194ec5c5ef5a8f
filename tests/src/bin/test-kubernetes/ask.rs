//! How scenarios ask the cluster something: by the API server, in Pods, from nodes and from outside.

use std::io;

use cbr0_tests::error::Context as _;
use cbr0_tests::{LabError, Result, http, process};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::lab::Lab;
use crate::node::{NAMES, Node};
use crate::programs::word;
use crate::waiting;

/// What a server in a Pod says to a caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answer {
    /// Who answers.
    pub(crate) name: String,
    /// The address that the caller was seen with.
    pub(crate) seen: String,
}

impl Answer {
    /// What this server says to a caller that it sees with this address.
    pub(crate) fn of(name: &str, seen: &str) -> Self {
        Answer { name: name.to_owned(), seen: seen.to_owned() }
    }
}

impl Lab {
    /// The addresses that a node's Pods get.
    pub(crate) fn pod_range(&self, node: &str) -> Result<IpNetwork> {
        let words = ["get", "node", node, "--output=jsonpath={.spec.podCIDR}"];
        let range = self.kubectl_anywhere(&words)?;
        range.parse().map_err(|_| LabError::Wrong(format!("{node} has the range {range:?}")))
    }

    /// Asks the API server about the scenario's own namespace.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={}", self.namespace());
        self.kubectl_anywhere(&[words, &[namespace.as_str()]].concat())
    }

    /// As [`Lab::kubectl`], about no namespace or one that the words name.
    pub(crate) fn kubectl_anywhere(&self, words: &[&str]) -> Result<String> {
        checked(words, self.control.kubectl(&self.programs, words, "")?)
    }

    /// As [`Lab::kubectl`], for an answer in JSON.
    pub(crate) fn get(&self, words: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--output=json"], words].concat())?;
        serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{words:?}: {error}")))
    }

    /// Has the API server make what a manifest says, in the scenario's own namespace unless it names
    /// another one.
    pub(crate) fn apply(&self, manifest: &str) -> Result<()> {
        let manifest = manifest.replace("${PROGRAMS}", &word(&self.programs.for_pods));
        let namespace = format!("--namespace={}", self.namespace());
        let mut words = vec!["apply", "--filename=-"];
        if !manifest.contains("namespace: ") {
            words.push(&namespace);
        }
        checked(&words, self.control.kubectl(&self.programs, &words, &manifest)?).map(drop)
    }

    /// What the manifest says of Pods that serve on port 80, so many of them.
    pub(crate) fn deployment(name: &str, replicas: u8) -> String {
        let deployment = include_str!("manifests/deployment.yaml").replace("${NAME}", name);
        deployment.replace("${REPLICAS}", &replicas.to_string())
    }

    /// What the manifest says of a Pod that serves on port 80, on this node.
    pub(crate) fn pod(name: &str, app: &str, node: &str) -> String {
        let pod = include_str!("manifests/pod.yaml").replace("${NAME}", name);
        pod.replace("${APP}", app).replace("${NODE}", node)
    }

    /// Waits until all Pods with these labels are ready.
    pub(crate) fn wait_for_pods(&self, labels: &str) -> Result<()> {
        waiting::until(&format!("Pods with {labels} are ready"), || {
            let words = ["wait", "pod", "--for=condition=Ready", "--timeout=60s"];
            self.kubectl(&[&words[..], &["--selector", labels]].concat())
        })
        .map(drop)
    }

    /// Waits until all nodes are Ready.
    pub(crate) fn wait_for_nodes(&self) -> Result<()> {
        let nodes = self.kubectl_anywhere(&["get", "nodes", "--output=name"])?;
        if nodes.lines().count() < NAMES.len() {
            return Err(LabError::Wrong(format!("there are only {nodes}")));
        }
        let wait = ["wait", "node", "--all", "--for=condition=Ready", "--timeout=60s"];
        self.kubectl_anywhere(&wait).map(drop)
    }

    /// Runs a program in a Pod.
    pub(crate) fn exec(&self, pod: &str, words: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={}", self.namespace());
        self.kubectl_anywhere(&[&["exec", &namespace, pod, "--"], words].concat())
    }

    /// Calls a server from a Pod, as often as asked.
    pub(crate) fn call(&self, pod: &str, to: &str, count: u32) -> Result<Vec<Answer>> {
        answers(&self.exec(pod, &["/programs/lab-pod", "get", to, &count.to_string()])?)
    }

    /// Calls a server from a node.
    pub(crate) fn call_from_node(&self, node: &Node, to: &str, count: u32) -> Result<Vec<Answer>> {
        let program = word(&self.programs.for_pods.join("lab-pod"));
        answers(&node.machine.run(&[&program, "get", to, &count.to_string()])?)
    }

    /// Calls a server from outside of the cluster.
    pub(crate) fn call_from_outside(&self, to: &str, count: u32) -> Result<Vec<Answer>> {
        let call = || (0..count).map(|_| http::get(to)).collect::<io::Result<Vec<_>>>();
        let lines = self.network.outside.netns().run(call)?;
        answers(&lines.context(|| format!("call {to} from outside"))?.join("\n"))
    }

    /// The Pod of cbr0 on a node.
    pub(crate) fn cbr0_on(&self, node: &str) -> Result<String> {
        let on = format!("--field-selector=spec.nodeName={node}");
        let own = ["--namespace=kube-system", "--selector=app.kubernetes.io/name=cbr0", &on];
        let name = "--output=jsonpath={.items[0].metadata.name}";
        self.kubectl_anywhere(&[&["get", "pod", name], &own[..]].concat())
    }

    /// The address of a Service.
    pub(crate) fn cluster_address(&self, service: &str) -> Result<String> {
        self.kubectl(&["get", "service", service, "--output=jsonpath={.spec.clusterIP}"])
    }

    /// The address that the API server knows of a Pod.
    pub(crate) fn address(&self, pod: &str) -> Result<String> {
        self.kubectl(&["get", "pod", pod, "--output=jsonpath={.status.podIP}"])
    }
}

/// What a program printed, if it succeeded.
fn checked(words: &[&str], done: process::Finished) -> Result<String> {
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = [done.stdout.trim(), done.stderr.trim()].join("\n");
    Err(LabError::Wrong(format!("{}: {}: {said}", words.join(" "), done.status)))
}

fn answers(text: &str) -> Result<Vec<Answer>> {
    let answer = |line: &str| match line.split_once(' ') {
        Some((name, seen)) => Ok(Answer::of(name, seen)),
        None => Err(LabError::Wrong(format!("{line:?} is no answer"))),
    };
    text.lines().map(answer).collect()
}

/// What the manifest says of a Service on port 80 that leads to the Pods of this name; `more` are lines
/// of its `spec`.
pub(crate) fn service(name: &str, app: &str, more: &str) -> String {
    let service = include_str!("manifests/service.yaml").replace("${NAME}", name);
    service.replace("${APP}", app).replace("${MORE}", more)
}

/// That these are the answers, in this order.
pub(crate) fn expect(who: &str, answers: &[Answer], wanted: &[Answer]) -> Result<()> {
    if answers == wanted {
        return Ok(());
    }
    Err(LabError::Wrong(format!("{who}: {answers:?}, and not {wanted:?}")))
}
