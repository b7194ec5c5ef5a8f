//! The ends of the tunnel (VTEPs), which are known by a hardware address each.

use std::net::{IpAddr, Ipv6Addr};

use kernel::MacAddress;
use sha2::{Digest, Sha256};

/// Locally administered, unicast, and another one than that of Pods (0a).
const FIRST: u8 = 0x0e;
/// The second byte of what follows from an IPv4 address.
const SECOND: u8 = 0xcb;

/// The hardware addresses of a node's ends, for each family of addresses between nodes. None where
/// the node has no end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vteps {
    /// The end between IPv4 addresses.
    pub v4: Option<MacAddress>,
    /// The end between IPv6 addresses.
    pub v6: Option<MacAddress>,
}

impl Vteps {
    /// The ends of a node with these addresses, unless it tells others.
    pub fn derived(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut vteps = Self::default();
        for address in addresses {
            let end = if address.is_ipv4() { &mut vteps.v4 } else { &mut vteps.v6 };
            *end = Some(derived_mac(address));
        }
        vteps
    }

    /// The end of the family of this address.
    pub fn of_family(&self, address: IpAddr) -> Option<MacAddress> {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// The hardware address of the end that a node with this address has. Whoever knows the one knows
/// the other, so no source of facts needs to tell it: an IPv4 address is in it, and of an IPv6
/// address the first five bytes of its SHA-256.
pub fn derived_mac(node: IpAddr) -> MacAddress {
    let [second, a, b, c, d] = match node {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [SECOND, a, b, c, d]
        }
        IpAddr::V6(v6) => digest(v6),
    };
    MacAddress([FIRST, second, a, b, c, d])
}

fn digest(address: Ipv6Addr) -> [u8; 5] {
    let digest = Sha256::digest(address.octets());
    [digest[0], digest[1], digest[2], digest[3], digest[4]]
}

/// Whether it can be the hardware address of one end: neither that of a group nor zero, which to a
/// VXLAN device stands for all that it does not know.
pub fn is_end(mac: MacAddress) -> bool {
    mac.0[0] & 1 == 0 && mac.0 != [0; 6]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Nodes of different versions compute it: it must never change.
    #[test]
    fn the_hardware_address_follows_from_the_nodes_address_for_ever() {
        for (address, mac) in
            [("10.100.0.2", "0e:cb:0a:64:00:02"), ("fd00:100::2", "0e:09:72:27:d9:2f")]
        {
            let derived = derived_mac(address.parse().unwrap());
            assert_eq!(derived.to_string(), mac);
            assert!(is_end(derived));
        }
    }

    #[test]
    fn groups_and_zero_are_no_end() {
        for text in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"] {
            assert!(!is_end(text.parse().unwrap()), "{text}");
        }
    }
}
