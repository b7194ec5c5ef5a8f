//! 3: ways into the cluster: NodePort, hostPort, a LoadBalancer's address, an Ingress.

use std::net::IpAddr;

use cbr0_tests::topology::{UPLINK, outside_addresses};
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::route::{self, Route};

use crate::ask::{Answer, expect, service};
use crate::lab::Lab;
use crate::node::NAMES;
use crate::waiting;

const NODE_PORT: u16 = 30080;
const LOCAL_PORT: u16 = 30081;
/// Where the hostPort of a Pod on the first node is.
const HOST_PORT: u16 = 8081;
/// An address that no link has: a cloud would lead it to nodes.
const BALANCER: &str = "203.0.113.7";

pub(crate) fn run(lab: &mut Lab) -> Result<()> {
    lab.step("a server on one node, and Services of all types, start", start)?;
    lab.step("NodePort from outside by every node, policy Cluster", node_port)?;
    lab.step("NodePort, policy Local: by the Pod's node alone, and as who calls", local)?;
    lab.step("hostPort from outside, from a Pod, from each node; as who calls", host_port)?;
    lab.step("a LoadBalancer's address that is routed to a node", balancer)?;
    lab.step("an Ingress, forwarding from hostPort 80 to a Service", ingress)
}

fn start(lab: &mut Lab) -> Result<()> {
    let ports = "ports: [{port: 80}]";
    let on_port = |port| format!("ports: [{{port: 80, nodePort: {port}}}]");
    let all = service("all", "web", "type: NodePort").replace(ports, &on_port(NODE_PORT));
    let more = "type: NodePort\n  externalTrafficPolicy: Local";
    let local = service("local", "web", more).replace(ports, &on_port(LOCAL_PORT));
    let balanced = service("balanced", "web", "type: LoadBalancer");
    let web = Lab::pod("web", "web", NAMES[0]);
    let mapped = with_host_port(&Lab::pod("mapped", "mapped", NAMES[0]), HOST_PORT);
    let client = Lab::pod("client", "client", NAMES[1]);
    lab.apply(&format!("{all}{local}{balanced}{web}{mapped}{client}"))?;
    ["app=web", "app=mapped", "app=client"].iter().try_for_each(|pods| lab.wait_for_pods(pods))
}

fn with_host_port(pod: &str, port: u16) -> String {
    let ports = format!("    ports: [{{containerPort: 80, hostPort: {port}}}]\n    volumeMounts");
    pod.replace("    volumeMounts", &ports)
}

/// Until kube-proxy has heard of it.
fn until_answered(lab: &Lab, to: &str) -> Result<Vec<Answer>> {
    waiting::until(&format!("an answer of {to}"), || lab.call_from_outside(to, 1))
}

fn node_port(lab: &mut Lab) -> Result<()> {
    for node in &lab.nodes {
        let answers = until_answered(lab, &format!("{}:{NODE_PORT}", node.address))?;
        if answers[0].name != "web" {
            return Err(LabError::Wrong(format!("{} answers {answers:?}", node.name)));
        }
    }
    Ok(())
}

fn local(lab: &mut Lab) -> Result<()> {
    let outside = outside_addresses()[0].to_string();
    let answers = until_answered(lab, &format!("{}:{LOCAL_PORT}", lab.nodes[0].address))?;
    expect("the Pod's node", &answers, &[Answer::of("web", &outside)])?;
    for node in &lab.nodes[1..] {
        let to = format!("{}:{LOCAL_PORT}", node.address);
        if let Ok(answers) = lab.call_from_outside(&to, 1) {
            return Err(LabError::Wrong(format!("{} answers {answers:?}", node.name)));
        }
    }
    Ok(())
}

fn host_port(lab: &mut Lab) -> Result<()> {
    let to = format!("{}:{HOST_PORT}", lab.nodes[0].address);
    let outside = outside_addresses()[0].to_string();
    let mapped = |seen: &str| [Answer::of("mapped", seen)];
    expect("from outside", &lab.call_from_outside(&to, 1)?, &mapped(&outside))?;
    expect("from a Pod", &lab.call("client", &to, 1)?, &mapped(&lab.address("client")?))?;
    for node in &lab.nodes[1..] {
        let seen = node.address.to_string();
        expect(&node.name, &lab.call_from_node(node, &to, 1)?, &mapped(&seen))?;
    }
    // The node itself, and the Pod itself: somebody answers.
    lab.call_from_node(&lab.nodes[0], &to, 1)?;
    lab.call("mapped", &to, 1)?;
    Ok(())
}

fn balancer(lab: &mut Lab) -> Result<()> {
    let status =
        format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{BALANCER}"}}]}}}}}}"#);
    lab.kubectl(&["patch", "service/balanced", "--subresource=status", "--patch", &status])?;
    lead_to(lab, BALANCER, lab.nodes[2].address)?;
    let answers = until_answered(lab, &format!("{BALANCER}:80"))?;
    if answers[0].name == "web" { Ok(()) } else { Err(LabError::Wrong(format!("{answers:?}"))) }
}

/// As a cloud's router does.
fn lead_to(lab: &Lab, address: &str, node: IpAddr) -> Result<()> {
    let wrong = || LabError::Wrong(format!("{address} cannot be led to {node}"));
    let address: IpNetwork = address.parse().map_err(|_| wrong())?;
    let mut rtnl = lab.network.router.rtnl()?;
    let link = rtnl.link_by_name(UPLINK)?.ok_or_else(wrong)?;
    Ok(rtnl.request(&route::add(&Route::new(address).via(node).dev(link.index)))?)
}

/// What an Ingress controller does, a small program of ours does here: it is about the way to it, and
/// from it.
fn ingress(lab: &mut Lab) -> Result<()> {
    let pod = with_host_port(&Lab::pod("ingress", "ingress", NAMES[2]), 80);
    let forward = format!("forward 80 {}:80", lab.cluster_address("all")?);
    lab.apply(&pod.replace("serve 80", &forward))?;
    lab.wait_for_pods("app=ingress")?;
    let answers = lab.call_from_outside(&format!("{}:80", lab.nodes[2].address), 10)?;
    let by_pod = lab.address("ingress")?;
    expect("by the Ingress", &answers, &vec![Answer::of("web", &by_pod); 10])
}
