//! 2: a Service leads to its Pods, about evenly, and follows how many there are.

use std::collections::BTreeMap;

use cbr0_tests::{LabError, Result};

use crate::ask::{Answer, service};
use crate::lab::Lab;
use crate::node::NAMES;
use crate::waiting;

/// So many calls that a share below a quarter, of two, is no accident.
const CALLS: u32 = 100;

pub(crate) fn run(lab: &mut Lab) -> Result<()> {
    lab.step("two servers, a Service, and a client on every node start", start)?;
    lab.step("the Service's calls reach both about evenly", evenly)?;
    lab.step("scaling to four is followed", |lab| scale(lab, 4))?;
    lab.step("scaling down to one is followed", |lab| scale(lab, 1))?;
    lab.step("a Pod reaches itself through its Service, on every node", hairpin)
}

fn start(lab: &mut Lab) -> Result<()> {
    let client = |node: &&str| Lab::pod(&format!("client-{node}"), "client", node);
    let clients: String = NAMES.iter().map(client).collect();
    let web = format!("{}{}", Lab::deployment("web", 2), service("web", "web", ""));
    lab.apply(&format!("{clients}{web}"))?;
    ["app=client", "app=web"].iter().try_for_each(|pods| lab.wait_for_pods(pods))
}

fn evenly(lab: &mut Lab) -> Result<()> {
    let to = format!("{}:80", lab.cluster_address("web")?);
    wait_for_servers(lab, &to, 2)?;
    for node in NAMES {
        let answers = lab.call(&format!("client-{node}"), &to, CALLS)?;
        let shares = shares(&answers);
        let even = shares.len() == 2 && shares.values().all(|share| *share >= CALLS / 4);
        if !even {
            return Err(LabError::Wrong(format!("of {CALLS} calls from {node}: {shares:?}")));
        }
    }
    Ok(())
}

fn shares(answers: &[Answer]) -> BTreeMap<&str, u32> {
    let mut shares = BTreeMap::new();
    for answer in answers {
        *shares.entry(answer.name.as_str()).or_default() += 1;
    }
    shares
}

/// Until the Service leads to so many, from every node.
pub(crate) fn wait_for_servers(lab: &Lab, to: &str, count: usize) -> Result<()> {
    for node in NAMES {
        waiting::until(&format!("{to} leads {node} to {count}"), || {
            let answers = lab.call(&format!("client-{node}"), to, 20 + 10 * count as u32)?;
            let shares = shares(&answers);
            let right = shares.len() == count;
            if right { Ok(()) } else { Err(LabError::Wrong(format!("it does to {shares:?}"))) }
        })?;
    }
    Ok(())
}

fn scale(lab: &mut Lab, count: usize) -> Result<()> {
    lab.kubectl(&["scale", "deployment/web", &format!("--replicas={count}")])?;
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    wait_for_servers(lab, &format!("{}:80", lab.cluster_address("web")?), count)
}

/// Each client serves, too, and is all that a Service of its own leads to.
fn hairpin(lab: &mut Lab) -> Result<()> {
    for node in NAMES {
        let pod = format!("client-{node}");
        lab.kubectl(&["label", "pod", &pod, &format!("alone={node}")])?;
        let own = service(&pod, "client", "").replace("app: \"client\"", &format!("alone: {node}"));
        lab.apply(&own)?;
        reaches_itself(lab, &pod, &pod)?;
    }
    Ok(())
}

/// Until all calls of a Pod to a Service come back to it.
pub(crate) fn reaches_itself(lab: &Lab, pod: &str, service: &str) -> Result<()> {
    let to = format!("{}:80", lab.cluster_address(service)?);
    waiting::until(&format!("{pod} reaches itself"), || {
        let answers = lab.call(pod, &to, 10)?;
        let right = answers.iter().all(|answer| answer.name == pod);
        if right { Ok(()) } else { Err(LabError::Wrong(format!("{answers:?}"))) }
    })
}
