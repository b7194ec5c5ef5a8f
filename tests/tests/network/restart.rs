//! Daemons that are killed and start again do not come between Pods.

use cbr0_tests::Outcome;
use cbr0_tests::pings::{Echo, Pings};

use crate::fixture::{Cluster, Families};

#[test]
fn p03_restarts_lose_no_ping_between_pods() -> Outcome {
    let Some(mut cluster) = Cluster::new()? else { return Ok(()) };
    let here = cluster.add(1, "here", Families::Both)?;
    let there = cluster.add(2, "there", Families::Both)?;
    let _echo = Echo::serve(there.pod.netns())?;
    let start = |&to| Pings::start(here.pod.netns(), to);
    let pings: Vec<Pings> = there.addresses.iter().map(start).collect::<Result<_, _>>()?;
    for _ in 0..3 {
        cluster.restart_syncer(1)?;
        cluster.restart_syncer(2)?;
    }
    for pings in pings {
        let counts = pings.stop()?;
        assert!(counts.lost.is_empty(), "{counts:?}");
    }
    Ok(())
}
