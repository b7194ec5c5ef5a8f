//! 8: what goes wrong in a cluster, or is done to it: nothing stays broken, no healthy Pod suffers.

use std::time::{Duration, Instant};

use cbr0_tests::{LabError, Result};

use crate::ask::{Answer, expect};
use crate::lab::Lab;
use crate::node::NAMES;
use crate::scenarios::{comeback, full};
use crate::waiting;
use crate::watchers::{nothing_lost, undisturbed, watcher};

/// Three times the longest that anybody waits for the API server: a watch of a minute, and its grace.
const AWAY: Duration = Duration::from_secs(3 * 65);
/// The image under another name, as another version of it.
const NEXT: &str = "localhost/cbr0:next";
/// Those that are to be left alone by everything.
const ALL: &str = "app in (server,watcher)";

pub(crate) fn run(lab: &mut Lab) -> Result<()> {
    lab.step("servers, and Pods that call them all the time, start", start)?;
    lab.step("the DaemonSet is upgraded and rolled back: no call is lost", upgrade)?;
    lab.step("the DaemonSet is deleted and comes back: no call is lost", remove)?;
    lab.step("containerd restarts: no call is lost, Pods come and go as before", containerd)?;
    lab.step("a node's range runs full: it stays Ready, and says why Pods wait", full::fill)?;
    lab.step("and empties again: Pods start at once", full::empty)?;
    let words = format!("the API server is away for {AWAY:?}: no call is lost, no Pod evicted");
    lab.step(&words, api_server)?;
    lab.step("a node is drained and deleted: its routes go", comeback::leave)?;
    lab.step("it comes back with another podCIDR: its Pods are reached", comeback::come_back)?;
    lab.step("a node reboots: its Pods run again and are reached", comeback::reboot)?;
    lab.step("no node has an address reserved that no Pod has", no_leaks)
}

fn start(lab: &mut Lab) -> Result<()> {
    let servers = NAMES.map(|node| Lab::pod(&format!("server-{node}"), "server", node));
    lab.apply(&servers.concat())?;
    lab.wait_for_pods("app=server")?;
    let to = lab.address("server-node1")?;
    lab.apply(&format!("{}{}", watcher("near", "node1", &to), watcher("far", "node2", &to)))?;
    lab.wait_for_pods("app=watcher")?;
    nothing_lost(lab)
}

fn of_cbr0<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &["--namespace=kube-system"]].concat()
}

fn roll(lab: &Lab) -> Result<()> {
    let status = ["rollout", "status", "daemonset/cbr0", "--timeout=150s"];
    lab.kubectl_anywhere(&of_cbr0(&status)).map(drop)
}

fn upgrade(lab: &mut Lab) -> Result<()> {
    let image = "--output=jsonpath={.spec.template.spec.containers[0].image}";
    let image = lab.kubectl_anywhere(&of_cbr0(&["get", "daemonset/cbr0", image]))?;
    for node in &lab.nodes {
        node.machine.run(&["ctr", "-n", "k8s.io", "images", "tag", &image, NEXT])?;
    }
    undisturbed(lab, ALL, |lab| {
        let [install, syncer] = ["install", "route-syncer"].map(|name| format!("{name}={NEXT}"));
        let set = ["set", "image", "daemonset/cbr0", &install, &syncer];
        lab.kubectl_anywhere(&of_cbr0(&set))?;
        roll(lab)?;
        lab.kubectl_anywhere(&of_cbr0(&["rollout", "undo", "daemonset/cbr0"]))?;
        roll(lab)
    })
}

/// Routes and plugins stay while nobody keeps them.
fn remove(lab: &mut Lab) -> Result<()> {
    undisturbed(lab, ALL, |lab| {
        let manifest = lab.programs.manifest();
        lab.kubectl_anywhere(&["delete", "-f", &manifest, "--timeout=60s"])?;
        come_and_go(lab, NAMES[2])?;
        lab.kubectl_anywhere(&["apply", "-f", &manifest])?;
        roll(lab)
    })
}

fn containerd(lab: &mut Lab) -> Result<()> {
    undisturbed(lab, ALL, |lab| {
        lab.nodes[0].restart_containerd()?;
        come_and_go(lab, NAMES[0])
    })
}

/// A Pod starts on a node, is reached from another one, and goes.
pub(crate) fn come_and_go(lab: &Lab, node: &str) -> Result<()> {
    lab.apply(&Lab::pod("guest", "guest", node))?;
    lab.wait_for_pods("app=guest")?;
    let answers = lab.call("server-node2", &format!("{}:80", lab.address("guest")?), 1)?;
    let own = lab.address("server-node2")?;
    expect("server-node2 to the guest", &answers, &[Answer::of("guest", &own)])?;
    lab.kubectl(&["delete", "pod", "guest", "--timeout=60s"]).map(drop)
}

fn api_server(lab: &mut Lab) -> Result<()> {
    let daemons = ["get", "pods", "--selector=app.kubernetes.io/name=cbr0", "--output=name"];
    let before = lab.kubectl_anywhere(&of_cbr0(&daemons))?;
    undisturbed(lab, ALL, |lab| {
        let routes = routes(lab)?;
        lab.control.stop_apiserver()?;
        let until = Instant::now() + AWAY;
        while Instant::now() < until && !waiting::interrupted() {
            let now = self::routes(lab)?;
            if now != routes {
                return Err(LabError::Wrong(format!("routes were {routes:?}, and are {now:?}")));
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        lab.control.start_apiserver(&lab.programs)?;
        waiting::until("nodes are Ready again", || lab.wait_for_nodes())?;
        come_and_go(lab, NAMES[2])
    })?;
    let after = lab.kubectl_anywhere(&of_cbr0(&daemons))?;
    let words = || format!("cbr0's Pods were {before}, and are {after}");
    if before == after { Ok(()) } else { Err(LabError::Wrong(words())) }
}

/// The routes of cbr0 on every node.
fn routes(lab: &Lab) -> Result<Vec<String>> {
    let words = ["ip", "route", "show", "proto", "214"];
    lab.nodes.iter().map(|node| node.machine.run(&words)).collect()
}

fn no_leaks(lab: &mut Lab) -> Result<()> {
    lab.nodes.iter().try_for_each(|node| {
        waiting::until(&format!("{} holds its Pods' addresses alone", node.name), || {
            full::holds_pods_alone(lab, &node.name)
        })
    })
}
