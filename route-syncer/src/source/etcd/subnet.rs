//! Which subnets there are, and which of them a node takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::key::Subnet;
use crate::ranges::Disjoint;

/// The subnets of one family: ranges of one size, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The network address of the first subnet.
    pub first: IpAddr,
    /// That of the last one.
    pub last: IpAddr,
    /// Their prefix length.
    pub prefix: u8,
}

/// The subnets that nodes can have. In a dual-stack cluster subnet number n of IPv4 goes with
/// number n of IPv6: so who has the one cannot lose the other to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    /// IPv4.
    pub v4: Pool,
    /// IPv6, in a dual-stack cluster.
    pub v6: Option<Pool>,
}

impl Pool {
    fn bits(&self) -> u8 {
        if self.first.is_ipv4() { 32 } else { 128 }
    }

    /// The addresses in one subnet. No pool has subnets of a whole family, so this is no overflow.
    fn size(&self) -> u128 {
        1 << (self.bits() - self.prefix).min(127)
    }

    /// How many subnets there are.
    pub fn count(&self) -> u128 {
        number(self.last).saturating_sub(number(self.first)) / self.size() + 1
    }

    fn address(&self, index: u128) -> u128 {
        number(self.first) + index * self.size()
    }

    /// The first subnet that begins after the end of `range`.
    fn index_after(&self, range: IpNetwork) -> u128 {
        let end = number(range.broadcast());
        end.saturating_sub(number(self.first)) / self.size() + 1
    }
}

impl Pools {
    /// The subnet of this number.
    fn subnet(&self, index: u128) -> Option<Subnet> {
        let v4 = u32::try_from(self.v4.address(index)).ok()?;
        let v4 = Ipv4Network::new(Ipv4Addr::from(v4), self.v4.prefix).ok()?;
        let v6 = self
            .v6
            .map(|pool| Ipv6Network::new(Ipv6Addr::from(pool.address(index)), pool.prefix).ok());
        Some(Subnet { v4, v6: v6.map_or(Some(None), |v6| v6.map(Some))? })
    }

    /// How many subnets there are.
    pub fn count(&self) -> u128 {
        self.v6.map_or(u128::MAX, |v6| v6.count()).min(self.v4.count())
    }

    /// A subnet that overlaps no used range: the first one from `start` on, around the end. Nodes
    /// that start at once look from different places on, so that they seldom meet.
    pub fn pick(&self, start: u64, mut used: Vec<IpNetwork>) -> Option<Subnet> {
        // The wider ranges first: one that lies in another need not be looked at again.
        used.sort_by_key(IpNetwork::prefix);
        // Each used range is jumped over once at most, and once more after the end.
        let mut steps = 2 * used.len() + 2;
        let mut taken = Disjoint::default();
        for range in used {
            taken.insert(range, ());
        }
        let (count, mut index) = (self.count(), u128::from(start) % self.count());
        while steps > 0 {
            let subnet = self.subnet(index)?;
            match self.next(&subnet, &taken) {
                None => return Some(subnet),
                Some(next) => index = if next < count { next } else { 0 },
            }
            steps -= 1;
        }
        None
    }

    /// Where to look next, if the subnet is not free.
    fn next(&self, subnet: &Subnet, taken: &Disjoint<()>) -> Option<u128> {
        let v4 = taken.overlapping(subnet.v4.into()).map(|(range, ())| self.v4.index_after(range));
        let v6 = self.v6.zip(subnet.v6).and_then(|(pool, v6)| {
            taken.overlapping(v6.into()).map(|(range, ())| pool.index_after(range))
        });
        v4.into_iter().chain(v6).max()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pool(first: &str, last: &str, prefix: u8) -> Pool {
        Pool { first: first.parse().unwrap(), last: last.parse().unwrap(), prefix }
    }

    fn four() -> Pools {
        Pools { v4: pool("10.0.1.0", "10.0.4.0", 24), v6: None }
    }

    fn used(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn picked(pools: &Pools, start: u64, taken: &[&str]) -> Option<String> {
        pools.pick(start, used(taken)).map(|subnet| subnet.to_string())
    }

    #[test]
    fn the_first_free_one_from_the_start_on_is_picked() {
        let pools = four();
        assert_eq!(pools.count(), 4);
        assert_eq!(picked(&pools, 0, &[]).unwrap(), "10.0.1.0-24");
        assert_eq!(picked(&pools, 6, &[]).unwrap(), "10.0.3.0-24");
        assert_eq!(picked(&pools, 2, &["10.0.3.0/24", "10.0.4.0/24"]).unwrap(), "10.0.1.0-24");
        let all = ["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "10.0.4.0/24"];
        assert_eq!(picked(&pools, 1, &all), None);
    }

    #[test]
    fn ranges_of_other_sizes_are_in_the_way_too() {
        let pools = four();
        let taken = ["10.0.2.128/25", "10.0.0.0/23", "10.0.3.7/32"];
        assert_eq!(picked(&pools, 0, &taken).unwrap(), "10.0.4.0-24");
        assert_eq!(picked(&pools, 0, &["10.0.0.0/8"]), None);
        assert_eq!(picked(&pools, 0, &["10.0.0.0/8", "10.0.1.0/24"]), None);
    }

    #[test]
    fn both_families_are_of_the_same_number() {
        let pools = Pools { v6: Some(pool("fd00:0:0:1::", "fd00:0:0:3::", 64)), ..four() };
        assert_eq!(pools.count(), 3);
        assert_eq!(picked(&pools, 1, &[]).unwrap(), "10.0.2.0-24&fd00:0:0:2::-64");
        let taken = ["fd00:0:0:2::/64", "10.0.3.0/24"];
        assert_eq!(picked(&pools, 1, &taken).unwrap(), "10.0.1.0-24&fd00:0:0:1::-64");
        let huge = Pools { v6: Some(pool("fd00::1:0:0:0", "fd00:0:ffff:ffff::", 64)), ..four() };
        assert_eq!(huge.count(), 4);
    }

    proptest! {
        /// Taken one after the other, every subnet is found, and none twice.
        #[test]
        fn all_are_found_and_none_twice(starts in proptest::collection::vec(any::<u64>(), 5)) {
            let mut taken = BTreeSet::new();
            for start in starts {
                let used = taken.iter().copied().collect();
                match four().pick(start, used) {
                    Some(subnet) => prop_assert!(taken.insert(IpNetwork::V4(subnet.v4))),
                    None => prop_assert_eq!(taken.len(), 4),
                }
            }
            prop_assert_eq!(taken.len(), 4);
        }
    }
}
