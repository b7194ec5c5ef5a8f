//! 4 and 5: headless Services and those of hand-written Endpoints; the names of Services.

use std::collections::BTreeSet;

use cbr0_tests::topology::outside_addresses;
use cbr0_tests::{LabError, Result};
use serde_json::Value;

use crate::ask::service;
use crate::lab::{Lab, OUTSIDE_PORT};
use crate::node::NAMES;
use crate::waiting;

const RESOLVE: [&str; 2] = ["/programs/lab-pod", "resolve"];

/// 4
pub(crate) fn endpoints(lab: &mut Lab) -> Result<()> {
    lab.step("CoreDNS starts", install)?;
    lab.step("three servers, a headless Service, and one with Endpoints by hand", start)?;
    lab.step("the headless Service's name gives the Pods' addresses, which answer", headless)?;
    lab.step("a Service with Endpoints by hand leads out of the cluster", by_hand)
}

/// CoreDNS, as it runs in clusters.
pub(crate) fn install(lab: &mut Lab) -> Result<()> {
    lab.apply(include_str!("../manifests/coredns.yaml"))?;
    let rolled = ["rollout", "status", "deployment/coredns", "--namespace=kube-system"];
    lab.kubectl_anywhere(&[&rolled[..], &["--timeout=120s"]].concat()).map(drop)
}

fn start(lab: &mut Lab) -> Result<()> {
    let web = format!("{}{}", Lab::deployment("web", 3), service("web", "web", "clusterIP: None"));
    let database = include_str!("../manifests/database.yaml")
        .replace("${ADDRESS}", &outside_addresses()[0].to_string())
        .replace("${PORT}", &OUTSIDE_PORT.to_string());
    lab.apply(&format!("{web}{database}{}", clients()))?;
    ["app=web", "app=client"].iter().try_for_each(|pods| lab.wait_for_pods(pods))
}

fn clients() -> String {
    NAMES.iter().map(|node| Lab::pod(&format!("client-{node}"), "client", node)).collect()
}

fn headless(lab: &mut Lab) -> Result<()> {
    let pods = lab.get(&["pods", "--selector=app=web"])?;
    let pods = pods["items"].as_array().into_iter().flatten();
    let wanted: BTreeSet<String> = pods.map(|pod| text(&pod["status"]["podIP"])).collect();
    for client in NAMES.map(|node| format!("client-{node}")) {
        resolve_to(lab, &client, "web", &wanted)?;
        for address in &wanted {
            lab.call(&client, &format!("{address}:80"), 1)?;
        }
        lab.call(&client, "web:80", 3)?;
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Until the name gives these addresses, since CoreDNS has to hear of them.
fn resolve_to(lab: &Lab, pod: &str, name: &str, wanted: &BTreeSet<String>) -> Result<()> {
    waiting::until(&format!("{name} is known to {pod}"), || {
        let found = lab.exec(pod, &[&RESOLVE[..], &[name]].concat())?;
        let found: BTreeSet<String> = found.lines().map(str::to_owned).collect();
        let words = || format!("it gives {found:?}, and not {wanted:?}");
        if found == *wanted { Ok(()) } else { Err(LabError::Wrong(words())) }
    })
}

fn by_hand(lab: &mut Lab) -> Result<()> {
    for node in NAMES {
        let answers = waiting::until("the database answers", || {
            lab.call(&format!("client-{node}"), "database:5432", 1)
        })?;
        let own = lab.node(node)?.address.to_string();
        if (answers[0].name.as_str(), &answers[0].seen) != ("outside", &own) {
            return Err(LabError::Wrong(format!("from {node}: {answers:?}")));
        }
    }
    Ok(())
}

/// 5
pub(crate) fn names(lab: &mut Lab) -> Result<()> {
    lab.step("CoreDNS, a Service, and a client on every node", |lab| {
        install(lab)?;
        lab.apply(&format!("{}{}", service("web", "client", ""), clients()))?;
        lab.wait_for_pods("app=client")
    })?;
    lab.step("by name, by namespace, by FQDN, with a dot at the end, from every node", by_names)?;
    lab.step("Services of other namespaces, by all of their names", of_others)?;
    lab.step("a name that is none is answered so", unknown)
}

fn by_names(lab: &mut Lab) -> Result<()> {
    let wanted = BTreeSet::from([lab.cluster_address("web")?]);
    let namespace = lab.namespace();
    let full = format!("web.{namespace}.svc.cluster.local");
    let names = ["web", &format!("web.{namespace}"), &format!("web.{namespace}.svc"), &full];
    for client in NAMES.map(|node| format!("client-{node}")) {
        for name in names.into_iter().chain([format!("{full}.").as_str()]) {
            resolve_to(lab, &client, name, &wanted)?;
        }
        lab.call(&client, &format!("{full}:80"), 1)?;
    }
    Ok(())
}

fn of_others(lab: &mut Lab) -> Result<()> {
    let client = format!("client-{}", NAMES[0]);
    for (name, address) in [
        ("kubernetes.default", "10.96.0.1"),
        ("kubernetes.default.svc.cluster.local", "10.96.0.1"),
        ("kube-dns.kube-system", "10.96.0.10"),
    ] {
        resolve_to(lab, &client, name, &BTreeSet::from([address.to_owned()]))?;
    }
    Ok(())
}

fn unknown(lab: &mut Lab) -> Result<()> {
    let client = format!("client-{}", NAMES[0]);
    match lab.exec(&client, &[&RESOLVE[..], &["nobody.at.all"]].concat()) {
        Ok(found) => Err(LabError::Wrong(format!("it gives {found}"))),
        Err(error) if error.to_string().contains("Name does not resolve") => Ok(()),
        Err(error) => Err(error),
    }
}
