//! A node may change from the Go reference plugins to ours and back with containers on it: what the
//! one made the other checks and removes.

use std::path::Path;

use cbr0_tests::pod::Pod;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{Outcome, Result, bins};
use serde_json::json;

use crate::fixture::Host;

const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// One suite adds; the other checks and removes; nothing remains.
fn hand_over(from: &Path, to: &Path, network: &Network, host: &Host) -> Result<()> {
    let before = Snapshot::take(&host.node)?;
    let pod = Pod::create("pod")?;
    // A runtime keeps its results when its plugins are replaced.
    let mut runtime = Runtime::new(&host.node, from);
    runtime.add(network, &pod.attachment())?;
    runtime.check(network, &pod.attachment())?;
    runtime.cni_path = vec![to.to_owned()];
    runtime.check(network, &pod.attachment())?;
    runtime.del(network, &pod.attachment())?;
    runtime.del(network, &pod.attachment())?;
    let left = before.difference(&Snapshot::take(&host.node)?, &Shared::with_bridge("cbr0"));
    assert_eq!(left.map(|left| left.to_string()), None);
    assert_eq!(Snapshot::of(pod.netns())?, Snapshot::of(Pod::create("new")?.netns())?);
    Ok(())
}

fn both_ways(ours_first: bool) -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    for version in VERSIONS {
        let Some(host) = Host::new()? else { return Ok(()) };
        let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]);
        let routes = json!([{"dst": "192.0.2.0/24"}]);
        let ipam = host.host_local(&json!({"ranges": ranges, "routes": routes}));
        let mut network = host.network(&json!({"ipam": ipam}));
        network.version = version.into();
        let ours = bins::plugin_dir()?;
        let (from, to) = if ours_first { (&ours, &reference) } else { (&reference, &ours) };
        hand_over(from, to, &network, &host)?;
    }
    Ok(())
}

#[test]
fn what_the_reference_made_is_checked_and_removed() -> Outcome {
    both_ways(false)
}

#[test]
fn the_reference_checks_and_removes_what_we_made() -> Outcome {
    both_ways(true)
}
