//! One range of addresses: a subnet, the part of it that is handed out, and its gateway.
//!
//! Pure: no file and no kernel is touched here. The rules and the texts of the errors are those of
//! the reference `host-local` (people and tools match them).

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// A range as the configuration gives it; what is absent gets a default in [`Range::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSpec {
    /// The network, with the prefix length that the addresses are given with.
    pub subnet: IpNetwork,
    /// The first address to hand out; by default the first after the network address.
    pub start: Option<IpAddr>,
    /// The last address to hand out, inclusive; by default the last of the subnet, without the
    /// broadcast address in IPv4.
    pub end: Option<IpAddr>,
    /// The gateway, never handed out; by default the first address after the network address.
    pub gateway: Option<IpAddr>,
    /// Addresses of the subnet that are never handed out; host bits count for nothing.
    pub exclude: Vec<IpNetwork>,
}

impl RangeSpec {
    /// A whole subnet, with every default.
    pub fn subnet(subnet: IpNetwork) -> Self {
        Self { subnet, start: None, end: None, gateway: None, exclude: Vec::new() }
    }
}

/// A checked range, every field filled in.
///
/// `start` and `end` are inclusive and lie in `subnet`. The gateway may lie outside: the
/// reference accepts that, and a gateway reached through another route is of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    start: IpAddr,
    end: IpAddr,
    gateway: IpAddr,
    exclude: Vec<IpNetwork>,
}

/// Why a range is refused. The texts are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Fewer than two host bits: nothing remains beside network, gateway and broadcast.
    #[error("Network {0} too small to allocate from")]
    TooSmall(IpNetwork),
    /// An IPv4-mapped IPv6 address with an IPv6 prefix.
    #[error("IPNet IP and Mask version mismatch")]
    MixedNotation,
    /// The subnet is the address of a host in it.
    #[error(
        "Network has host bits set. For a subnet mask of length {prefix} the network address is {network}"
    )]
    HostBits {
        /// The prefix length given.
        prefix: u8,
        /// What the subnet's address should have been.
        network: IpAddr,
    },
    /// The first address is outside the subnet or after the last.
    #[error("RangeStart {start} not in network {subnet}")]
    Start {
        /// The first address given.
        start: IpAddr,
        /// The subnet it should be in.
        subnet: IpNetwork,
    },
    /// What is excluded is no part of the subnet.
    #[error("exclude {exclude} not in network {subnet}")]
    Exclude {
        /// What is excluded.
        exclude: IpNetwork,
        /// The subnet it should be in.
        subnet: IpNetwork,
    },
    /// The last address is outside the subnet or before the first.
    #[error("RangeEnd {end} not in network {subnet}")]
    End {
        /// The last address given.
        end: IpAddr,
        /// The subnet it should be in.
        subnet: IpNetwork,
    },
}

impl RangeError {
    /// What to change in the configuration.
    pub fn remedy(&self) -> String {
        match self {
            Self::TooSmall(_) => "give a subnet of at least four addresses: a prefix of at most \
                                  /30 in IPv4, /126 in IPv6"
                .into(),
            Self::MixedNotation => "write the subnet as plain IPv4, such as 10.0.0.0/24".into(),
            Self::HostBits { prefix, network } => {
                format!("write the subnet as {network}/{prefix}")
            }
            Self::Start { subnet, .. } => {
                format!("give a rangeStart inside {subnet} that is not after rangeEnd")
            }
            Self::Exclude { subnet, .. } => {
                format!("exclude addresses and networks inside {subnet} only")
            }
            Self::End { subnet, .. } => {
                format!("give a rangeEnd inside {subnet} that is not before rangeStart")
            }
        }
    }
}

impl Range {
    /// Checks a range and fills in what is absent.
    ///
    /// # Errors
    /// [`RangeError`] for the first rule broken, in the reference's order.
    pub fn new(spec: &RangeSpec) -> Result<Self, RangeError> {
        let subnet = spec.subnet;
        check_subnet(subnet)?;
        let first_host = successor(subnet.ip()).unwrap_or(subnet.ip());

        let start = spec.start.unwrap_or(first_host);
        let end = spec.end.unwrap_or_else(|| last_host(subnet));
        let same_family = start.is_ipv4() == end.is_ipv4();
        if !subnet.contains(start) || (same_family && spec.start.is_some() && start > end) {
            return Err(RangeError::Start { start, subnet });
        }
        if !subnet.contains(end) || end < start {
            return Err(RangeError::End { end, subnet });
        }

        let is_part = |exclude: &&IpNetwork| {
            subnet.contains(exclude.ip()) && subnet.prefix() <= exclude.prefix()
        };
        if let Some(&exclude) = spec.exclude.iter().find(|exclude| !is_part(exclude)) {
            return Err(RangeError::Exclude { exclude, subnet });
        }
        let gateway = spec.gateway.unwrap_or(first_host);
        Ok(Self { subnet, start, end, gateway, exclude: spec.exclude.clone() })
    }

