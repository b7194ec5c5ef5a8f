//! Which address is next: the order of candidates, and what is refused before one is looked for.
//!
//! Pure: the addresses taken and the one reserved last come from the store, as arguments.
//!
//! The order is round robin: a container that crashes in a loop gets another address each time,
//! and an address just released rests for a whole round before it is given again, or for a time
//! where the round is short: others may still know it as the one who had it.

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
    /// The address asked for is one that the configuration excludes.
    #[error("failed to allocate for range {index}: requested IP address {address} is excluded")]
    RequestedExcluded {
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
            Self::RequestedExcluded { .. } => {
                "ask for another address, or take this one out of the range's \"exclude\""
            }
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

/// The next address of a set, and the range it is of; `None` when all are taken.
///
/// They are tried from the address after `last` to the end of its range, through the following
/// ranges, round to the first and up to `last` itself, which is tried last. Without a `last` in
/// this set (first use, or the ranges were changed) from the start of the first range. What a
/// range withholds, such as its gateway, is never given. One that is `resting` (the one that was
/// freed first at the front) is given only when there is no other, and then the one that was freed
/// first.
///
/// `next_free` tells the first address from one to another, inclusive, that nobody has.
///
/// # Errors
/// Those of `next_free`.
pub fn choose<'a, E>(
    set: &'a RangeSet,
    last: Option<IpAddr>,
    resting: &[IpAddr],
    mut next_free: impl FnMut(IpAddr, IpAddr) -> Result<Option<IpAddr>, E>,
) -> Result<Option<(IpAddr, &'a Range)>, E> {
    for span in spans(set, last) {
        if let Some(address) = first_of(&span, resting, &mut next_free)? {
            return Ok(Some((address, span.range)));
        }
    }
    for (place, &address) in resting.iter().enumerate() {
        let was_freed_again = resting.iter().skip(place + 1).any(|later| *later == address);
        let range = set.range_of(address).filter(|range| range.withheld_until(address).is_none());
        if let Some(range) = range
            && !was_freed_again
            && next_free(address, address)?.is_some()
        {
            return Ok(Some((address, range)));
        }
    }
    Ok(None)
}

/// Addresses of a range that follow each other, both ends inclusive.
struct Span<'a> {
    range: &'a Range,
    from: IpAddr,
    to: IpAddr,
}

/// The whole set, in the order in which it is tried.
fn spans(set: &RangeSet, last: Option<IpAddr>) -> Vec<Span<'_>> {
    let ranges = set.ranges();
    let whole = |range| Span { range, from: Range::start(range), to: Range::end(range) };
    let of_last = last.and_then(|last| {
        let place = ranges.iter().position(|range| range.contains(last))?;
        Some((last, place, ranges.get(place)?))
    });
    let Some((last, place, range)) = of_last else {
        return ranges.iter().map(whole).collect();
    };
    let rest = range.after(last).map(|from| Span { range, from, to: range.end() });
    let others = ranges.iter().skip(place + 1).chain(ranges.iter().take(place)).map(whole);
    let up_to_last = Span { range, from: range.start(), to: last };
    rest.into_iter().chain(others).chain([up_to_last]).collect()
}

