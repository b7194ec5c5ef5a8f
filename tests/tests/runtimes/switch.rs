//! A node switches from the reference plugins to ours and back, under containers that run.

use std::collections::BTreeSet;

use cbr0_tests::machine::DEADLINE;
use cbr0_tests::probe::{self, Endpoint};
use cbr0_tests::require::{self, Part};
use cbr0_tests::{LabError, Outcome, Result};
use kernel::events::{Events, Topic};

use crate::containerd::Containerd;
use crate::fixture::{ONE, PLUGINS, Scene, address, chain, fixed_port};

#[derive(Clone, Copy)]
enum Suite {
    Ours,
    Theirs,
}
use Suite::{Ours, Theirs};

impl Suite {
    fn install(self, scene: &Scene) -> Result<()> {
        match (self, require::part(Part::Reference)?) {
            (Theirs, Some(folder)) => scene.machine.install(&folder, &PLUGINS),
            _ => scene.machine.install_ours(&PLUGINS),
        }
    }
}

/// `None` where a part is not there.
fn containerd() -> Result<Option<Containerd>> {
    if require::part(Part::Reference)?.is_none() {
        return Ok(None);
    }
    let mut list = chain("net", "cbr0", ONE, Some(fixed_port()));
    // The link that limits this direction is known to the suite alone that made it, and stays.
    for limit in ["egressRate", "egressBurst"] {
        list["plugins"][3].as_object_mut().and_then(|bandwidth| bandwidth.remove(limit));
    }
    let Some(containerd) = Containerd::new(&list)? else { return Ok(None) };
    containerd.import()?;
    Ok(Some(containerd))
}

/// A container is started with the one, runs on under the other, and is removed by that.
fn switch(containerd: &Containerd, name: &str, from: Suite, to: Suite) -> Result<()> {
    let scene = &containerd.scene;
    from.install(scene)?;
    let container = containerd.start(name)?;
    let endpoint = Endpoint::serve(&container.netns)?;
    scene.call_host_port()?;
    to.install(scene)?;
    probe::call(scene.host().netns(), address(&container.netns, ONE)?)?;
    scene.call_host_port()?;
    drop(endpoint);
    containerd.remove(container)
}

/// Without counters, which tell of the packets of a test.
fn rules(scene: &Scene) -> Result<String> {
    scene.machine.run(&["nft", "--stateless", "list", "ruleset"])
}

fn reservations(scene: &Scene) -> Result<BTreeSet<String>> {
    let files = scene.machine.run(&["ls", "/var/lib/cni/networks/net"])?;
    Ok(files.lines().filter(|name| name.starts_with("10.")).map(str::to_owned).collect())
}

fn links(scene: &Scene) -> kernel::netlink::Result<BTreeSet<String>> {
    let links = kernel::Rtnl::open_in(scene.host().netns())?.links()?;
    Ok(links.into_iter().map(|link| link.name).collect())
}

/// The links of the other suite, which go by no names of ours, die with their container's namespace:
/// some time after it.
fn wait_for_links(scene: &Scene, wanted: &BTreeSet<String>) -> Result<()> {
    let mut last = BTreeSet::new();
    let mut events = Events::open_in(scene.host().netns(), Topic::Links)?;
    let there = events.wait(DEADLINE, || {
        last = links(scene)?;
        Ok((last == *wanted).then_some(()))
    })?;
    there.ok_or_else(|| LabError::Wrong(format!("links {last:?}, but not {wanted:?}")))
}

#[test]
fn ours_remove_what_theirs_made() -> Outcome {
    let Some(containerd) = containerd()? else { return Ok(()) };
    let scene = &containerd.scene;
    let before = links(scene)?;
    // Afterwards there is what both share among containers.
    switch(&containerd, "warm-up", Theirs, Ours)?;
    let bridge = BTreeSet::from(["cbr0".to_owned()]);
    let wanted = before.union(&bridge).cloned().collect();
    wait_for_links(scene, &wanted)?;
    let before = rules(scene)?;

    switch(&containerd, "container", Theirs, Ours)?;
    scene.assert_host_port_gone();
    wait_for_links(scene, &wanted)?;
    assert_eq!(rules(scene)?, before);
    assert_eq!(reservations(scene)?, BTreeSet::new());
    Ok(())
}

/// They do not know our rules, which are for GC to remove once ours are back.
#[test]
fn theirs_free_the_addresses_and_links_that_ours_made() -> Outcome {
    let Some(containerd) = containerd()? else { return Ok(()) };
    let scene = &containerd.scene;
    let bridge = BTreeSet::from(["cbr0".to_owned()]);
    let wanted = links(scene)?.union(&bridge).cloned().collect();
    switch(&containerd, "container", Ours, Theirs)?;
    wait_for_links(scene, &wanted)?;
    assert_eq!(reservations(scene)?, BTreeSet::new());
    Ok(())
}
