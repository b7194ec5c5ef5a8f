//! Rules by which packets to a port of this host go elsewhere, as `nft` and `iptables-nft` write them.

use std::net::{IpAddr, SocketAddr};

use nix::libc;

use super::RuleInfo;
use super::expression::{NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME};
use super::rule::{NFTA_MATCH_INFO, NFTA_MATCH_NAME};
use crate::address::from_octets;
use crate::netlink::Attributes;

const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_TARGET_NAME: u16 = 1;
const NFTA_TARGET_REV: u16 = 2;
const NFTA_TARGET_INFO: u16 = 3;
/// Where the destination port is in the headers of TCP, UDP and SCTP.
const PORT_OFFSET: u32 = 2;

impl RuleInfo {
    /// The transport protocol that the rule asks for.
    pub fn protocol(&self) -> Option<u8> {
        let steps = self.named();
        steps.iter().zip(steps.iter().skip(1)).find_map(|(load, compare)| {
            let is_protocol =
                number(load.of("meta")?, NFTA_META_KEY)? == libc::NFT_META_L4PROTO as u32;
            let value = equal_to(compare)?;
            (is_protocol && value.len() == 1).then(|| value[0])
        })
    }

    /// The ports that the rule asks for, one of which a packet must be sent to; empty if it asks for
    /// none, or for more than a few.
    pub fn ports(&self) -> Vec<u16> {
        let steps = self.named();
        let loaded = steps.iter().zip(steps.iter().skip(1)).find_map(|(load, compare)| {
            let load = load.of("payload")?;
            let is_port = number(load, NFTA_PAYLOAD_BASE)?
                == libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32
                && number(load, NFTA_PAYLOAD_OFFSET)? == PORT_OFFSET
                && number(load, NFTA_PAYLOAD_LEN)? == 2;
            let port = u16::from_be_bytes(equal_to(compare)?.try_into().ok()?);
            is_port.then(|| vec![port])
        });
        let matched = || steps.iter().find_map(|step| matched_ports(step.of("match")?));
        loaded.or_else(matched).unwrap_or_default()
    }

    /// Where the rule, of a table of this family, sends packets.
    pub fn translates_to(&self, ipv6: bool) -> Option<SocketAddr> {
        let steps = self.named();
        let target = steps.iter().find_map(|step| {
            let data = step.of("target")?;
            (data.get(NFTA_TARGET_NAME)?.text() == "DNAT").then_some(data)
        });
        match target {
            Some(target) => target_of_iptables(target, ipv6),
            None => target_of_nft(&steps),
        }
    }

    fn named(&self) -> Vec<Named<'_>> {
        Attributes::new(&self.expressions)
            .filter_map(|element| {
                let attributes = element.nested();
                let data = attributes.get(NFTA_EXPR_DATA)?.nested();
                Some(Named { name: attributes.get(NFTA_EXPR_NAME)?.text(), data })
            })
            .collect()
    }
}

/// One of a rule's expressions.
struct Named<'a> {
    name: String,
    data: Attributes<'a>,
}

impl<'a> Named<'a> {
    /// What goes with it, if it is of this name.
    fn of(&self, name: &str) -> Option<&Attributes<'a>> {
        (self.name == name).then_some(&self.data)
    }
}

fn number(of: &Attributes<'_>, kind: u16) -> Option<u32> {
    of.get(kind)?.u32_be()
}

/// What a comparison asks for.
fn equal_to<'a>(step: &Named<'a>) -> Option<&'a [u8]> {
    let data = step.of("cmp")?;
    let is_equal = number(data, NFTA_CMP_OP)? == libc::NFT_CMP_EQ as u32;
    let value = data.get(NFTA_CMP_DATA)?.nested().get(NFTA_DATA_VALUE)?.value;
    is_equal.then_some(value)
}

/// The ports of the matches `multiport` (`struct xt_multiport_v1`), `tcp` and `udp`
/// (`struct xt_tcp`, `struct xt_udp`), which `iptables-nft` wrote before 1.8.8.
fn matched_ports(of_match: &Attributes<'_>) -> Option<Vec<u16>> {
    let info = of_match.get(NFTA_MATCH_INFO)?.value;
    let port = |at: usize| Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    match of_match.get(NFTA_MATCH_NAME)?.text().as_str() {
        "multiport" => {
            let count = usize::from(*info.get(1)?);
            (0..count).map(|number| port(2 + 2 * number)).collect()
        }
        "tcp" | "udp" => (port(4)? == port(6)?).then(|| port(4).map(|port| vec![port]))?,
        _ => None,
    }
}

