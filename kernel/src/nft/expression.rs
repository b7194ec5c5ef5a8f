//! What rules are made of.
//!
//! A rule is a list of small steps over registers: load a field, compare it or look it up, act.
//! One register is enough for most rules of this project; a key of two parts fills the next one, too.

use nix::libc;

use super::field::{Field, Load, REGISTER, SMALL_REGISTER, put_load, put_one};
use super::set::{KeyType, Set, SetKind};
use super::xtables::Xtables;
use crate::netlink::Message;

pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
/// `NFTA_FIB_F_SADDR` and `NFTA_FIB_F_DADDR`.
const BY_SOURCE: u32 = 1 << 0;
const BY_DESTINATION: u32 = 1 << 1;
/// `IPS_DST_NAT` of `linux/netfilter/nf_conntrack_common.h`.
const DESTINATION_NAT: u32 = 1 << 5;
const VERDICT_REGISTER: u32 = libc::NFT_REG_VERDICT as u32;

/// What happens to a packet next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Back to the chain that jumped here; at a base chain, the chain's policy.
    Return,
    /// It goes no further.
    Drop,
    /// Through another chain, then on with the next rule.
    Jump(String),
    /// On to the next table at the hook.
    Accept,
}

/// One step of a rule.
#[derive(Clone, Debug)]
pub enum Expression<'a> {
    /// Goes on only with packets of the family of these keys.
    Is(KeyType),
    /// Goes on only if the field's first `prefix` bits are, or are not, those of `network`.
    Matches {
        /// Which address is looked at; the rule must have asked for the family with `Is` before.
        field: Field,
        /// The network's address in network byte order, 4 or 16 bytes.
        network: Vec<u8>,
        /// The length of the network's prefix in bits.
        prefix: u8,
        /// Whether packets outside the network go on instead.
        negated: bool,
    },
    /// Goes on only if the field is, or is not, in a set; with a verdict map, acts as it says.
    InSet {
        /// Which address is looked up; the rule must have asked for the family with `Is` before.
        field: Field,
        /// The set or map.
        set: &'a Set<'a>,
        /// Whether packets that are not in the set go on instead.
        negated: bool,
    },
    /// Goes on only with packets to an address of the host.
    ToHost,
    /// Goes on only with packets from addresses that are not the host's.
    NotFromHost,
    /// Goes on only with packets that came in by no link: what the host itself sends, and in the
    /// postrouting hook also what only passes a bridge.
    FromNowhere,
    /// Goes on only with packets of flows whose destination was translated.
    Redirected,
    /// Goes on only if the link that it came in by has, or has not, this name.
    CameInBy {
        /// The name.
        link: &'a str,
        /// Whether packets of all other links go on instead.
        negated: bool,
    },
    /// Goes on only if the transport protocol is, or is not, this one.
    Transport {
        /// Its number.
        protocol: u8,
        /// Whether packets of all others go on instead.
        negated: bool,
    },
    /// Looks the field up in a map of targets, and sends the packet's flow there; goes on with those
    /// that are not in it.
    Redirect {
        /// What is looked up; the rule must have asked for the family with `Is` before.
        field: Field,
        /// The map.
        map: &'a Set<'a>,
    },
    /// Gives the packet's flow the address of the interface that it leaves by.
    Masquerade,
    /// Goes on only with what a match of iptables lets through.
    Xtables(Xtables<'a>),
    /// Counts packets and bytes.
    Counter,
    /// Acts.
    Act(Verdict),
}

impl Expression<'_> {
    pub(super) fn put(&self, list: Message) -> Message {
        match self {
            Expression::Is(family) => put_family(list, *family),
            Expression::Matches { field, network, prefix, negated } => {
                put_match(put_load(list, *field, network.len()), network, *prefix, *negated)
            }
            Expression::InSet { field, set, negated } => {
                let list = put_load(list, *field, set.key.address_length());
                put_lookup(list, set, set.has_verdicts().then_some(VERDICT_REGISTER), *negated)
            }
            Expression::ToHost => put_of_host(list, BY_DESTINATION, false),
            Expression::NotFromHost => put_of_host(list, BY_SOURCE, true),
            Expression::FromNowhere => {
                put_compare(put_one(list, Load::Meta(libc::NFT_META_IIF), REGISTER), &[0; 4], false)
            }
            Expression::Redirected => put_redirected(list),
            Expression::CameInBy { link, negated } => {
                let mut name = link.as_bytes().to_vec();
                name.resize(libc::IFNAMSIZ, 0);
                put_compare(put_load(list, Field::Port, 0), &name, *negated)
            }
            Expression::Transport { protocol, negated } => {
                let list = put_one(list, Load::Meta(libc::NFT_META_L4PROTO), REGISTER);
                put_compare(list, &[*protocol], *negated)
            }
            Expression::Redirect { field, map } => put_redirect(list, *field, map),
            Expression::Masquerade => expression(list, "masq", |data| data),
            Expression::Xtables(matching) => matching.put(list),
            Expression::Counter => expression(list, "counter", |data| {
                data.put(1, &0u64.to_be_bytes()).put(2, &0u64.to_be_bytes())
            }),
            Expression::Act(verdict) => expression(list, "immediate", |data| {
                let data = data.put_u32_be(1, VERDICT_REGISTER);
                data.nest(2, |value| put_verdict(value, verdict))
            }),
        }
    }
}

