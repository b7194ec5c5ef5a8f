//! Networks as the elements of an interval set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::Element;

/// The elements that hold exactly the addresses of these networks, which must be of one family.
/// The kernel refuses overlaps in a set, so networks that overlap or touch become one range.
pub fn intervals(networks: &[IpNetwork]) -> Vec<Element> {
    let mut ranges: Vec<(u128, u128)> = networks
        .iter()
        .map(|network| (number(network.network()), number(network.broadcast())))
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let v4 = networks.first().is_none_or(IpNetwork::is_ipv4);
    let greatest = if v4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut elements = Vec::with_capacity(merged.len() * 2);
    for (first, last) in merged {
        elements.push(Element::new(address(first, v4)));
        // A range up to the last address has no end behind it.
        if last < greatest {
            elements.push(Element { ends_interval: true, ..Element::new(address(last + 1, v4)) });
        }
    }
    elements
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(networks: &[&str]) -> Vec<String> {
        let networks: Vec<IpNetwork> =
            networks.iter().map(|network| network.parse().unwrap()).collect();
        let show = |element: Element| {
            format!("{}{}", if element.ends_interval { "<" } else { "" }, element.key_text())
        };
        intervals(&networks).into_iter().map(show).collect()
    }

    #[test]
    fn overlapping_and_touching_networks_become_one_range() {
        assert_eq!(
            text(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25"]),
            ["10.0.0.0", "<10.0.2.0"]
        );
        assert_eq!(
            text(&["10.0.2.0/24", "10.0.0.0/24"]),
            ["10.0.0.0", "<10.0.1.0", "10.0.2.0", "<10.0.3.0"]
        );
        assert_eq!(text(&["fd00::/64"]), ["fd00::", "<fd00:0:0:1::"]);
    }

    #[test]
    fn a_range_may_reach_the_last_address() {
        assert_eq!(text(&["255.255.255.0/24"]), ["255.255.255.0"]);
        assert_eq!(text(&["ff00::/8"]), ["ff00::"]);
        assert_eq!(text(&["0.0.0.0/0"]), ["0.0.0.0"]);
        assert!(text(&[]).is_empty());
    }
}
