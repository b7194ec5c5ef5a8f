//! A few routes of ours went: they are made again before anything is read, which takes longer the more
//! routes there are. The sync that follows sees to all else.

use std::time::Instant;

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use tracing::debug;

use super::Reconciler;
use crate::desired::Desired;
use crate::difference::{Change, wanted};
use crate::monitor::Event;

/// When more go at once, something has happened to all of them, and all are looked at.
const FEW: usize = 64;

impl Reconciler {
    /// Makes the routes again whose going was just heard of, if they are still wanted. One that
    /// somebody else has made meanwhile stays: to add does not replace.
    pub fn mend(&mut self, events: &[Event]) {
        self.note_rivals(events);
        let changes = lost(events, &self.desired, self.settings.protocol);
        if changes.is_empty() {
            return;
        }
        let now = Instant::now();
        let mended = Rtnl::open().map_err(Into::into);
        if let Err(problem) = mended.and_then(|mut rtnl| self.make(&mut rtnl, changes, now)) {
            debug!("left to the next sync: {problem}");
        }
    }

    /// Notes who else makes routes to destinations that had to be repaired.
    fn note_rivals(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Route { destination: Some(to), protocol, gone: false } = *event
                && protocol != self.settings.protocol
            {
                self.fights.met(to, protocol);
            }
        }
    }
}

/// What makes the lost routes again, if they are few and nothing else is known to have happened.
fn lost(events: &[Event], desired: &Desired, own: u8) -> Vec<Change> {
    // With a link or an address changed, or events lost, these routes may be wrong by now.
    if events.iter().any(|event| matches!(event, Event::Link | Event::Overrun)) {
        return Vec::new();
    }
    let gone = events.iter().filter_map(|event| match *event {
        Event::Route { destination, protocol, gone: true } if protocol == own => destination,
        _ => None,
    });
    let make_again = |destination: IpNetwork| {
        let next_hop = *desired.routes.get(&destination)?;
        Some(Change::Add(wanted(destination, next_hop, own)))
    };
    let changes: Vec<_> = gone.filter_map(make_again).collect();
    if changes.len() > FEW { Vec::new() } else { changes }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::desired::NextHop;

    const OWN: u8 = 214;

    fn cidr(number: u8) -> IpNetwork {
        format!("10.0.{number}.0/24").parse().unwrap()
    }

    /// 10.0.0.0/24 to 10.0.99.0/24.
    fn desired() -> Desired {
        let next_hop = NextHop { gateway: [10, 100, 0, 1].into(), link: 2, on_link: false };
        let routes = (0..100).map(|number| (cidr(number), next_hop)).collect();
        Desired { routes, ..Desired::default() }
    }

    fn event(number: u8, protocol: u8, gone: bool) -> Event {
        Event::Route { destination: Some(cidr(number)), protocol, gone }
    }

    fn made(events: &[Event]) -> Vec<IpNetwork> {
        let changes = lost(events, &desired(), OWN);
        changes.iter().map(|change| change.route().destination).collect()
    }

    #[test]
    fn only_routes_of_ours_that_went_and_are_wanted_are_made_again() {
        let events =
            [event(1, OWN, true), event(2, OWN, false), event(3, 4, true), event(200, OWN, true)];
        assert_eq!(made(&events), [cidr(1)]);
    }

    #[test]
    fn nothing_is_made_when_more_has_happened_or_many_went() {
        for other in [Event::Link, Event::Overrun] {
            assert_eq!(made(&[event(1, OWN, true), other]), []);
        }
        let gone =
            |count: u8| (0..count).map(|number| event(number, OWN, true)).collect::<Vec<_>>();
        assert_eq!(made(&gone(64)).len(), 64);
        assert_eq!(made(&gone(65)), []);
    }
}