/// A verdict as a value: `NFTA_DATA_VERDICT`.
pub(super) fn put_verdict(value: Message, verdict: &Verdict) -> Message {
    value.nest(NFTA_DATA_VERDICT, |data| match verdict {
        Verdict::Drop => data.put_u32_be(NFTA_VERDICT_CODE, libc::NF_DROP as u32),
        Verdict::Return => data.put_u32_be(NFTA_VERDICT_CODE, libc::NFT_RETURN as u32),
        Verdict::Accept => data.put_u32_be(NFTA_VERDICT_CODE, libc::NF_ACCEPT as u32),
        Verdict::Jump(chain) => data
            .put_u32_be(NFTA_VERDICT_CODE, libc::NFT_JUMP as u32)
            .put_text(NFTA_VERDICT_CHAIN, chain),
    })
}

/// Bytes as a value: `NFTA_DATA_VALUE`.
pub(super) fn put_value(value: Message, bytes: &[u8]) -> Message {
    value.put(NFTA_DATA_VALUE, bytes)
}

fn put_family(list: Message, family: KeyType) -> Message {
    let number = match family {
        KeyType::Ipv4 | KeyType::PortAndIpv4 | KeyType::Ipv4Service => libc::NFPROTO_IPV4,
        KeyType::Ipv6 | KeyType::PortAndIpv6 | KeyType::Ipv6Service => libc::NFPROTO_IPV6,
        KeyType::Port | KeyType::PortAndMac => libc::NFPROTO_BRIDGE,
        KeyType::Service => libc::NFPROTO_INET,
    };
    let list = put_one(list, Load::Meta(libc::NFT_META_NFPROTO), REGISTER);
    put_compare(list, &[number as u8], false)
}

/// `fib daddr type local`: the routing table knows the destination, or by the other flag the source,
/// as an address of the host.
fn put_of_host(list: Message, by: u32, negated: bool) -> Message {
    const ADDRESS_TYPE: u32 = 3;
    let list = expression(list, "fib", |data| {
        data.put_u32_be(1, REGISTER).put_u32_be(2, ADDRESS_TYPE).put_u32_be(3, by)
    });
    put_compare(list, &u32::from(libc::RTN_LOCAL).to_ne_bytes(), negated)
}

/// `ct status dnat`.
fn put_redirected(list: Message) -> Message {
    const STATUS: u32 = libc::NFT_CT_STATUS as u32;
    let list = expression(list, "ct", |data| data.put_u32_be(1, REGISTER).put_u32_be(2, STATUS));
    let list = put_mask(list, &DESTINATION_NAT.to_ne_bytes());
    put_compare(list, &[0; 4], true)
}

fn put_redirect(list: Message, field: Field, map: &Set<'_>) -> Message {
    const TO_DESTINATION: u32 = 1;
    let (family, length) = match map.kind {
        SetKind::Targets6 => (libc::NFPROTO_IPV6, 16),
        _ => (libc::NFPROTO_IPV4, 4),
    };
    let list = put_load(list, field, length);
    let list = put_lookup(list, map, Some(REGISTER), false);
    expression(list, "nat", |data| {
        data.put_u32_be(1, TO_DESTINATION)
            .put_u32_be(2, family as u32)
            .put_u32_be(3, REGISTER)
            .put_u32_be(5, SMALL_REGISTER + length as u32 / 4)
    })
}

fn put_match(list: Message, network: &[u8], prefix: u8, negated: bool) -> Message {
    if usize::from(prefix) == network.len() * 8 {
        return put_compare(list, network, negated);
    }
    let mask: Vec<u8> = (0..network.len())
        .map(|byte| {
            (u16::from(u8::MAX) << 8 >> usize::from(prefix).saturating_sub(byte * 8).min(8)) as u8
        })
        .collect();
    put_compare(put_mask(list, &mask), network, negated)
}

fn put_mask(list: Message, mask: &[u8]) -> Message {
    expression(list, "bitwise", |data| {
        data.put_u32_be(1, REGISTER)
            .put_u32_be(2, REGISTER)
            .put_u32_be(3, mask.len() as u32)
            .nest(4, |value| put_value(value, mask))
            .nest(5, |value| put_value(value, &vec![0; mask.len()]))
    })
}

fn put_compare(list: Message, with: &[u8], negated: bool) -> Message {
    let operation = if negated { libc::NFT_CMP_NEQ } else { libc::NFT_CMP_EQ };
    expression(list, "cmp", |data| {
        data.put_u32_be(1, REGISTER)
            .put_u32_be(2, operation as u32)
            .nest(3, |value| put_value(value, with))
    })
}

fn put_lookup(list: Message, set: &Set<'_>, into: Option<u32>, negated: bool) -> Message {
    const INVERT: u32 = libc::NFT_LOOKUP_F_INV as u32;
    expression(list, "lookup", |data| {
        let data = data.put_text(1, set.name).put_u32_be(2, REGISTER);
        let data = match into {
            Some(register) => data.put_u32_be(3, register),
            None => data,
        };
        if negated { data.put_u32_be(5, INVERT) } else { data }
    })
}

pub(super) fn expression(
    list: Message,
    name: &str,
    fill: impl FnOnce(Message) -> Message,
) -> Message {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.put_text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill)
    })
}
