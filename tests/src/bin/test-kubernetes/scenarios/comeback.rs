//! Of 8: nodes that go and come back.

use cbr0_tests::{LabError, Result};

use crate::ask::{Answer, expect};
use crate::lab::Lab;
use crate::node::NAMES;
use crate::scenarios::upsets::come_and_go;
use crate::waiting;
use crate::watchers::{nothing_lost, undisturbed};

/// The node that goes, and nobody watches.
const NODE: &str = NAMES[2];
/// That which reboots.
const REBOOTED: &str = NAMES[2];

pub(crate) fn leave(lab: &mut Lab) -> Result<()> {
    let range = lab.pod_range(NODE)?.to_string();
    undisturbed(lab, "app=watcher", |lab| {
        let drain = ["drain", NODE, "--ignore-daemonsets", "--force", "--timeout=120s"];
        lab.kubectl_anywhere(&drain)?;
        lab.node_mut(NODE)?.stop_kubelet()?;
        lab.kubectl_anywhere(&["delete", "node", NODE])?;
        for name in &NAMES[..2] {
            let node = lab.node(name)?;
            waiting::until(&format!("{name} has no route to the node that left"), || {
                let routes = node.machine.run(&["ip", "route"])?;
                let has = routes.contains(&range);
                if has { Err(LabError::Wrong(format!("its routes: {routes}"))) } else { Ok(()) }
            })?;
        }
        lab.left = Some(range);
        Ok(())
    })
}

pub(crate) fn come_back(lab: &mut Lab) -> Result<()> {
    undisturbed(lab, "app=watcher", |lab| {
        lab.start_kubelet(NODE)?;
        waiting::until("the node is back", || lab.wait_for_nodes())?;
        let range = waiting::until("it has a range", || lab.pod_range(NODE))?.to_string();
        if lab.left.as_deref() == Some(range.as_str()) {
            return Err(LabError::Wrong(format!("it has the same range as before, {range}")));
        }
        // Until then its runtime goes by the list of before, and it is Ready by that.
        waiting::until("it knows its range", || {
            let list = lab.node(NODE)?.machine.run(&["cat", "/etc/cni/net.d/10-cbr0.conflist"])?;
            let knows = list.contains(&range);
            if knows { Ok(()) } else { Err(LabError::Wrong(format!("its list: {list}"))) }
        })?;
        lab.apply(&Lab::pod("server-node3", "server", NODE))?;
        lab.wait_for_pods("app=server")?;
        let address = lab.address("server-node3")?;
        let inside =
            address.parse().is_ok_and(|own| lab.pod_range(NODE).is_ok_and(|net| net.contains(own)));
        if !inside {
            return Err(LabError::Wrong(format!("a Pod has {address}, and the node {range}")));
        }
        each_other(lab)?;
        come_and_go(lab, NODE)
    })
}

/// Every server reaches every other one, as itself.
fn each_other(lab: &Lab) -> Result<()> {
    for from in NAMES.map(|node| format!("server-{node}")) {
        for to in NAMES.map(|node| format!("server-{node}")) {
            let answers = lab.call(&from, &format!("{}:80", lab.address(&to)?), 1)?;
            let own = lab.address(&from)?;
            expect(&format!("{from} to {to}"), &answers, &[Answer::of(&to, &own)])?;
        }
    }
    Ok(())
}

pub(crate) fn reboot(lab: &mut Lab) -> Result<()> {
    lab.reboot(REBOOTED)?;
    waiting::until("the node's Pods run again", || {
        lab.wait_for_nodes()?;
        let count = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
        let count = lab.kubectl(&["get", "pod", "server-node3", count])?;
        if count == "0" { Err(LabError::Wrong("not started again".to_owned())) } else { Ok(()) }
    })?;
    lab.wait_for_pods("app=server")?;
    waiting::until("they are reached", || each_other(lab))?;
    come_and_go(lab, REBOOTED)?;
    nothing_lost(lab)
}