    /// The network the range is part of.
    pub fn subnet(&self) -> IpNetwork {
        self.subnet
    }

    /// The first address, inclusive.
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// The last address, inclusive.
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// The gateway of the subnet, never handed out.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Whether the configuration excludes this address.
    pub fn excludes(&self, address: IpAddr) -> bool {
        self.exclude.iter().any(|exclude| exclude.contains(address))
    }

    /// The last address of the block of addresses that are not handed out and in which this one
    /// lies, if it does: the gateway is a block of its own, what is excluded is another.
    pub fn withheld_until(&self, address: IpAddr) -> Option<IpAddr> {
        if address == self.gateway {
            return Some(address);
        }
        let block = self.exclude.iter().find(|exclude| exclude.contains(address))?;
        Some(last_of(*block))
    }

    /// How many addresses it hands out; `u128::MAX` for the one range that has one more.
    pub fn usable(&self) -> u128 {
        let gateway = (self.gateway, self.gateway);
        let excluded = self.exclude.iter().map(|exclude| (exclude.network(), last_of(*exclude)));
        let mut blocks: Vec<_> = excluded.chain([gateway]).collect();
        blocks.sort_unstable();
        let (mut usable, mut at) = (0u128, Some(self.start));
        // From block to block: what lies before each of them is handed out.
        for (first, last) in blocks {
            let Some(from) = at.filter(|from| *from <= last && first <= self.end) else { continue };
            usable += distance(from, first.max(from));
            at = self.after(last.min(self.end));
        }
        usable.saturating_add(at.map_or(0, |from| distance(from, self.end).saturating_add(1)))
    }

    /// Whether the range is of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.subnet.is_ipv4()
    }

    /// Whether `address` lies between start and end (the gateway does too, as a rule).
    ///
    /// `IpAddr` orders every IPv4 address before every IPv6 address, so an address of the other
    /// family is never between.
    pub fn contains(&self, address: IpAddr) -> bool {
        (self.start..=self.end).contains(&address)
    }

    /// `address` with the prefix length of the subnet, which fits every address of the range.
    pub fn with_prefix(&self, address: IpAddr) -> IpNetwork {
        IpNetwork::new(address, self.subnet.prefix()).unwrap_or_else(|_| address.into())
    }

    /// Whether the two ranges have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The address after `address` in this range; `None` at the end.
    pub fn after(&self, address: IpAddr) -> Option<IpAddr> {
        successor(address).filter(|next| self.contains(*next))
    }
}

/// `first-last`, as the reference names a range in its errors.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

fn check_subnet(subnet: IpNetwork) -> Result<(), RangeError> {
    let bits = if subnet.is_ipv4() { 32 } else { 128 };
    if subnet.prefix() > bits - 2 {
        return Err(RangeError::TooSmall(subnet));
    }
    if subnet.ip().to_canonical() != subnet.ip() {
        return Err(RangeError::MixedNotation);
    }
    if subnet.ip() != subnet.network() {
        return Err(RangeError::HostBits { prefix: subnet.prefix(), network: subnet.network() });
    }
    Ok(())
}

/// The last address handed out by default: the one before broadcast in IPv4, the very last in
/// IPv6, which has no broadcast.
fn last_host(subnet: IpNetwork) -> IpAddr {
    match subnet {
        IpNetwork::V4(v4) => {
            std::net::Ipv4Addr::from_bits(v4.broadcast().to_bits().saturating_sub(1)).into()
        }
        IpNetwork::V6(v6) => v6.broadcast().into(),
    }
}

/// From one address to a later one of its family.
fn distance(from: IpAddr, to: IpAddr) -> u128 {
    let bits = |address| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    bits(to).saturating_sub(bits(from))
}

