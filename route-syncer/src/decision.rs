//! The decision, without effects: facts become claims, claims the table of routes, and the table is
//! compared with the kernel's.

use crate::claims::{Judged, Surroundings, claims, held_claims, judge};
use crate::desired::Desired;
use crate::difference::{Change, Difference, difference};
use crate::observed::Observed;
use crate::roster::Roster;
use crate::settings::Settings;

/// Judges what the nodes claim. The claims of listed nodes come before those of held ones: a range
/// that is claimed again belongs to whom the list says.
pub fn judge_all(roster: &Roster, observed: &Observed, settings: &Settings) -> Vec<Judged> {
    let around = Surroundings {
        node: &settings.node,
        service_cidrs: &settings.service_cidrs,
        links: &observed.links,
        addresses: &observed.addresses,
    };
    let listed = claims(&roster.listed);
    judge(listed.chain(held_claims(&roster.held)).collect(), &around)
}

/// What has to change. Without a complete list in this life (`listed`) nothing is evidence enough
/// to remove a route.
pub fn changes(desired: &Desired, observed: &Observed, protocol: u8, listed: bool) -> Difference {
    let mut difference = difference(desired, &observed.routes, protocol);
    if !listed {
        difference.changes.retain(|change| !matches!(change, Change::Delete(_)));
    }
    difference
}
