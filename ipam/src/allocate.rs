//! Which address is next: the order of candidates, and what is refused before one is looked for.
//!
//! Pure: the addresses taken and the one reserved last come from the store, as arguments.
//!
//! The order is round robin: a container that crashes in a loop gets another address each time,
//! and an address just released rests for a whole round before it is given again.

use std::net::IpAddr;

use crate::range::Range;
use crate::range_set::RangeSet;

/// Why no address is given. The texts are the reference's; tools match them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Every address of the set is taken.
    #[error("failed to allocate for range {index}: no IP addresses available in range set: {set}")]
    Exhausted {
        /// The set's place in the configuration.
        index: usize,
        /// The set's ranges.
        set: String,
    },
    /// This container and interface have an address of the set already.
    #[error(
        "failed to allocate for range {index}: {address} has been allocated to {container_id}, \
         duplicate allocation is not allowed"
    )]
    Duplicate {
        /// The set's place in the configuration.
        index: usize,
        /// The address it has.
        address: IpAddr,
        /// Who has it.
        container_id: String,
    },
    /// The address asked for is the gateway's.
    #[error("failed to allocate for range {index}: requested ip {address} is subnet's gateway")]
    RequestedGateway {
        /// The set's place in the configuration.
        index: usize,
        /// The address asked for.
        address: IpAddr,
    },
    /// The address asked for belongs to another attachment.
    #[error(
        "failed to allocate for range {index}: requested IP address {address} is not available \
         in range set {set}"
    )]
    RequestedTaken {
        /// The set's place in the configuration.
        index: usize,
        /// The address asked for.
        address: IpAddr,
        /// The set's ranges.
        set: String,
    },
    /// Addresses asked for lie in no set, or in one that has its request already.
    #[error("failed to allocate all requested IPs:{}", spaced(.0))]
    Unplaced(Vec<IpAddr>),
}

impl AllocateError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => {
                "wait until containers are gone, remove reservations of containers that no longer \
                 exist (GC does), or widen the range"
            }
            Self::Duplicate { .. } => "DEL this container and interface before the next ADD",
            Self::RequestedGateway { .. } => "ask for another address",
            Self::RequestedTaken { .. } => {
                "ask for another address, or DEL the container that has this one"
            }
            Self::Unplaced(_) => {
                "ask for addresses that lie in a range of the configuration, one a range set"
            }
        }
    }
}

fn spaced(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| format!(" {address}")).collect()
}

/// The candidates of a set in the order in which they are tried.
///
/// From the address after `last` to the end of its range, through the following ranges, round to
/// the first and up to `last` itself, which is tried last. Without a `last` in this set (first
/// use, or the ranges were changed) from the start of the first range. The gateway of a range is
/// never a candidate of that range.
pub fn candidates(set: &RangeSet, last: Option<IpAddr>) -> Candidates<'_> {
    let ranges = set.ranges();
    let of_last = last.and_then(|last| {
        let index = ranges.iter().position(|range| range.contains(last))?;
        following(ranges, Place { index, address: last })
    });
    let first = of_last.or_else(|| start_of(ranges, 0));
    Candidates { ranges, first, next: first }
}

/// Iterator of [`candidates`]: each address with the range it is of. It makes a single round.
#[derive(Debug, Clone)]
pub struct Candidates<'a> {
    ranges: &'a [Range],
    first: Option<Place>,
    next: Option<Place>,
}

/// An address and the range it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: usize,
    address: IpAddr,
}

impl<'a> Iterator for Candidates<'a> {
    type Item = (IpAddr, &'a Range);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let place = self.next?;
            self.next = following(self.ranges, place).filter(|next| Some(*next) != self.first);
            let range = self.ranges.get(place.index)?;
            if place.address != range.gateway() {
                return Some((place.address, range));
            }
        }
    }
}

/// The place after `place`, round from the last range to the first.
fn following(ranges: &[Range], place: Place) -> Option<Place> {
    match ranges.get(place.index)?.after(place.address) {
        Some(address) => Some(Place { address, ..place }),
        None => start_of(ranges, (place.index + 1) % ranges.len()),
    }
}

