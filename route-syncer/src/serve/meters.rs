//! What the daemon counts while it works.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Why a route had to be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was deleted.
    Deleted,
    /// Somebody changed it, or made one of our protocol that should not be.
    Replaced,
    /// A link or an address came, went or changed.
    Link,
    /// Nothing was heard; the regular reading found it.
    Periodic,
}

impl Cause {
    fn word(self) -> &'static str {
        match self {
            Cause::Deleted => "deleted",
            Cause::Replaced => "replaced",
            Cause::Link => "link",
            Cause::Periodic => "periodic",
        }
    }
}

type Labels = [(&'static str, &'static str); 1];

/// What is counted. Clones count together.
#[derive(Clone, Debug)]
pub struct Meters {
    repairs: Family<Labels, Counter>,
    apply: Histogram,
    lag: Histogram,
    /// How often the kernel had more events than could be held.
    pub overruns: Counter,
    /// How often all of the kernel's state was read.
    pub readings: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        // A millisecond to half a minute.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        Self {
            repairs: Family::default(),
            apply: seconds(),
            lag: seconds(),
            overruns: Counter::default(),
            readings: Counter::default(),
        }
    }
}

impl Meters {
    /// Routes were repaired.
    pub fn repaired(&self, cause: Cause, routes: u64) {
        if routes > 0 {
            self.repairs.get_or_create(&[("cause", cause.word())]).inc_by(routes);
        }
    }

    /// Changes of routes were sent to the kernel and answered.
    pub fn applied(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }

    /// What the source told is in the kernel.
    pub fn caught_up(&self, took: Duration) {
        self.lag.observe(took.as_secs_f64());
    }

    /// Puts all of them where Prometheus finds them.
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        add(
            "netlink_overruns",
            "Times the kernel had more events than could be held",
            &self.overruns,
        );
        add("redumps", "Times that all of the kernel's state was read", &self.readings);
        let help = "Routes that were repaired, by what had happened to them";
        registry.register("repairs", help, self.repairs.clone());
        let help = "Time from sending changes of routes to the kernel's last answer";
        registry.register("apply_seconds", help, self.apply.clone());
        let help = "Time from hearing something new of the source to its routes being made";
        registry.register("source_lag_seconds", help, self.lag.clone());
    }
}