/// As `iptables` writes targets: `struct nf_nat_range` or `nf_nat_range2`, and for IPv4 before
/// revision 2 `struct nf_nat_ipv4_multi_range_compat`.
fn target_of_iptables(target: &Attributes<'_>, ipv6: bool) -> Option<SocketAddr> {
    let revision = number(target, NFTA_TARGET_REV)?;
    let info = target.get(NFTA_TARGET_INFO)?.value;
    let (address, length, port) = match (ipv6, revision) {
        (true, _) => (4, 16, 36),
        (false, 2..) => (4, 4, 36),
        (false, _) => (8, 4, 16),
    };
    let address = from_octets(info.get(address..address + length)?)?;
    let port = u16::from_be_bytes(*info.get(port..)?.first_chunk()?);
    Some(SocketAddr::new(address, port))
}

/// As `nft` writes them: an address and a port are loaded, and then used.
fn target_of_nft(steps: &[Named<'_>]) -> Option<SocketAddr> {
    steps.iter().find_map(|step| step.of("nat"))?;
    let loaded = steps.iter().filter_map(|step| {
        let data = step.of("immediate")?.get(NFTA_IMMEDIATE_DATA)?;
        Some(data.nested().get(NFTA_DATA_VALUE)?.value)
    });
    let loaded: Vec<_> = loaded.collect();
    let address: IpAddr = loaded.iter().find_map(|value| from_octets(value))?;
    let port = loaded.iter().find(|value| value.len() == 2);
    let port = port.and_then(|value| Some(u16::from_be_bytes((*value).try_into().ok()?)));
    Some(SocketAddr::new(address, port.unwrap_or(0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::expression::expression;
    use super::*;
    use crate::netlink::Message;

    fn rule(steps: impl FnOnce(Message) -> Message) -> RuleInfo {
        RuleInfo {
            chain: String::new(),
            handle: 1,
            expressions: steps(Message::new("rule", 0, 0, &[])).body().to_vec(),
            comment: String::new(),
            owner: String::new(),
        }
    }

    fn matching(name: &str, info: &[u8]) -> RuleInfo {
        rule(|list| {
            expression(list, "match", |data| {
                data.put_text(NFTA_MATCH_NAME, name).put(NFTA_MATCH_INFO, info)
            })
        })
    }

    fn target(revision: u32, info: &[u8]) -> RuleInfo {
        rule(|list| {
            expression(list, "target", |data| {
                data.put_text(NFTA_TARGET_NAME, "DNAT")
                    .put_u32_be(NFTA_TARGET_REV, revision)
                    .put(NFTA_TARGET_INFO, info)
            })
        })
    }

    fn native(numbers: &[u16]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
    }

    #[test]
    fn ports_are_those_of_each_form_of_a_match() {
        let several = [&[1, 2][..], &native(&[80, 443, 0, 0])].concat();
        assert_eq!(matching("multiport", &several).ports(), [80, 443]);
        assert_eq!(matching("tcp", &native(&[0, 65535, 80, 80])).ports(), [80]);
        for (name, info) in [
            ("udp", native(&[0, 65535, 80, 90])),
            ("multiport", vec![1, 9, 0]),
            ("comment", native(&[1, 1, 1, 1])),
        ] {
            assert_eq!(matching(name, &info).ports(), [0; 0], "{name}");
        }
    }

    #[test]
    fn a_target_is_read_in_each_revision() {
        let port = 8080_u16.to_be_bytes();
        let old = [&[1, 0, 0, 0, 3, 0, 0, 0, 10, 0, 1, 2, 10, 0, 1, 2][..], &port, &port].concat();
        assert_eq!(target(0, &old).translates_to(false), "10.0.1.2:8080".parse().ok());
        let mut new = vec![0; 44];
        new[4..8].copy_from_slice(&[10, 0, 1, 2]);
        new[36..38].copy_from_slice(&port);
        assert_eq!(target(2, &new).translates_to(false), "10.0.1.2:8080".parse().ok());
        new[4..20].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        for revision in [1, 2] {
            let read = target(revision, &new).translates_to(true);
            assert_eq!(read, "[fd00::2]:8080".parse().ok());
        }
        assert_eq!(target(2, &new[..20]).translates_to(true), None, "cut off");
    }
}