fn start_of(ranges: &[Range], index: usize) -> Option<Place> {
    ranges.get(index).map(|range| Place { index, address: range.start() })
}

/// Gives each requested address to the first set that contains it: one wish, or none, a set.
///
/// # Errors
/// [`AllocateError::RequestedGateway`]; [`AllocateError::Unplaced`] for a second wish in the same
/// set and for one that lies in no set, since the runtime would not get what it asked for.
pub fn match_requests(
    sets: &[RangeSet],
    requested: &[IpAddr],
) -> Result<Vec<Option<IpAddr>>, AllocateError> {
    let mut open: Vec<IpAddr> = Vec::with_capacity(requested.len());
    for address in requested {
        if !open.contains(address) {
            open.push(*address);
        }
    }
    let mut wishes = Vec::with_capacity(sets.len());
    for (index, set) in sets.iter().enumerate() {
        let wish = open.iter().position(|address| set.contains(*address));
        let wish = wish.map(|position| open.remove(position));
        if let Some(address) = wish {
            let gateway = set.range_of(address).map(Range::gateway);
            if gateway == Some(address) {
                return Err(AllocateError::RequestedGateway { index, address });
            }
        }
        wishes.push(wish);
    }
    if open.is_empty() { Ok(wishes) } else { Err(AllocateError::Unplaced(open)) }
}

