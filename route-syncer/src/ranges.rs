//! Arithmetic on address ranges that the address types do not bring.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// The range with its host bits cleared.
pub fn network(range: IpNetwork) -> IpNetwork {
    IpNetwork::new(range.network(), range.prefix()).unwrap_or(range)
}

/// Whether two ranges share an address. Ranges of different families never do.
pub fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}

/// Whether `outer` holds all of `inner`.
pub fn covers(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.is_ipv4() == inner.is_ipv4()
        && outer.prefix() <= inner.prefix()
        && outer.contains(inner.network())
}

/// The range of a single address.
pub fn host(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// The multicast range of each family.
pub fn multicast() -> [IpNetwork; 2] {
    [v4([224, 0, 0, 0], 4), v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)]
}

/// The ranges in which neither Pods nor gateways to them can be (RFC 6890).
pub fn not_unicast() -> Vec<IpNetwork> {
    let mut ranges = vec![
        v4([0, 0, 0, 0], 8),
        v4([127, 0, 0, 0], 8),
        v4([169, 254, 0, 0], 16),
        v4([240, 0, 0, 0], 4),
        v6([0; 8], 127),
        v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    ];
    ranges.extend(multicast());
    ranges
}

fn v4(octets: [u8; 4], prefix: u8) -> IpNetwork {
    let address = Ipv4Addr::from(octets);
    IpNetwork::V4(Ipv4Network::new(address, prefix).unwrap_or_else(|_| address.into()))
}

fn v6(segments: [u16; 8], prefix: u8) -> IpNetwork {
    let address = Ipv6Addr::from(segments);
    IpNetwork::V6(Ipv6Network::new(address, prefix).unwrap_or_else(|_| address.into()))
}

/// Ranges that do not overlap, each with a value, found by any range that overlaps them.
#[derive(Debug)]
pub struct Disjoint<T> {
    /// By first address. Without overlaps a range can touch only its two neighbours in this order.
    by_start: BTreeMap<IpAddr, (IpNetwork, T)>,
}

impl<T> Default for Disjoint<T> {
    fn default() -> Self {
        Self { by_start: BTreeMap::new() }
    }
}

impl<T> Disjoint<T> {
    /// Adds a range. One that overlaps a range that is there is not added.
    pub fn insert(&mut self, range: IpNetwork, value: T) {
        if self.overlapping(range).is_none() {
            self.by_start.insert(range.network(), (range, value));
        }
    }

    /// A range that shares an address with `range`.
    pub fn overlapping(&self, range: IpNetwork) -> Option<(IpNetwork, &T)> {
        let before = self.by_start.range(..=range.network()).next_back();
        let after = self.by_start.range(range.network()..).next();
        let (_, (found, value)) =
            before.into_iter().chain(after).find(|(_, (found, _))| overlap(*found, range))?;
        Some((*found, value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn the_special_ranges_are_what_they_say() {
        let texts: Vec<String> = not_unicast().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts.join(" "),
            "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 240.0.0.0/4 ::/127 ::ffff:0.0.0.0/96 \
             fe80::/10 224.0.0.0/4 ff00::/8"
        );
    }

    #[test]
    fn families_never_overlap() {
        assert!(!overlap(range("0.0.0.0/0"), range("::/0")));
        assert!(!covers(range("::/0"), range("10.0.0.0/8")));
        assert!(covers(range("10.0.0.0/8"), range("10.1.0.0/16")));
        assert!(!covers(range("10.1.0.0/16"), range("10.0.0.0/8")));
    }

    proptest! {
        /// The ordered lookup answers as a look at every pair would.
        #[test]
        fn a_disjoint_set_finds_every_overlap(
            ranges in proptest::collection::vec((0u32..64, 24u8..=32), 1..20)
        ) {
            let mut set = Disjoint::default();
            let mut kept: Vec<IpNetwork> = Vec::new();
            for (low, prefix) in ranges {
                let one = network(IpNetwork::new(Ipv4Addr::from(low << 4).into(), prefix).unwrap());
                let expected = kept.iter().any(|&other| overlap(other, one));
                prop_assert_eq!(set.overlapping(one).is_some(), expected);
                set.insert(one, ());
                if !expected {
                    kept.push(one);
                }
            }
        }
    }
}