/// The first address of a span that is free, not withheld and not resting.
fn first_of<E>(
    span: &Span<'_>,
    resting: &[IpAddr],
    next_free: &mut impl FnMut(IpAddr, IpAddr) -> Result<Option<IpAddr>, E>,
) -> Result<Option<IpAddr>, E> {
    let mut at = span.from;
    while let Some(free) = next_free(at, span.to)? {
        let withheld = span.range.withheld_until(free);
        if withheld.is_none() && !resting.contains(&free) {
            return Ok(Some(free));
        }
        let next = span.range.after(withheld.unwrap_or(free));
        match next.filter(|next| *next <= span.to) {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Gives each requested address to the first set that contains it: one wish, or none, a set.
///
/// # Errors
/// [`AllocateError::RequestedGateway`], [`AllocateError::RequestedExcluded`];
/// [`AllocateError::Unplaced`] for a second wish in the same
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
            let range = set.range_of(address);
            if range.map(Range::gateway) == Some(address) {
                return Err(AllocateError::RequestedGateway { index, address });
            }
            if range.is_some_and(|range| range.excludes(address)) {
                return Err(AllocateError::RequestedExcluded { index, address });
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
    use std::convert::Infallible;
    use std::net::Ipv4Addr;

    use ipnetwork::IpNetwork;
    use proptest::prelude::*;

    use super::*;
    use crate::range::RangeSpec;

    fn set(subnets: &[&str]) -> RangeSet {
        let specs: Vec<RangeSpec> =
            subnets.iter().map(|subnet| RangeSpec::subnet(subnet.parse().unwrap())).collect();
        RangeSet::new(&specs).unwrap()
    }

    /// The first address from one to another that is not among `taken`.
    fn free<'a>(
        taken: &'a [IpAddr],
    ) -> impl FnMut(IpAddr, IpAddr) -> Result<Option<IpAddr>, Infallible> + 'a {
        |from, to| {
            let range = Range::new(&RangeSpec {
                start: Some(from),
                end: Some(to),
                ..RangeSpec::subnet(IpNetwork::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap())
            });
            let all =
                std::iter::successors(Some(from), |address| range.as_ref().ok()?.after(*address));
            Ok(all.filter(|address| !taken.contains(address)).find(|address| *address <= to))
        }
    }

    /// All addresses in the order in which they are given, none given back; those of `resting`
    /// freed lately.
    fn order(set: &RangeSet, last: Option<IpAddr>, resting: &[IpAddr]) -> Vec<IpAddr> {
        let mut given = Vec::new();
        while let Ok(Some((address, range))) = choose(set, last, resting, free(&given)) {
            assert!(range.contains(address));
            given.push(address);
        }
        given
    }

    /// The last octets, for addresses as text.
    fn octets(set: &RangeSet, last: Option<&str>, resting: &[&str]) -> Vec<u8> {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let resting: Vec<IpAddr> = resting.iter().map(|text| parse(text)).collect();
        let order = order(set, last.map(parse), &resting);
        order
            .iter()
            .map(|address| match address {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(v6) => v6.octets()[15],
            })
            .collect()
    }

    #[test]
    fn a_round_begins_after_the_last_and_ends_with_it() {
        let small = set(&["192.0.2.0/29"]);
        let order = |last| octets(&small, last, &[]);
        assert_eq!(order(None), [2, 3, 4, 5, 6], "gateway and broadcast never");
        assert_eq!(order(Some("192.0.2.3")), [4, 5, 6, 2, 3]);
        assert_eq!(order(Some("192.0.2.6")), [2, 3, 4, 5, 6]);
        assert_eq!(order(Some("192.0.2.1")), [2, 3, 4, 5, 6], "the gateway as last");
        assert_eq!(order(Some("198.51.100.3")), [2, 3, 4, 5, 6], "outside: from the start");
        assert_eq!(order(Some("2001:db8::3")), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn ranges_follow_each_other_in_order() {
        let two = set(&["192.0.2.0/30", "198.51.100.8/29"]);
        assert_eq!(octets(&two, None, &[]), [2, 10, 11, 12, 13, 14]);
        assert_eq!(octets(&two, Some("192.0.2.2"), &[]), [10, 11, 12, 13, 14, 2]);
        assert_eq!(octets(&two, Some("198.51.100.14"), &[]), [2, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn what_rests_comes_last_and_the_longest_freed_of_it_first() {
        let small = set(&["192.0.2.0/29"]);
        let resting = ["192.0.2.5", "192.0.2.3", "192.0.2.2", "192.0.2.5"];
        assert_eq!(octets(&small, None, &resting), [4, 6, 3, 2, 5], "5 was freed twice");
        let others = ["192.0.2.1", "10.0.0.1", "192.0.2.6"];
        assert_eq!(octets(&small, None, &others), [2, 3, 4, 5, 6], "the gateway, another range's");
    }

    #[test]
    fn a_candidate_comes_with_its_range() {
        let two = set(&["192.0.2.0/30", "198.51.100.8/29"]);
        let last = Some("192.0.2.2".parse().unwrap());
        let (address, range) = choose(&two, last, &[], free(&[])).unwrap().unwrap();
        assert_eq!(address.to_string(), "198.51.100.10");
        assert_eq!(range.gateway().to_string(), "198.51.100.9");
    }

    #[test]
    fn huge_ranges_and_exclusions_are_not_enumerated() {
        let spec = RangeSpec {
            exclude: vec!["::/1".parse().unwrap()],
            ..RangeSpec::subnet("::/0".parse().unwrap())
        };
        let half = RangeSet::new(&[spec]).unwrap();
        let all_free = |from, _| Ok::<_, Infallible>(Some(from));
        let (address, _) = choose(&half, None, &[], all_free).unwrap().unwrap();
        assert_eq!(address.to_string(), "8000::");
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
        /// is at its end, without what is withheld, and what rests moved behind it all.
        #[test]
        fn the_order_is_that_of_a_plain_list(
            ranges in prop::collection::vec(limited_range(), 1..4),
            last in (0u8..4, any::<u8>()),
            excluded in (any::<u8>(), 24u8..=32),
            resting in prop::collection::vec((0u8..4, any::<u8>()), 0..6),
        ) {
            let address = |(net, host): (u8, u8)| IpAddr::V4(Ipv4Addr::new(10, 0, net, host));
            let resting: Vec<IpAddr> = resting.into_iter().map(address).collect();
            let exclude = |net| IpNetwork::new(address((net, excluded.0)), excluded.1).unwrap();
            let specs: Vec<RangeSpec> = (0u8..).zip(&ranges).map(|(net, range)| RangeSpec {
                subnet: format!("10.0.{net}.0/24").parse().unwrap(),
                start: Some(address((net, range.0))),
                end: Some(address((net, range.1))),
                gateway: Some(address((net, range.2))),
                exclude: vec![exclude(net)],
            }).collect();
            let set = RangeSet::new(&specs).unwrap();

            let mut model: Vec<(IpAddr, bool)> = (0u8..).zip(&ranges)
                .flat_map(|(net, &(start, end, gateway))| {
                    let withheld = move |host| {
                        host == gateway || exclude(net).contains(address((net, host)))
                    };
                    (start..=end).map(move |host| (address((net, host)), withheld(host)))
                })
                .collect();
            if let Some(at) = model.iter().position(|(a, _)| *a == address(last)) {
                model.rotate_left(at + 1);
            }
            let given = model.into_iter().filter(|(_, withheld)| !withheld).map(|(a, _)| a);
            let (mut model, mut rest): (Vec<IpAddr>, Vec<IpAddr>) =
                given.partition(|address| !resting.contains(address));
            rest.sort_by_key(|address| resting.iter().rposition(|freed| freed == address));
            model.extend(rest);
            prop_assert_eq!(order(&set, Some(address(last)), &resting), model);
        }
    }
}
