//! 1: nodes are Ready with cbr0 and not before, and Pods and nodes reach each other unchanged.

use cbr0_tests::topology::outside_addresses;
use cbr0_tests::{LabError, Result};
use serde_json::Value;

use crate::ask::{Answer, expect};
use crate::lab::Lab;
use crate::node::NAMES;
use crate::waiting;

/// The servers, and where they are: two on one node, and one on each other.
const PODS: [(&str, &str); 4] = [("a", "node1"), ("b", "node1"), ("c", "node2"), ("d", "node3")];

pub(crate) fn run(lab: &mut Lab) -> Result<()> {
    lab.step("nodes are NotReady without a network, and the runtime says why", not_ready)?;
    lab.step("nodes are Ready with deploy/cbr0.yaml", install)?;
    lab.step("Pods start on every node", start_pods)?;
    lab.step("every Pod's address is in its node's podCIDR", addresses)?;
    lab.step("Pod to Pod, on one node and across nodes: the source is the Pod's own", pod_to_pod)?;
    lab.step("every node to every Pod: the source is the node's own", node_to_pod)?;
    lab.step("every Pod to every node: the source is the Pod's own", pod_to_node)?;
    lab.step("what leaves the cluster comes from the node", pod_to_outside)?;
    lab.step("a container that is restarted keeps the Pod's address", restart)?;
    lab.step("a Pod that is made anew answers", reschedule)
}

fn not_ready(lab: &mut Lab) -> Result<()> {
    waiting::until("every node says that it has no network", || {
        let conditions = ready_conditions(lab)?;
        let waits = |(_, ready): &(String, Value)| {
            ready["status"] == "False"
                && ready["message"].as_str().unwrap_or_default().contains("cni plugin not")
        };
        let all = conditions.len() == NAMES.len() && conditions.iter().all(waits);
        if all { Ok(()) } else { Err(LabError::Wrong(format!("they say {conditions:?}"))) }
    })
}

fn ready_conditions(lab: &Lab) -> Result<Vec<(String, Value)>> {
    let nodes = lab.get(&["nodes"])?;
    let of_node = |node: &Value| {
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.find(|one| one["type"] == "Ready").cloned();
        (text(&node["metadata"]["name"]), ready.unwrap_or_default())
    };
    Ok(items(&nodes).map(of_node).collect())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// By the README's own lines.
fn install(lab: &mut Lab) -> Result<()> {
    const README: &str = include_str!("../../../../../README.md");
    let block = README.split_once("<!-- tested: kubernetes -->\n```sh\n");
    let block = block.and_then(|(_, rest)| rest.split_once("```"));
    let missing = || LabError::Wrong("README.md has no block marked \"tested: kubernetes\"".into());
    let (lines, _) = block.ok_or_else(missing)?;
    for line in lines.lines() {
        let line = line.replace("deploy/cbr0.yaml", &lab.programs.manifest());
        let words: Vec<&str> =
            line.split_whitespace().skip_while(|word| *word == "kubectl").collect();
        lab.kubectl_anywhere(&words)?;
    }
    Ok(())
}

fn start_pods(lab: &mut Lab) -> Result<()> {
    let pods: String = PODS.iter().map(|(name, node)| Lab::pod(name, "server", node)).collect();
    let moving = Lab::deployment("moving", 1);
    lab.apply(&format!("{pods}{moving}{}", include_str!("../manifests/hosts.yaml")))?;
    ["app=server", "app=hosts", "app=moving"].iter().try_for_each(|pods| lab.wait_for_pods(pods))
}

fn addresses(lab: &mut Lab) -> Result<()> {
    for (pod, node) in PODS {
        let (range, address) = (lab.pod_range(node)?, lab.address(pod)?);
        let inside = address.parse().is_ok_and(|address| range.contains(address));
        if !inside {
            return Err(LabError::Wrong(format!("{pod} has {address}, and {node} {range}")));
        }
    }
    Ok(())
}

fn pod_to_pod(lab: &mut Lab) -> Result<()> {
    for (from, _) in PODS {
        let own = lab.address(from)?;
        for (to, _) in PODS {
            let answers = lab.call(from, &format!("{}:80", lab.address(to)?), 1)?;
            expect(&format!("{from} to {to}"), &answers, &[Answer::of(to, &own)])?;
        }
    }
    Ok(())
}

fn node_to_pod(lab: &mut Lab) -> Result<()> {
    for (number, node) in (0..).zip(&lab.nodes) {
        for (to, on) in PODS {
            let answers = lab.call_from_node(node, &format!("{}:80", lab.address(to)?), 1)?;
            // By its bridge to its own Pods, by its uplink to those of others.
            let own = if node.name == on {
                bridge_address(lab, on)?
            } else {
                lab.nodes[number].address.to_string()
            };
            expect(&format!("{} to {to}", node.name), &answers, &[Answer::of(to, &own)])?;
        }
    }
    Ok(())
}

/// The first one of the node's range.
fn bridge_address(lab: &Lab, node: &str) -> Result<String> {
    let range = lab.pod_range(node)?;
    let first = range.iter().nth(1);
    first.map(|first| first.to_string()).ok_or_else(|| LabError::Wrong(format!("{range}: small")))
}

fn pod_to_node(lab: &mut Lab) -> Result<()> {
    for (from, _) in PODS {
        let own = lab.address(from)?;
        for node in &lab.nodes {
            let answers = lab.call(from, &format!("{}:8080", node.address), 1)?;
            let seen: Vec<&str> = answers.iter().map(|answer| answer.seen.as_str()).collect();
            if seen != [own.as_str()] {
                let words = format!("{from} ({own}) is seen by {} as {seen:?}", node.name);
                return Err(LabError::Wrong(words));
            }
        }
    }
    Ok(())
}

fn pod_to_outside(lab: &mut Lab) -> Result<()> {
    for (from, node) in PODS {
        let answers = lab.call(from, &format!("{}:80", outside_addresses()[0]), 1)?;
        let node = lab.node(node)?.address.to_string();
        expect(&format!("{from} to the outside"), &answers, &[Answer::of("outside", &node)])?;
    }
    Ok(())
}

fn restart(lab: &mut Lab) -> Result<()> {
    let before = lab.address("a")?;
    lab.exec("a", &["/bin/busybox", "killall", "lab-pod"])?;
    waiting::until("the container is restarted", || {
        let count = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
        let count = lab.kubectl(&["get", "pod", "a", count])?;
        if count == "1" { Ok(()) } else { Err(LabError::Wrong(format!("restarts: {count}"))) }
    })?;
    lab.wait_for_pods("app=server")?;
    let answers = lab.call("c", &format!("{before}:80"), 1)?;
    expect("c to a", &answers, &[Answer::of("a", &lab.address("c")?)])
}

fn reschedule(lab: &mut Lab) -> Result<()> {
    let name = "--output=jsonpath={.items[0].metadata.name}";
    let find = ["get", "pod", "--selector=app=moving", name];
    let before = lab.kubectl(&find)?;
    lab.kubectl(&["delete", "pod", &before])?;
    lab.kubectl(&["rollout", "status", "deployment/moving", "--timeout=60s"])?;
    let after = lab.kubectl(&find)?;
    let answers = lab.call("a", &format!("{}:80", lab.address(&after)?), 1)?;
    expect("a to the new Pod", &answers, &[Answer::of(&after, &lab.address("a")?)])
}
