//! What can be said about each claim: the table of `route-syncer status`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::claims::{Judged, Verdict};
use crate::desired::{Desired, NextHop};
use crate::difference::{Difference, difference};
use crate::host::HostSetting;
use crate::observed::Observed;
use crate::tunnel::Family;
use crate::tunnel::peers::{self, Peer};
use crate::unreachable::{CLUSTER_METRIC, OWN_METRIC};

/// Why nothing goes through the tunnel. What keeps the device from being made is a problem of its own.
const NO_DEVICE: &str = "the tunnel has no device";

/// What the daemon says about itself and its routes. Of times it holds only
/// those of changes, so that it changes only when something changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// This node's name.
    pub node: String,
    /// The protocol number of the daemon's routes.
    pub protocol: u8,
    /// Why the source cannot be read now; null if it can.
    pub source_error: Option<String>,
    /// Since when it cannot be read.
    pub source_error_since: Option<String>,
    /// What the source says beside the nodes, with no need to do anything.
    pub notes: Vec<String>,
    /// What else is not as it should be, beside routes.
    pub problems: Vec<String>,
    /// A row for each claim.
    pub routes: Vec<Row>,
    /// How the host is set up.
    #[serde(default)]
    pub host_settings: Vec<HostSetting>,
    /// The network configuration that the daemon writes for container runtimes.
    #[serde(default)]
    pub conflist: Option<PathBuf>,
    /// A row for each range of the cluster that is to be unreachable where no better route leads.
    #[serde(default)]
    pub unreachable: Vec<RangeRow>,
}

/// A range of the cluster that is to be unreachable, and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRow {
    /// The range.
    pub cidr: String,
    /// The state of its route: `ok`, `missing` or `conflict`.
    pub state: State,
    /// More about the state; empty if there is nothing more to say.
    pub detail: String,
}

impl RangeRow {
    /// The row as a sentence, for the log.
    pub fn words(&self) -> String {
        format!(
            "{}, the cluster's, unreachable for unknown nodes: {}",
            self.cidr,
            self.state_words()
        )
    }

    /// The state with what more there is to say about it.
    pub fn state_words(&self) -> String {
        state_words(self.state, &self.detail)
    }
}

fn state_words(state: State, detail: &str) -> String {
    if detail.is_empty() { state.to_string() } else { format!("{state}({detail})") }
}

/// A claim and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The node that claims.
    pub node: String,
    /// The range it claims.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// The node's address.
    pub via: Option<IpAddr>,
    /// The name of the link that leads there.
    pub device: Option<String>,
    /// The hardware address of the node's end of the tunnel, if the link is the tunnel's; then the
    /// route leads to a neighbour on it that stands for the node.
    #[serde(default)]
    pub vtep: Option<String>,
    /// Whether the range is this node's own and has a route that makes it unreachable where it is
    /// not in use.
    #[serde(default)]
    pub unreachable: bool,
    /// Its state.
    pub state: State,
    /// Since when the node is held; null if it is not.
    #[serde(rename = "heldSince")]
    pub held_since: Option<String>,
    /// Why the claim is refused, in one word ([`crate::claims::Refusal::reason`]); null if it is not.
    #[serde(default)]
    pub reason: Option<String>,
    /// More about the state; empty if there is nothing more to say.
    pub detail: String,
}

impl Row {
    /// Whether the kernel's routes decide about its state.
    fn is_about_a_route(&self) -> bool {
        self.unreachable || self.state.is_about_a_route()
    }

    /// The state of the row while its route is there.
    fn state_with_route(&self) -> State {
        match self.held_since {
            _ if self.unreachable => State::Own,
            Some(_) => State::Held,
            None => State::Ok,
        }
    }

    /// The other end of the tunnel, if the range is reached through it.
    fn peer(&self, range: IpNetwork, remote: IpAddr) -> Option<Peer> {
        let mac = self.vtep.as_ref()?.parse().ok()?;
        Some(Peer::of(range, mac, remote))
    }