/// Refuses a second address for one container and interface: `held` are those it has.
///
/// This holds for requested addresses too, where the reference forgets to look.
///
/// # Errors
/// [`AllocateError::Duplicate`]
pub fn check_duplicate(
    sets: &[RangeSet],
    held: &[IpAddr],
    container_id: &str,
) -> Result<(), AllocateError> {
    for (index, set) in sets.iter().enumerate() {
        if let Some(&address) = held.iter().find(|address| set.contains(**address)) {
            let container_id = container_id.to_owned();
            return Err(AllocateError::Duplicate { index, address, container_id });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::range::RangeSpec;

    fn set(subnets: &[&str]) -> RangeSet {
        let specs: Vec<RangeSpec> =
            subnets.iter().map(|subnet| RangeSpec::subnet(subnet.parse().unwrap())).collect();
        RangeSet::new(&specs).unwrap()
    }

    /// The last octets of the candidates.
    fn order(set: &RangeSet, last: Option<&str>) -> Vec<u8> {
        candidates(set, last.map(|last| last.parse().unwrap()))
            .map(|(address, _)| match address {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(v6) => v6.octets()[15],
            })
            .collect()
    }

    #[test]
    fn a_round_begins_after_the_last_and_ends_with_it() {
        let small = set(&["192.0.2.0/29"]);
        assert_eq!(order(&small, None), [2, 3, 4, 5, 6], "gateway and broadcast never");
        assert_eq!(order(&small, Some("192.0.2.3")), [4, 5, 6, 2, 3]);
        assert_eq!(order(&small, Some("192.0.2.6")), [2, 3, 4, 5, 6]);
        assert_eq!(order(&small, Some("192.0.2.1")), [2, 3, 4, 5, 6], "the gateway as last");
        assert_eq!(order(&small, Some("198.51.100.3")), [2, 3, 4, 5, 6], "outside: from the start");
        assert_eq!(order(&small, Some("2001:db8::3")), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn ranges_follow_each_other_in_order() {
        let two = set(&["192.0.2.0/30", "198.51.100.8/29"]);
        assert_eq!(order(&two, None), [2, 10, 11, 12, 13, 14]);
        assert_eq!(order(&two, Some("192.0.2.2")), [10, 11, 12, 13, 14, 2]);
        assert_eq!(order(&two, Some("198.51.100.14")), [2, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_candidate_comes_with_its_range() {
        let two = set(&["192.0.2.0/30", "198.51.100.8/29"]);
        let last = Some("192.0.2.2".parse().unwrap());
        let (address, range) = candidates(&two, last).next().unwrap();
        assert_eq!(address.to_string(), "198.51.100.10");
        assert_eq!(range.gateway().to_string(), "198.51.100.9");
    }

    #[test]
    fn a_huge_range_is_not_enumerated() {
        let v6 = set(&["2001:db8::/64"]);
        let (address, _) = candidates(&v6, None).next().unwrap();
        assert_eq!(address.to_string(), "2001:db8::2");
    }

    #[test]
    fn requests_go_to_the_first_set_that_has_them() {
        let sets = [set(&["10.1.2.0/24"]), set(&["10.1.3.0/24"]), set(&["2001:db8::/64"])];
        let wish = |requested: &[&str]| {
            let requested: Vec<IpAddr> = requested.iter().map(|a| a.parse().unwrap()).collect();
            match match_requests(&sets, &requested) {
                Ok(wishes) => format!(
                    "{:?}",
                    wishes.iter().map(|w| w.map(|a| a.to_string())).collect::<Vec<_>>()
                ),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(wish(&[]), "[None, None, None]");
        assert_eq!(
            wish(&["2001:db8::8", "10.1.2.88"]),
            r#"[Some("10.1.2.88"), None, Some("2001:db8::8")]"#
        );
        assert_eq!(wish(&["10.1.2.88", "10.1.2.88"]), r#"[Some("10.1.2.88"), None, None]"#);
        assert_eq!(
            wish(&["10.1.2.88", "10.1.2.77", "10.9.9.9"]),
            "failed to allocate all requested IPs: 10.1.2.77 10.9.9.9"
        );
        assert_eq!(
            wish(&["10.1.3.1"]),
            "failed to allocate for range 1: requested ip 10.1.3.1 is subnet's gateway"
        );
    }

    #[test]
    fn a_second_address_in_a_set_is_refused() {
        let sets = [set(&["10.1.2.0/24"]), set(&["2001:db8::/64"])];
        let check = |held: &str| check_duplicate(&sets, &[held.parse().unwrap()], "abc");
        assert_eq!(check("10.9.9.9"), Ok(()));
        assert_eq!(
            check("2001:db8::5").unwrap_err().to_string(),
            "failed to allocate for range 1: 2001:db8::5 has been allocated to abc, duplicate \
             allocation is not allowed"
        );
    }

    /// One range of a test set: a /24 of its own, limited, its gateway anywhere in it.
    fn limited_range() -> impl Strategy<Value = (u8, u8, u8)> {
        (1u8..=250, 0u8..=5, 0u8..=255)
            .prop_map(|(start, more, gateway)| (start, start + more, gateway))
    }

    proptest! {
        /// Against a model: every address of every range in a list, turned round so that `last`
        /// is at its end, without the gateways.
        #[test]
        fn the_order_is_that_of_a_plain_list(
            ranges in prop::collection::vec(limited_range(), 1..4),
            last in (0u8..4, any::<u8>()),
        ) {
            let address = |(net, host): (u8, u8)| IpAddr::V4(Ipv4Addr::new(10, 0, net, host));
            let specs: Vec<RangeSpec> = (0u8..).zip(&ranges).map(|(net, range)| RangeSpec {
                subnet: format!("10.0.{net}.0/24").parse().unwrap(),
                start: Some(address((net, range.0))),
                end: Some(address((net, range.1))),
                gateway: Some(address((net, range.2))),
            }).collect();
            let set = RangeSet::new(&specs).unwrap();

            let mut model: Vec<(IpAddr, bool)> = (0u8..).zip(&ranges)
                .flat_map(|(net, &(start, end, gateway))| {
                    (start..=end).map(move |host| (address((net, host)), host == gateway))
                })
                .collect();
            if let Some(at) = model.iter().position(|(a, _)| *a == address(last)) {
                model.rotate_left(at + 1);
            }
            let model: Vec<IpAddr> =
                model.into_iter().filter(|(_, gateway)| !gateway).map(|(a, _)| a).collect();

            let order: Vec<IpAddr> =
                candidates(&set, Some(address(last))).map(|(a, _)| a).collect();
            prop_assert_eq!(&order, &model);
        }
    }
}