fn last_of(network: IpNetwork) -> IpAddr {
    match network {
        IpNetwork::V4(v4) => v4.broadcast().into(),
        IpNetwork::V6(v6) => v6.broadcast().into(),
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn spec(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeSpec {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        RangeSpec {
            subnet: subnet.parse().unwrap(),
            start: address(start),
            end: address(end),
            gateway: address(gateway),
            exclude: Vec::new(),
        }
    }

    /// The range as "start end gateway", or the error's text.
    fn outcome(subnet: &str, start: &str, end: &str, gateway: &str) -> String {
        match Range::new(&spec(subnet, start, end, gateway)) {
            Ok(range) => format!("{} {} {}", range.start(), range.end(), range.gateway()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn defaults_follow_the_subnet() {
        let all = |subnet| outcome(subnet, "", "", "");
        assert_eq!(all("192.0.2.0/24"), "192.0.2.1 192.0.2.254 192.0.2.1");
        assert_eq!(all("192.0.2.0/25"), "192.0.2.1 192.0.2.126 192.0.2.1");
        assert_eq!(all("192.0.2.4/30"), "192.0.2.5 192.0.2.6 192.0.2.5");
        assert_eq!(all("0.0.0.0/0"), "0.0.0.1 255.255.255.254 0.0.0.1");
        assert_eq!(
            all("2001:db8:1::/64"),
            "2001:db8:1::1 2001:db8:1:0:ffff:ffff:ffff:ffff 2001:db8:1::1"
        );
        assert_eq!(all("::/0"), "::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1");
    }

    #[test]
    fn explicit_fields_are_kept() {
        assert_eq!(
            outcome("192.0.2.0/24", "192.0.2.40", "192.0.2.50", "192.0.2.254"),
            "192.0.2.40 192.0.2.50 192.0.2.254"
        );
        // Network and broadcast addresses are handed out when asked for by name, and the gateway
        // may lie outside: so does the reference.
        assert_eq!(
            outcome("192.0.2.0/24", "192.0.2.0", "192.0.2.255", "198.51.100.1"),
            "192.0.2.0 192.0.2.255 198.51.100.1"
        );
    }

    #[test]
    fn errors_have_the_texts_of_the_reference() {
        let subnet = |subnet| outcome(subnet, "", "", "");
        assert_eq!(
            subnet("192.0.2.12/24"),
            "Network has host bits set. For a subnet mask of length 24 the network address is \
             192.0.2.0"
        );
        assert_eq!(
            subnet("2001:db8:24:19ff::/63"),
            "Network has host bits set. For a subnet mask of length 63 the network address is \
             2001:db8:24:19fe::"
        );
        assert_eq!(subnet("192.0.2.0/31"), "Network 192.0.2.0/31 too small to allocate from");
        assert_eq!(subnet("192.0.2.1/32"), "Network 192.0.2.1/32 too small to allocate from");
        assert_eq!(subnet("2001:db8::/127"), "Network 2001:db8::/127 too small to allocate from");
        assert_eq!(subnet("::ffff:10.0.0.0/120"), "IPNet IP and Mask version mismatch");

        let part = |start, end| outcome("192.0.2.0/24", start, end, "");
        let start = |a| format!("RangeStart {a} not in network 192.0.2.0/24");
        let end = |a| format!("RangeEnd {a} not in network 192.0.2.0/24");
        assert_eq!(part("192.0.3.0", ""), start("192.0.3.0"));
        assert_eq!(part("2001:db8::1", ""), start("2001:db8::1"));
        assert_eq!(part("", "192.0.4.0"), end("192.0.4.0"));
        assert_eq!(part("192.0.2.9", "2001:db8::1"), end("2001:db8::1"));
        assert_eq!(part("192.0.2.50", "192.0.2.40"), start("192.0.2.50"));
        // Before the default start, and after the default end (where the reference loops).
        assert_eq!(part("", "192.0.2.0"), end("192.0.2.0"));
        assert_eq!(part("192.0.2.255", ""), start("192.0.2.255"));
    }

    #[test]
    fn every_error_names_a_remedy() {
        let error = Range::new(&spec("192.0.2.12/24", "", "", "")).unwrap_err();
        assert_eq!(error.remedy(), "write the subnet as 192.0.2.0/24");
    }

    #[test]
    fn what_is_withheld_is_passed_over_in_blocks() {
        let excluding = |subnet: &str, exclude: &[&str]| {
            let exclude = exclude.iter().map(|network| network.parse().unwrap()).collect();
            Range::new(&RangeSpec { exclude, ..spec(subnet, "", "", "") })
        };
        let range = excluding("192.0.2.0/24", &["192.0.2.17/28", "192.0.2.9"]).unwrap();
        let until =
            |text: &str| range.withheld_until(text.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(until("192.0.2.1").as_deref(), Some("192.0.2.1"), "the gateway");
        assert_eq!(until("192.0.2.9").as_deref(), Some("192.0.2.9"));
        assert_eq!(until("192.0.2.18").as_deref(), Some("192.0.2.31"));
        assert_eq!(until("192.0.2.32"), None);
        assert!(range.excludes("192.0.2.16".parse().unwrap()));
        assert!(!range.excludes("192.0.2.1".parse().unwrap()), "the gateway is not excluded");

        for outside in ["192.0.3.0/28", "192.0.0.0/16", "2001:db8::/64"] {
            let error = excluding("192.0.2.0/24", &[outside]).unwrap_err();
            assert_eq!(error.to_string(), format!("exclude {outside} not in network 192.0.2.0/24"));
        }
        let half = excluding("::/0", &["8000::/1"]).unwrap();
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok();
        assert_eq!(half.withheld_until("9000::".parse().unwrap()), last);
    }

    #[test]
    fn usable_addresses_are_counted_without_being_listed() {
        let count = |subnet: &str, start: &str, end: &str, gateway: &str, exclude: &[&str]| {
            let exclude = exclude.iter().map(|network| network.parse().unwrap()).collect();
            Range::new(&RangeSpec { exclude, ..spec(subnet, start, end, gateway) })
                .unwrap()
                .usable()
        };
        assert_eq!(count("192.0.2.0/24", "", "", "", &[]), 253);
        assert_eq!(count("192.0.2.0/24", "192.0.2.9", "192.0.2.9", "", &[]), 1);
        assert_eq!(count("192.0.2.0/24", "192.0.2.9", "192.0.2.9", "192.0.2.9", &[]), 0);
        assert_eq!(count("192.0.2.0/24", "", "", "198.51.100.1", &[]), 254);
        let overlapping = ["192.0.2.0/29", "192.0.2.0/28", "192.0.2.250", "192.0.2.248/29"];
        assert_eq!(count("192.0.2.0/24", "", "", "", &overlapping), 254 - 15 - 7);
        assert_eq!(count("192.0.2.0/24", "", "", "", &["192.0.2.0/24"]), 0);
        assert_eq!(count("2001:db8::/64", "", "", "", &[]), (1 << 64) - 2);
        assert_eq!(count("::/0", "::", "", "::1", &["8000::/1"]), (1 << 127) - 1);
        assert_eq!(count("::/0", "::", "", "::1", &[]), u128::MAX);
    }

    #[test]
    fn contains_is_inclusive_and_of_one_family() {
        let range = Range::new(&spec("192.0.2.0/24", "192.0.2.40", "192.0.2.50", "")).unwrap();
        let contains = |text: &str| range.contains(text.parse().unwrap());
        assert!(!contains("192.0.2.39"));
        assert!(contains("192.0.2.40"));
        assert!(contains("192.0.2.50"));
        assert!(!contains("192.0.2.51"));
        assert!(!contains("::"));
        assert!(!contains("::c000:228"), "the same bits in the other family");
    }

    #[test]
    fn an_address_gets_the_prefix_of_the_subnet() {
        let range = Range::new(&spec("192.0.2.0/24", "", "", "")).unwrap();
        let address = range.with_prefix("192.0.2.7".parse().unwrap());
        assert_eq!(address.to_string(), "192.0.2.7/24");
    }

    #[test]
    fn after_stops_at_the_end() {
        let range = Range::new(&spec("192.0.2.0/24", "", "192.0.2.2", "")).unwrap();
        let after = |text: &str| range.after(text.parse().unwrap()).map(|next| next.to_string());
        assert_eq!(after("192.0.2.1").as_deref(), Some("192.0.2.2"));
        assert_eq!(after("192.0.2.2"), None);
        let whole = Range::new(&spec("::/0", "", "", "")).unwrap();
        assert_eq!(whole.after(whole.end()), None, "no wrap at the end of the address space");
    }

    #[test]
    fn overlap_is_symmetric() {
        let range = |subnet, start, end| Range::new(&spec(subnet, start, end, "")).unwrap();
        let cases = [
            (range("10.0.0.0/24", "", ""), range("10.0.1.0/24", "", ""), false),
            (range("0.0.0.0/24", "", ""), range("::/24", "", ""), false),
            (range("10.0.0.0/24", "", ""), range("10.0.0.0/24", "", ""), true),
            (range("10.0.0.0/20", "", ""), range("10.0.1.0/24", "", ""), true),
            (range("10.0.0.0/24", "", "10.0.0.127"), range("10.0.0.0/24", "10.0.0.128", ""), false),
            (range("10.0.0.0/24", "", "10.0.0.127"), range("10.0.0.0/24", "10.0.0.127", ""), true),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.overlaps(&b), expected, "{a} and {b}");
            assert_eq!(b.overlaps(&a), expected, "{b} and {a}");
        }
    }
}
