//! Hardware addresses that follow from who has them.

use std::net::{IpAddr, Ipv4Addr};

use cni_conf::attachment::Attachment;
use cni_conf::result::IpConfig;
use kernel::MacAddress;
use sha2::{Digest, Sha256};

/// An address keeps its MAC whoever has it, so that a neighbour's memory of it is right even when
/// the address has just changed hands. Without an address the MAC is the attachment's own.
pub fn of_container(attachment: &Attachment, ips: &[IpConfig]) -> MacAddress {
    let v4 = ips.iter().find(|ip| ip.address.is_ipv4());
    match v4.or_else(|| ips.first()) {
        Some(ip) => of_address(ip.address.ip()),
        None => of_attachment("container end", attachment),
    }
}

/// The MAC of the host's end of an attachment's veth.
pub fn of_host_end(attachment: &Attachment) -> MacAddress {
    of_attachment("host end", attachment)
}

/// The MAC of whoever has an address. The first bytes are those of kubenet.
pub fn of_address(address: IpAddr) -> MacAddress {
    match address {
        IpAddr::V4(v4) => of_ipv4(v4),
        IpAddr::V6(v6) => of_words(&["address", &v6.to_string()]),
    }
}

fn of_ipv4(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress([0x0a, 0x58, a, b, c, d])
}

fn of_attachment(what: &str, attachment: &Attachment) -> MacAddress {
    of_words(&[what, &attachment.network, &attachment.container_id, &attachment.ifname])
}

/// A locally administered unicast address (IEEE 802) from a hash of these words.
pub fn of_words(words: &[&str]) -> MacAddress {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word);
        hash.update([0]);
    }
    let hash = hash.finalize();
    MacAddress([0x0a, hash[0], hash[1], hash[2], hash[3], hash[4]])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mac(addresses: &[&str]) -> String {
        let ip = |text: &&str| IpConfig {
            interface: None,
            address: text.parse().unwrap(),
            gateway: None,
        };
        let ips: Vec<_> = addresses.iter().map(ip).collect();
        of_container(&Attachment::new("net", "id", "eth0").unwrap(), &ips).to_string()
    }

    #[test]
    fn macs_follow_the_address() {
        assert_eq!(mac(&["10.0.1.7/24"]), "0a:58:0a:00:01:07");
        assert_eq!(mac(&["fd00::7/64", "10.0.1.7/24"]), "0a:58:0a:00:01:07");
        assert_eq!(mac(&["fd00::7/64"]), mac(&["fd00::7/64"]));
        assert_ne!(mac(&["fd00::7/64"]), mac(&["fd00::8/64"]));
    }

    #[test]
    fn the_two_ends_of_a_veth_differ() {
        let attachment = Attachment::new("net", "id", "eth0").unwrap();
        assert_ne!(of_container(&attachment, &[]), of_host_end(&attachment));
    }
}
