//! A node may change from the Go reference plugins to ours and back with Pods on it: what the one
//! made the other checks and removes.

use std::path::Path;

use cbr0_tests::require::{self, Part};
use cbr0_tests::sample::{self, Sample, Scene};
use cbr0_tests::{Outcome, bins};

/// Versions of different shapes that have a CHECK.
const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// The tests of each plugin.
macro_rules! both_ways {
    ($($plugin:ident: $sample:expr;)*) => {$(
        mod $plugin {
            use super::*;

            #[test]
            fn what_the_reference_made_is_checked_and_removed() -> Outcome {
                from_reference(&$sample)
            }

            #[test]
            fn the_reference_checks_and_removes_what_we_made() -> Outcome {
                to_reference(&$sample)
            }
        }
    )*};
}

both_ways! {
    ptp: without_masquerading(sample::PTP);
    dummy: sample::DUMMY;
    ipvlan: sample::IPVLAN;
    macvlan: sample::MACVLAN;
    tap: sample::TAP;
    vlan: sample::VLAN;
}

#[test]
fn what_the_reference_lent_is_checked_and_comes_home() -> Outcome {
    from_reference(&sample::HOST_DEVICE)
}

#[test]
fn the_reference_checks_and_gives_back_what_we_lent() -> Outcome {
    to_reference(&sample::HOST_DEVICE)
}

fn from_reference(sample: &Sample) -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    hand_over(sample, &reference, &bins::plugin_dir()?)
}

fn to_reference(sample: &Sample) -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    hand_over(sample, &bins::plugin_dir()?, &reference)
}

/// The rules are another suite's, `reference`: each of the two sees its own alone.
fn without_masquerading(sample: Sample) -> Sample {
    Sample { keys: "{}", ..sample }
}

/// One suite adds; the other checks and removes; nothing remains.
fn hand_over(sample: &Sample, from: &Path, to: &Path) -> Outcome {
    if !sample.can_run()? {
        return Ok(());
    }
    for version in VERSIONS {
        let scene = Scene::new(sample, version)?;
        let (network, attachment) = (&scene.network, scene.pod.attachment());
        // A runtime keeps its results when its plugins are replaced.
        let mut runtime = scene.runtime()?;
        runtime.cni_path = vec![from.to_owned()];
        runtime.add(network, &attachment)?;
        runtime.cni_path = vec![to.to_owned()];
        runtime.check(network, &attachment)?;
        runtime.del(network, &attachment)?;
        let own = bins::plugin_dir()?;
        if sample.lends() && to != own {
            // The reference knows nothing of our loan book.
            runtime.cni_path = vec![own];
            runtime.gc(&sample.network(&scene.host, "1.1.0")?, &[])?;
        }
        scene.assert_nothing_left(version)?;
    }
    Ok(())
}