    /// The row as a sentence, for the log.
    pub fn words(&self) -> String {
        format!("{} of {}: {}", self.pod_cidr, self.node, self.state_words())
    }

    /// The state with what more there is to say about it.
    pub fn state_words(&self) -> String {
        match &self.held_since {
            Some(since) if self.state == State::Held && self.detail.is_empty() => {
                format!("held(since {since})")
            }
            _ => state_words(self.state, &self.detail),
        }
    }
}

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The route is there.
    Ok,
    /// It is this node's own range.
    Own,
    /// The route is not there.
    Missing,
    /// Somebody else's route has the traffic.
    Conflict,
    /// No live link leads to the node.
    OffLink,
    /// The claim is not safe, and no route is made.
    Refused,
    /// The route is there, but the source no longer names the node, whose going is not believed.
    Held,
}

impl State {
    /// Whether this is as it should be.
    pub fn is_ok(self) -> bool {
        matches!(self, State::Ok | State::Own)
    }

    /// Whether the kernel's routes decide about this state.
    fn is_about_a_route(self) -> bool {
        matches!(self, State::Ok | State::Missing | State::Conflict | State::Held)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Ok => "ok",
            State::Own => "own",
            State::Missing => "missing",
            State::Conflict => "conflict",
            State::OffLink => "off-link",
            State::Refused => "refused",
            State::Held => "held",
        })
    }
}

/// The rows of judged claims. `left` is the difference that is left to what was observed.
pub fn rows(
    judged: &[Judged],
    desired: &Desired,
    left: &Difference,
    observed: &Observed,
    failures: &Backoff,
) -> Vec<Row> {
    let missing = missing(left, desired, observed);
    let row = |Judged { claim, verdict }: &Judged| {
        let (mut device, mut end) = (None, None);
        let failure = failures.reason(claim.cidr).unwrap_or_default();
        let unreachable = desired.unreachable.contains_key(&claim.cidr) && *verdict == Verdict::Own;
        let (state, detail) = match verdict {
            Verdict::Own if unreachable => {
                route_state(claim.cidr, State::Own, left, &missing, failure)
            }
            Verdict::Own => (State::Own, String::new()),
            Verdict::Refused(refusal) => (State::Refused, refusal.to_string()),
            Verdict::OffLink { .. } => (State::OffLink, String::new()),
            Verdict::Tunnel { gateway, vtep } => {
                device = Some(Family::of(*gateway).device().to_owned());
                end = Some(vtep.to_string());
                if !desired.routes.contains_key(&claim.cidr) {
                    (State::Missing, NO_DEVICE.to_owned())
                } else {
                    let held = claim.held_since.is_some();
                    let there = if held { State::Held } else { State::Ok };
                    route_state(claim.cidr, there, left, &missing, failure)
                }
            }
            Verdict::Route { link, .. } => {
                device = Some(observed.link_name(*link));
                let held = claim.held_since.is_some();
                let there = if held { State::Held } else { State::Ok };
                route_state(claim.cidr, there, left, &missing, failure)
            }
        };
        let reason = match verdict {
            Verdict::Refused(refusal) => Some(refusal.reason().to_owned()),
            _ => None,
        };
        let via = claim.gateway.filter(|_| *verdict != Verdict::Own);
        let (node, pod_cidr) = (claim.node.clone(), claim.cidr.to_string());
        let held_since = claim.held_since.clone();
        Row {
            node,
            pod_cidr,
            via,
            device,
            vtep: end,
            unreachable,
            state,
            held_since,
            reason,
            detail,
        }
    };
    judged.iter().map(row).collect()
}

