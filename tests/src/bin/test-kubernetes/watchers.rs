//! Pods that call another one all the time, and what they lost.

use std::collections::BTreeMap;

use cbr0_tests::{LabError, Result};

use crate::lab::Lab;
use crate::waiting;

/// What the manifest says of a Pod on a node that calls a server all the time.
pub(crate) fn watcher(name: &str, node: &str, server: &str) -> String {
    let pod = Lab::pod(name, "watcher", node).replace("serve 80", &format!("watch {server}:80"));
    let lines = pod.lines().filter(|line| !line.contains("readinessProbe"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The Pods of the scenario, by name: which they are, and how often they were started again.
pub(crate) type State = BTreeMap<String, String>;

/// The Pods there are.
pub(crate) fn state(lab: &Lab, labels: &str) -> Result<State> {
    let columns = "--output=jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} \
                   {.status.phase} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let pods = lab.kubectl(&["get", "pods", "--selector", labels, columns])?;
    let pods = pods.lines().filter_map(|line| line.split_once(' '));
    Ok(pods.map(|(name, state)| (name.to_owned(), state.to_owned())).collect())
}

/// Runs `work`, after which everything is to be as it was: the Pods with these labels are the same
/// and were not started again, and the watchers among them go on calling and have lost nothing.
pub(crate) fn undisturbed(
    lab: &mut Lab,
    labels: &str,
    work: impl FnOnce(&mut Lab) -> Result<()>,
) -> Result<()> {
    let before = state(lab, labels)?;
    work(lab)?;
    nothing_lost(lab)?;
    let after = state(lab, labels)?;
    if before == after {
        return Ok(());
    }
    Err(LabError::Wrong(format!("the Pods were {before:?}, and are {after:?}")))
}

/// That all watchers go on calling, and what they wrote has no loss in it.
pub(crate) fn nothing_lost(lab: &Lab) -> Result<()> {
    for watcher in state(lab, "app=watcher")?.keys() {
        let calls = |text: &str| text.lines().filter(|line| line.starts_with("answered")).count();
        let before = calls(&lab.kubectl(&["logs", watcher])?);
        let log = waiting::until(&format!("{watcher} goes on calling"), || {
            let log = lab.kubectl(&["logs", watcher])?;
            let goes_on = calls(&log) > before;
            if goes_on { Ok(log) } else { Err(LabError::Wrong(format!("its log: {log}"))) }
        })?;
        let lost: Vec<&str> = log.lines().filter(|line| line.starts_with("lost")).collect();
        if !lost.is_empty() {
            return Err(LabError::Wrong(format!("{watcher} has lost calls: {lost:?}")));
        }
    }
    Ok(())
}
