//! The difference between what is desired and what is observed. A pure function: the same code
//! decides at start, after a change and for a repair.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use nix::libc;

use crate::desired::{Desired, NextHop};
use crate::observed::Route;

/// One step from the observed to the desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make a route where there is none.
    Add(Route),
    /// Put a route in the place of one of ours, in one step: at no instant is there none.
    Replace(Route),
    /// Remove a route of ours.
    Delete(Route),
}

impl Change {
    /// The route that is made or removed.
    pub fn route(&self) -> &Route {
        match self {
            Change::Add(route) | Change::Replace(route) | Change::Delete(route) => route,
        }
    }
}

/// A route of somebody else to a destination of ours. It is never touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// Its metric: with the lower one it is used instead of ours, with the same one ours cannot be
    /// made, with a higher one it stands by.
    pub metric: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
}

/// What is to be done, and what stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The changes, in the order in which they are to be made: a range is never without a route
    /// when one that covers it is there before and after.
    pub changes: Vec<Change>,
    /// The foreign routes that have, or would have, the traffic of a desired route.
    pub conflicts: BTreeMap<IpNetwork, Foreign>,
    /// The foreign routes that lose against a desired route.
    pub shadowed: BTreeSet<(IpNetwork, Foreign)>,
}

/// The metric of our routes: the kernel's default, told as it tells it.
pub fn metric(destination: IpNetwork) -> u32 {
    // IP6_RT_PRIO_USER; an IPv4 route without a metric has 0.
    if destination.is_ipv4() { 0 } else { 1024 }
}

/// The route that we want to a destination.
pub fn wanted(destination: IpNetwork, next_hop: NextHop, protocol: u8) -> Route {
    Route {
        destination,
        metric: metric(destination),
        protocol,
        kind: libc::RTN_UNICAST,
        scope: libc::RT_SCOPE_UNIVERSE,
        gateway: Some(next_hop.gateway),
        on_link: next_hop.on_link,
        link: Some(next_hop.link),
    }
}

/// The route that makes a range unreachable where no better route leads.
pub fn unreachable(destination: IpNetwork, metric: u32, protocol: u8) -> Route {
    Route {
        destination,
        metric,
        protocol,
        kind: libc::RTN_UNREACHABLE,
        scope: libc::RT_SCOPE_UNIVERSE,
        gateway: None,
        on_link: false,
        link: None,
    }
}

/// What must change so that the routes of `protocol` are the desired ones.
pub fn difference(desired: &Desired, observed: &[Route], protocol: u8) -> Difference {
    let mut at: BTreeMap<IpNetwork, Vec<&Route>> = BTreeMap::new();
    for route in observed {
        at.entry(route.destination).or_default().push(route);
    }
    let mut difference = Difference::default();
    let mut deletes = Vec::new();
    for (&destination, &next_hop) in &desired.routes {
        let wanted = wanted(destination, next_hop, protocol);
        let there = at.remove(&destination).unwrap_or_default();
        difference.note_foreign(&wanted, &there);
        let (change, superfluous) = one(wanted, &there);
        difference.changes.extend(change);
        deletes.extend(superfluous);
    }
    for (&destination, &metric) in &desired.unreachable {
        let wanted = unreachable(destination, metric, protocol);
        let there = at.remove(&destination).unwrap_or_default();
        // Better routes, such as the bridge's, are what the range is for.
        let rivals: Vec<&Route> =
            there.iter().copied().filter(|route| route.metric == wanted.metric).collect();
        difference.note_foreign(&wanted, &rivals);
        let (change, superfluous) = one(wanted, &there);
        difference.changes.extend(change);
        deletes.extend(superfluous);
    }
    for route in at.into_values().flatten().filter(|route| route.protocol == protocol) {
        let kept = route.gateway.map(|gateway| (route.destination, gateway));
        if !kept.is_some_and(|kept| desired.kept.contains(&kept)) {
            deletes.push(*route);
        }
    }
    difference.changes.extend(deletes.into_iter().map(Change::Delete));
    difference
}

/// What must change at one destination: one route to make at most, and those of ours to remove.
fn one(wanted: Route, there: &[&Route]) -> (Option<Change>, Vec<Route>) {
    let (ours, foreign): (Vec<&Route>, Vec<&Route>) =
        there.iter().partition(|route| route.protocol == wanted.protocol);
    // Routes with the same destination and metric are one to the kernel's replace, whoever made
    // them: beside a foreign one ours must neither be made nor be replaced.
    let taken = foreign.iter().any(|route| route.metric == wanted.metric);
    let mut ours: Vec<Route> = ours.into_iter().copied().collect();
    if let Some(place) = ours.iter().position(|route| *route == wanted) {
        ours.remove(place);
        return (None, ours);
    }
    if taken {
        // A wrong one of ours beside it still goes: deleting matches the protocol.
        return (None, ours);
    }
    match ours.iter().position(|route| route.metric == wanted.metric) {
        // The kernel replaces the first one of its list, which is the first that it tells.
        Some(place) => {
            ours.remove(place);
            (Some(Change::Replace(wanted)), ours)
        }
        None => (Some(Change::Add(wanted)), ours),
    }
}

impl Difference {
    fn note_foreign(&mut self, wanted: &Route, there: &[&Route]) {
        for route in there.iter().filter(|route| route.protocol != wanted.protocol) {
            let foreign = Foreign { metric: route.metric, protocol: route.protocol };
            if foreign.metric <= wanted.metric {
                let worst = self.conflicts.entry(wanted.destination).or_insert(foreign);
                *worst = foreign.min(*worst);
            } else {
                self.shadowed.insert((wanted.destination, foreign));
            }
        }
    }
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
