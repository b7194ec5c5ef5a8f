//! A few routes of ours went: they are made again before anything is read, which takes longer the more
//! routes there are.

use std::time::Instant;

use kernel::Rtnl;
use tracing::debug;

use super::Reconciler;
use crate::desired::Desired;
use crate::difference::Change;
use crate::monitor::Event;
use crate::observed::Route;

/// When more go at once, something has happened to all of them, and all are looked at.
const FEW: usize = 64;

impl Reconciler {
    /// Makes the routes again whose going was just heard of, if they are still wanted. One that
    /// somebody else has made meanwhile stays: to add does not replace. Returns whether nothing else
    /// has happened, and all are there again: then there is no hurry to look at the rest.
    pub fn mend(&mut self, events: &[Event]) -> bool {
        self.note_rivals(events);
        let lost = lost(events, &self.desired, self.settings.protocol);
        if lost.is_empty() {
            return false;
        }
        let nothing_else = events.iter().all(|event| !self.is_about_more(event, &lost));
        let (wanted, now) = (lost.len(), Instant::now());
        let changes = lost.into_iter().map(Change::Add).collect();
        let mended = Rtnl::open().map_err(Into::into);
        match mended.and_then(|mut rtnl| self.make(&mut rtnl, changes, now)) {
            Ok(made) => nothing_else && made.succeeded == wanted,
            Err(problem) => {
                debug!("left to the next sync: {problem}");
                false
            }
        }
    }

    /// Whether something is heard of that is our business, and not the loss of one of these.
    fn is_about_more(&self, event: &Event, lost: &[Route]) -> bool {
        match event {
            Event::Route { route, gone } => self.concerns(route, *gone) && !lost.contains(route),
            Event::Neighbour(link) => self.has_tunnel(*link),
            Event::Link | Event::Host | Event::Overrun => true,
        }
    }

    /// Notes who else makes routes to destinations that had to be repaired.
    fn note_rivals(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Route { route, gone: false } = event
                && route.protocol != self.settings.protocol
            {
                self.fights.met(route.destination, route.protocol);
            }
        }
    }
}

/// The routes that went, if they are few and nothing else is known to have happened.
fn lost(events: &[Event], desired: &Desired, own: u8) -> Vec<Route> {
    // With a link or an address changed, or events lost, these routes may be wrong by now.
    if events.iter().any(|event| matches!(event, Event::Link | Event::Overrun)) {
        return Vec::new();
    }
    let is_wanted = |route: &Route| desired.route_to(route.destination, own) == Some(*route);
    let gone = events.iter().filter_map(|event| match event {
        Event::Route { route, gone: true } if is_wanted(route) => Some(*route),
        _ => None,
    });
    let lost: Vec<_> = gone.collect();
    if lost.len() > FEW { Vec::new() } else { lost }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ipnetwork::IpNetwork;

    use super::*;
    use crate::desired::NextHop;
    use crate::difference::wanted;

    const OWN: u8 = 214;
    const NEXT_HOP: NextHop =
        NextHop { gateway: IpAddr::V4(Ipv4Addr::new(10, 100, 0, 1)), link: 2, on_link: false };

    fn cidr(number: u8) -> IpNetwork {
        format!("10.0.{number}.0/24").parse().unwrap()
    }

    /// 10.0.0.0/24 to 10.0.99.0/24.
    fn desired() -> Desired {
        let routes = (0..100).map(|number| (cidr(number), NEXT_HOP)).collect();
        Desired { routes, ..Desired::default() }
    }

    fn event(number: u8, protocol: u8, gone: bool) -> Event {
        Event::Route { route: wanted(cidr(number), NEXT_HOP, protocol), gone }
    }

    fn made(events: &[Event]) -> Vec<IpNetwork> {
        lost(events, &desired(), OWN).iter().map(|route| route.destination).collect()
    }

    #[test]
    fn only_routes_of_ours_that_went_and_are_wanted_are_made_again() {
        let events =
            [event(1, OWN, true), event(2, OWN, false), event(3, 4, true), event(200, OWN, true)];
        assert_eq!(made(&events), [cidr(1)]);
        let metric = Route { metric: 7, ..wanted(cidr(1), NEXT_HOP, OWN) };
        assert_eq!(made(&[Event::Route { route: metric, gone: true }]), []);
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
