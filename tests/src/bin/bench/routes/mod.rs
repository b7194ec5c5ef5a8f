//! What the route syncer does, beside what the kernel and etcd ask of anybody who does it.

mod alone;
mod bird;
pub(crate) mod cluster;
mod daemon;
pub(crate) mod fleet;
mod gateway;
pub(crate) mod long;
pub(crate) mod many;
mod store;
mod watchers;

use std::time::{Duration, Instant};

use self::long::Extent;
use cbr0_tests::require::Part;

use crate::say;
use crate::subject::{Case, Setting, Subject};

/// The label of iproute2's batches.
pub(crate) const IP_BATCH: &str = "ip -batch";

/// The subject `routes`.
pub(crate) struct Routes;

impl Subject for Routes {
    fn name(&self) -> &'static str {
        "routes"
    }

    fn about(&self) -> &'static str {
        "the route syncer: joins, first syncs, restarts, repairs, changes, rest, memory"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        if Part::Etcd.find().is_none() {
            say("bench: no etcd, and so no routes: scripts/parts etcd fetches it");
            return Vec::new();
        }
        let (nodes, claims) = if setting.short { (4, 100) } else { (50, 5_000) };
        fleet::cases(nodes).into_iter().chain(many::cases(claims)).collect()
    }

    fn long_cases(&self, setting: &Setting) -> Vec<Case> {
        if Part::Etcd.find().is_none() {
            return Vec::new();
        }
        long::cases(if setting.short {
            let (churn, idle) = (Duration::from_millis(500), Duration::from_millis(500));
            Extent { claims: 100, churn, idle, memory: [10, 50, 100] }
        } else {
            // Two of the safety readings, one a minute, are in what is called idle.
            let (churn, idle) = (Duration::from_secs(20), Duration::from_secs(120));
            Extent { claims: 5_000, churn, idle, memory: [50, 5_000, 10_000] }
        })
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
