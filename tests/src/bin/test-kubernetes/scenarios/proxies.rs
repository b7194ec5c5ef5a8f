//! 7: kube-proxy in both of its modes, and a bridge that hides its packets from it.

use cbr0_tests::{LabError, Result};

use crate::ask::service;
use crate::lab::Lab;
use crate::node::NAMES;
use crate::scenarios::services::{reaches_itself, wait_for_servers};
use crate::waiting;

const NODE_PORT: u16 = 30082;
/// Whether what crosses a bridge passes the rules of the packet filter.
const HOOK: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

pub(crate) fn run(lab: &mut Lab) -> Result<()> {
    lab.step("two servers, a Service with a NodePort, a client on every node", start)?;
    for (mode, table) in [("nftables", "kube-proxy"), ("iptables", "nat")] {
        lab.step(&format!("kube-proxy runs in the mode {mode} on every node"), |lab| {
            switch(lab, mode, table)
        })?;
        lab.step(&format!("{mode}: ClusterIP and NodePort lead to both servers"), to_both)?;
        lab.step(&format!("{mode}: a Pod reaches itself through its Service"), to_itself)?;
        lab.step(&format!("{mode}: and a Pod of its node, as the Pod that it is"), same_node)?;
    }
    let what = "bridge-nf-call-iptables off: Services fail on one node, check says why";
    if !lab.nodes[0].machine.path(HOOK).exists() {
        lab.skip(what, "this kernel has no br_netfilter");
        return Ok(());
    }
    lab.step(what, hidden)
}

fn start(lab: &mut Lab) -> Result<()> {
    let client = |node: &&str| Lab::pod(&format!("client-{node}"), "client", node);
    let clients: String = NAMES.iter().map(client).collect();
    let port = format!("ports: [{{port: 80, nodePort: {NODE_PORT}}}]");
    let all = service("web", "web", "type: NodePort").replace("ports: [{port: 80}]", &port);
    let alone = NAMES.map(|node| {
        let own = Lab::pod(&format!("near-{node}"), &format!("near-{node}"), node);
        format!("{own}{}", service(&format!("near-{node}"), &format!("near-{node}"), ""))
    });
    lab.apply(&format!("{clients}{all}{}{}", Lab::deployment("web", 2), alone.concat()))?;
    lab.wait_for_pods("app=client")?;
    lab.wait_for_pods("app=web")?;
    NAMES.iter().try_for_each(|node| lab.wait_for_pods(&format!("app=near-{node}")))
}

/// Until the table of this name is there, and that of the other mode is not used any more.
fn switch(lab: &mut Lab, mode: &str, table: &str) -> Result<()> {
    for node in &mut lab.nodes {
        node.start_proxy(&lab.programs, mode)?;
    }
    for node in &lab.nodes {
        waiting::until(&format!("kube-proxy's rules on {}", node.name), || {
            let rules = node.machine.run(&["nft", "list", "table", "ip", table])?;
            let has = rules.contains(&lab.cluster_address("web")?);
            if has { Ok(()) } else { Err(LabError::Wrong("the Service is not in them".to_owned())) }
        })?;
        let old =
            node.machine.run(&["sh", "-c", "nft list table ip nat | grep -c KUBE-SVC || true"]);
        let is_old = old?.trim() != "0";
        if is_old != (mode == "iptables") {
            return Err(LabError::Wrong(format!("{}: rules of the other mode stay", node.name)));
        }
    }
    Ok(())
}

fn to_both(lab: &mut Lab) -> Result<()> {
    wait_for_servers(lab, &format!("{}:80", lab.cluster_address("web")?), 2)?;
    for node in &lab.nodes {
        lab.call_from_outside(&format!("{}:{NODE_PORT}", node.address), 5)?;
    }
    Ok(())
}

fn to_itself(lab: &mut Lab) -> Result<()> {
    NAMES.iter().try_for_each(|node| {
        let pod = format!("near-{node}");
        reaches_itself(lab, &pod, &pod)
    })
}

fn same_node(lab: &mut Lab) -> Result<()> {
    for node in NAMES {
        let (client, server) = (format!("client-{node}"), format!("near-{node}"));
        let answers = lab.call(&client, &format!("{}:80", lab.cluster_address(&server)?), 3)?;
        let own = lab.address(&client)?;
        if !answers.iter().all(|answer| answer.name == server && answer.seen == own) {
            return Err(LabError::Wrong(format!("{client} ({own}): {answers:?}")));
        }
    }
    Ok(())
}

fn hidden(lab: &mut Lab) -> Result<()> {
    let set = |value| {
        lab.node(NAMES[0])?.machine.run(&["sh", "-c", &format!("echo {value} >{HOOK}")]).map(drop)
    };
    let [client, server] = ["client", "near"].map(|what| format!("{what}-{}", NAMES[0]));
    let to = format!("{}:80", lab.cluster_address(&server)?);
    set(0)?;
    let (called, checked) = (lab.call(&client, &to, 1), check(lab));
    set(1)?;
    if let Ok(answers) = called {
        return Err(LabError::Wrong(format!("it answers all the same: {answers:?}")));
    }
    match checked {
        Ok(said) => return Err(LabError::Wrong(format!("check finds nothing: {said}"))),
        Err(error) if error.to_string().contains("net.bridge.bridge-nf-call-iptables=1") => {}
        Err(error) => return Err(error),
    }
    lab.call(&client, &to, 1)?;
    check(lab).map(drop)
}

/// What cbr0 finds wrong on the first node.
fn check(lab: &Lab) -> Result<String> {
    let pod = lab.cbr0_on(NAMES[0])?;
    lab.kubectl_anywhere(&["exec", "--namespace=kube-system", &pod, "--", "route-syncer", "check"])
}
