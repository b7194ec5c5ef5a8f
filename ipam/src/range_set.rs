//! A pool of ranges of one family, out of which an attachment gets one address.
//!
//! The configuration has a list of sets: one address of each set is given to every attachment.

use std::fmt;
use std::net::IpAddr;

use crate::range::{Range, RangeError, RangeSpec};

/// At least one range, all of one family, none overlapping another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range>,
}

/// Why one set is refused. The texts are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeSetError {
    /// `[]`: no address could ever come of it.
    #[error("empty range set")]
    Empty,
    /// A range of it is refused.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// IPv4 and IPv6 in one set: which of them an attachment got would be chance.
    #[error("mixed address families")]
    MixedFamilies,
    /// Two ranges of it have an address in common.
    #[error("subnets {0} and {1} overlap")]
    Overlap(Box<Range>, Box<Range>),
}

impl RangeSetError {
    /// What to change in the configuration.
    pub fn remedy(&self) -> String {
        match self {
            Self::Empty => "give the range set at least one range with a subnet".into(),
            Self::Range(error) => error.remedy(),
            Self::MixedFamilies => "give IPv4 and IPv6 a range set each: \
                                    \"ranges\": [[{IPv4}], [{IPv6}]]"
                .into(),
            Self::Overlap(..) => "give the ranges of a set disjoint subnets, or limit them with \
                                  rangeStart and rangeEnd"
                .into(),
        }
    }
}

impl RangeSet {
    /// Checks the ranges, one by one and then against each other.
    ///
    /// # Errors
    /// [`RangeSetError`] for the first rule broken, in the reference's order.
    pub fn new(specs: &[RangeSpec]) -> Result<Self, RangeSetError> {
        let mut ranges: Vec<Range> = Vec::with_capacity(specs.len());
        for spec in specs {
            let range = Range::new(spec)?;
            if ranges.first().is_some_and(|first| first.is_ipv4() != range.is_ipv4()) {
                return Err(RangeSetError::MixedFamilies);
            }
            ranges.push(range);
        }
        if ranges.is_empty() {
            return Err(RangeSetError::Empty);
        }
        for (index, a) in ranges.iter().enumerate() {
            if let Some(b) = ranges[index + 1..].iter().find(|b| a.overlaps(b)) {
                return Err(RangeSetError::Overlap(Box::new(a.clone()), Box::new(b.clone())));
            }
        }
        Ok(Self { ranges })
    }

    /// The ranges, in the order in which they are used up; at least one.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Whether the set is of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.ranges.iter().all(Range::is_ipv4)
    }

    /// How many addresses it hands out; `u128::MAX` stands for more, too.
    pub fn usable(&self) -> u128 {
        self.ranges.iter().map(Range::usable).fold(0, u128::saturating_add)
    }

    /// The range that has `address`, between its start and end.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(address))
    }

    /// Whether a range of the set has `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.range_of(address).is_some()
    }

    /// Whether the two sets have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.ranges.iter().any(|a| other.ranges.iter().any(|b| a.overlaps(b)))
    }
}

/// `first-last,first-last`, as the reference names a set in its errors.
impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn set(subnets: &[&str]) -> Result<RangeSet, RangeSetError> {
        let specs: Vec<RangeSpec> =
            subnets.iter().map(|subnet| RangeSpec::subnet(subnet.parse().unwrap())).collect();
        RangeSet::new(&specs)
    }

    fn error(subnets: &[&str]) -> String {
        set(subnets).unwrap_err().to_string()
    }

    #[test]
    fn errors_have_the_texts_of_the_reference() {
        assert_eq!(error(&[]), "empty range set");
        assert_eq!(error(&["10.0.0.0/31"]), "Network 10.0.0.0/31 too small to allocate from");
        assert_eq!(error(&["10.0.0.0/24", "2001:db8::/64"]), "mixed address families");
        assert_eq!(
            error(&["10.0.0.0/20", "10.1.0.0/24", "10.0.1.0/24"]),
            "subnets 10.0.0.1-10.0.15.254 and 10.0.1.1-10.0.1.254 overlap"
        );
    }

    #[test]
    fn a_set_knows_its_addresses() {
        let set = set(&["10.0.0.0/24", "10.0.2.0/24"]).unwrap();
        assert_eq!(set.to_string(), "10.0.0.1-10.0.0.254,10.0.2.1-10.0.2.254");
        let range = set.range_of("10.0.2.9".parse().unwrap()).unwrap();
        assert_eq!(range.subnet().to_string(), "10.0.2.0/24");
        assert!(!set.contains("10.0.1.9".parse().unwrap()));
        assert!(set.is_ipv4());
    }

    #[test]
    fn sets_overlap_when_any_of_their_ranges_do() {
        let a = set(&["10.0.0.0/24", "10.0.2.0/24"]).unwrap();
        assert!(!a.overlaps(&set(&["10.0.1.0/24", "10.0.3.0/24"]).unwrap()));
        assert!(a.overlaps(&set(&["10.0.1.0/24", "10.0.2.128/25"]).unwrap()));
        assert!(!a.overlaps(&set(&["2001:db8::/64"]).unwrap()));
    }
}