/// The same rows, with the states as the kernel's routes are now.
pub fn recheck(report: &Report, observed: &Observed) -> Vec<Row> {
    let mut desired = Desired::default();
    for row in report.routes.iter().filter(|row| row.is_about_a_route()) {
        if row.unreachable {
            desired
                .unreachable
                .extend(row.pod_cidr.parse().map(|cidr: IpNetwork| (cidr, OWN_METRIC)));
            continue;
        }
        let link = observed.links.iter().find(|link| row.device.as_ref() == Some(&link.name));
        let (Ok(cidr), Some(via), Some(link)) = (row.pod_cidr.parse(), row.via, link) else {
            continue;
        };
        match row.peer(cidr, via) {
            Some(peer) => desired.tunnel(cidr, peer, link.index),
            None => {
                let next_hop = NextHop { gateway: via, link: link.index, on_link: false };
                desired.routes.insert(cidr, next_hop);
            }
        }
    }
    let left = difference(&desired, &observed.routes, report.protocol);
    let missing = missing(&left, &desired, observed);
    let recheck = |row: &Row| {
        if !row.is_about_a_route() {
            return row.clone();
        }
        let Some(cidr) = row.pod_cidr.parse().ok().filter(|&cidr| desired.leads_to(cidr)) else {
            let detail = if row.vtep.is_some() { NO_DEVICE } else { "the link is gone" };
            let detail = detail.to_owned();
            return Row { state: State::Missing, detail, ..row.clone() };
        };
        let there = row.state_with_route();
        let failure = if row.state == State::Missing { row.detail.as_str() } else { "" };
        let (state, detail) = route_state(cidr, there, &left, &missing, failure);
        Row { state, detail, ..row.clone() }
    };
    report.routes.iter().map(recheck).collect()
}

/// The rows of the cluster's ranges.
pub fn range_rows(desired: &Desired, left: &Difference, failures: &Backoff) -> Vec<RangeRow> {
    let missing = to_make(left).collect();
    let ranges = desired.unreachable.iter().filter(|&(_, metric)| *metric == CLUSTER_METRIC);
    let row = |(&cidr, _): (&IpNetwork, _)| {
        let failure = failures.reason(cidr).unwrap_or_default();
        let (state, detail) = route_state(cidr, State::Ok, left, &missing, failure);
        RangeRow { cidr: cidr.to_string(), state, detail }
    };
    ranges.map(row).collect()
}

/// The same rows of the cluster's ranges, with the states as the kernel's routes are now.
pub fn recheck_ranges(report: &Report, observed: &Observed) -> Vec<RangeRow> {
    let ranges = report.unreachable.iter().filter_map(|row| row.cidr.parse::<IpNetwork>().ok());
    let unreachable = ranges.map(|cidr| (cidr, CLUSTER_METRIC)).collect();
    let desired = Desired { unreachable, ..Desired::default() };
    let left = difference(&desired, &observed.routes, report.protocol);
    range_rows(&desired, &left, &Backoff::default())
}

/// The destinations to which a route is still to be made.
fn to_make(left: &Difference) -> impl Iterator<Item = IpNetwork> {
    use crate::difference::Change;
    let made = left.changes.iter().filter(|change| !matches!(change, Change::Delete(_)));
    made.map(|change| change.route().destination)
}

/// The destinations to which a route is still to be made, or what it needs of the tunnel.
fn missing(left: &Difference, desired: &Desired, observed: &Observed) -> BTreeSet<IpNetwork> {
    let lacking = peers::lacking(&desired.peers, &observed.tunnel);
    let through_tunnel = desired
        .routes
        .iter()
        .filter(|(_, next_hop)| next_hop.on_link && lacking.contains(&next_hop.gateway));
    to_make(left).chain(through_tunnel.map(|(&destination, _)| destination)).collect()
}

fn route_state(
    cidr: IpNetwork,
    there: State,
    left: &Difference,
    missing: &BTreeSet<IpNetwork>,
    failure: &str,
) -> (State, String) {
    if let Some(foreign) = left.conflicts.get(&cidr) {
        return (State::Conflict, format!("proto {}", foreign.protocol));
    }
    if missing.contains(&cidr) {
        return (State::Missing, failure.to_owned());
    }
    (there, String::new())
}
