//! Of 8: an address range runs full, and empties again.

use std::collections::BTreeSet;

use cbr0_tests::{LabError, Result};

use crate::lab::Lab;
use crate::waiting;
use crate::watchers::{state, undisturbed};

/// The node whose range it is.
const NODE: &str = "node2";
/// More than a range of 32 addresses has.
const MANY: &str = "--replicas=40";
/// Of a range: its network, its bridge, its broadcast address.
const NOBODYS: u32 = 3;

pub(crate) fn fill(lab: &mut Lab) -> Result<()> {
    undisturbed(lab, "app in (server,watcher)", |lab| {
        let many = Lab::deployment("many", 1);
        let on_node =
            format!("    spec:\n      nodeSelector: {{kubernetes.io/hostname: {NODE}}}\n");
        lab.apply(&many.replacen("    spec:\n", &on_node, 1))?;
        lab.kubectl(&["scale", "deployment/many", MANY])?;
        waiting::until("every address of the range is a Pod's", || all_taken(lab))?;
        waiting::until("the Pods that wait say why", || says_why(lab))?;
        lab.wait_for_nodes()
    })
}

fn all_taken(lab: &Lab) -> Result<()> {
    let range = lab.pod_range(NODE)?;
    let size = 1_u32 << (32 - range.prefix());
    let (has, may) = (addresses_of_pods(lab, NODE)?.len(), (size - NOBODYS) as usize);
    let words = || format!("{has} of {may} are");
    if has == may { Ok(()) } else { Err(LabError::Wrong(words())) }
}

fn says_why(lab: &Lab) -> Result<()> {
    let why = ["get", "events", "--field-selector=reason=FailedCreatePodSandBox"];
    let events = lab.kubectl(&[&why[..], &["--output=jsonpath={.items[*].message}"]].concat())?;
    let says = events.contains("no IP addresses available in range set");
    if says { Ok(()) } else { Err(LabError::Wrong("they do not name the range".to_owned())) }
}

pub(crate) fn empty(lab: &mut Lab) -> Result<()> {
    lab.kubectl(&["scale", "deployment/many", "--replicas=0"])?;
    waiting::until("the Pods are gone", || {
        let left = state(lab, "app=many")?.len();
        if left == 0 { Ok(()) } else { Err(LabError::Wrong(format!("{left} are left"))) }
    })?;
    waiting::until("their addresses are free", || holds_pods_alone(lab, NODE))?;
    lab.kubectl(&["scale", "deployment/many", "--replicas=3"])?;
    lab.kubectl(&["rollout", "status", "deployment/many", "--timeout=60s"])?;
    lab.kubectl(&["delete", "deployment", "many"]).map(drop)
}

/// That the addresses reserved on a node are those that its Pods have.
pub(crate) fn holds_pods_alone(lab: &Lab, node: &str) -> Result<()> {
    let list = "ls /var/lib/cni/networks/cbr0 | grep '^[0-9]' || true";
    let reserved = lab.node(node)?.machine.run(&["sh", "-c", list])?;
    let reserved: BTreeSet<String> = reserved.lines().map(str::to_owned).collect();
    let pods = addresses_of_pods(lab, node)?;
    let words = || format!("{node} has {reserved:?} reserved, and its Pods {pods:?}");
    if reserved == pods { Ok(()) } else { Err(LabError::Wrong(words())) }
}

/// The addresses of the Pods on a node that are not the node's own.
fn addresses_of_pods(lab: &Lab, node: &str) -> Result<BTreeSet<String>> {
    let on = format!("--field-selector=spec.nodeName={node},status.phase=Running");
    let address = "--output=jsonpath={range .items[*]}{.status.podIP}{\"\\n\"}{end}";
    let pods = lab.kubectl_anywhere(&["get", "pods", "--all-namespaces", &on, address])?;
    let own = lab.node(node)?.address.to_string();
    let others = pods.lines().filter(|address| !address.is_empty() && *address != own);
    Ok(others.map(str::to_owned).collect())
}
