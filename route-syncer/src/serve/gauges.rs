//! What is measured when Prometheus asks: all of it from the latest snapshot.

use std::fmt;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;

use super::snapshot::{Count, Snapshot, Snapshots};
use crate::source::Term;
use crate::status::State;

/// The gauges.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) snapshots: Snapshots,
    /// How long the source takes this node for alive.
    pub(super) term: Option<Term>,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.snapshots.borrow().clone();
        let mut out = Out(&mut encoder);
        routes(&mut out, &snapshot)?;
        claims(&mut out, &snapshot)?;
        source(&mut out, &snapshot)?;
        let Some(left) = self.term.as_ref().and_then(Term::left) else { return Ok(()) };
        let help = "Time until this node's lease expires unless it is kept alive";
        out.one("lease_ttl_seconds", help, &left.as_secs_f64())
    }
}

fn routes(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let counts = [("ipv4", snapshot.count(false)), ("ipv6", snapshot.count(true))];
    let of =
        |get: fn(Count) -> i64| counts.map(|(family, count)| ([("family", family)], get(count)));
    out.each("routes_desired", "Routes that there should be", &of(|count| count.desired))?;
    out.each("routes_installed", "Routes of these that are there", &of(|count| count.installed))?;
    let help = "Routes of these in whose place is somebody else's";
    out.each("route_conflicts", help, &of(|count| count.conflicts))?;
    let fought: Vec<String> = snapshot.fought.iter().map(ToString::to_string).collect();
    let fought: Vec<_> = fought.iter().map(|to| ([("destination", to.as_str())], 1)).collect();
    let help = "Routes that somebody removes or changes again and again, so that repairs are rare";
    out.each("route_fights", help, &fought)
}

fn claims(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let refused: Vec<_> = snapshot
        .refused()
        .into_iter()
        .map(|(reason, count)| ([("reason", reason)], count))
        .collect();
    out.each("claims_refused", "Claims that are not safe, by the reason", &refused)?;
    let off_link = snapshot.claims(State::OffLink);
    out.one("claims_off_link", "Claims of nodes to which no link leads", &off_link)?;
    let help = "Nodes that the source no longer names and whose going is not believed";
    out.one("held_nodes", help, &snapshot.held_nodes())
}

fn source(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let connected = snapshot.listed && snapshot.source_broken.is_none();
    out.one("source_connected", "Whether the source can be read", &i64::from(connected))?;
    let since = |since: Instant| since.elapsed().as_secs_f64();
    let staleness = snapshot.source_broken.map_or(0.0, since);
    let help = "Time since the source could last be read; 0 while it can be";
    out.one("source_staleness_seconds", help, &staleness)?;
    out.one("synced", "Whether the first sync is done", &i64::from(snapshot.synced))
}

struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn one(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.gauge(name, help)?.encode_gauge(value)
    }

    fn each(&mut self, name: &str, help: &str, values: &[([(&str, &str); 1], i64)]) -> fmt::Result {
        let mut gauge = self.gauge(name, help)?;
        for (labels, value) in values {
            gauge.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn gauge<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)
    }
}
