//! What rules are made of.
//!
//! A rule is a list of small steps over registers: load a field, compare it or look it up, act.
//! One register is enough for most rules of this project; a key of two parts fills the next one, too.

use nix::libc;

use super::set::{KeyType, Set};
use crate::netlink::Message;

pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
const REGISTER: u32 = libc::NFT_REG_1 as u32;
const NEXT_REGISTER: u32 = libc::NFT_REG_2 as u32;
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
}

/// A field of a packet: of its network header, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
    /// The name of the link that it came in by.
    Port,
    /// That name, and the hardware address that it comes from.
    PortAndMac,
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
    /// Gives the packet's flow the address of the interface that it leaves by.
    Masquerade,
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
                put_lookup(put_load(list, *field, set.key.length()), set, *negated)
            }
            Expression::Masquerade => expression(list, "masq", |data| data),
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
    const META_NFPROTO: u32 = libc::NFT_META_NFPROTO as u32;
    let number = match family {
        KeyType::Ipv4 => libc::NFPROTO_IPV4,
        KeyType::Ipv6 => libc::NFPROTO_IPV6,
        KeyType::Port | KeyType::PortAndMac => libc::NFPROTO_BRIDGE,
    };
    let list =
        expression(list, "meta", |data| data.put_u32_be(1, REGISTER).put_u32_be(2, META_NFPROTO));
    put_compare(list, &[number as u8], false)
}

/// Where an address of this length begins in the network header; the other fields are not there.
pub(super) fn offset_of(field: Field, length: usize) -> Option<u32> {
    match (field, length) {
        (Field::Source, 4) => Some(12),
        (Field::Destination, 4) => Some(16),
        (Field::Source, _) => Some(8),
        (Field::Destination, _) => Some(24),
        (Field::Port | Field::PortAndMac, _) => None,
    }
}

/// Loads a field into the register.
fn put_load(list: Message, field: Field, length: usize) -> Message {
    match offset_of(field, length) {
        Some(offset) => {
            let header = libc::NFT_PAYLOAD_NETWORK_HEADER;
            put_payload(list, REGISTER, header, offset, length as u32)
        }
        None if field == Field::Port => put_port(list),
        None => put_payload(put_port(list), NEXT_REGISTER, libc::NFT_PAYLOAD_LL_HEADER, 6, 6),
    }
}

fn put_port(list: Message) -> Message {
    const META_IIFNAME: u32 = libc::NFT_META_IIFNAME as u32;
    expression(list, "meta", |data| data.put_u32_be(1, REGISTER).put_u32_be(2, META_IIFNAME))
}

fn put_payload(list: Message, register: u32, base: i32, offset: u32, length: u32) -> Message {
    expression(list, "payload", |data| {
        data.put_u32_be(1, register)
            .put_u32_be(2, base as u32)
            .put_u32_be(3, offset)
            .put_u32_be(4, length)
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
    let list = expression(list, "bitwise", |data| {
        data.put_u32_be(1, REGISTER)
            .put_u32_be(2, REGISTER)
            .put_u32_be(3, network.len() as u32)
            .nest(4, |value| put_value(value, &mask))
            .nest(5, |value| put_value(value, &vec![0; mask.len()]))
    });
    put_compare(list, network, negated)
}

fn put_compare(list: Message, with: &[u8], negated: bool) -> Message {
    let operation = if negated { libc::NFT_CMP_NEQ } else { libc::NFT_CMP_EQ };
    expression(list, "cmp", |data| {
        data.put_u32_be(1, REGISTER)
            .put_u32_be(2, operation as u32)
            .nest(3, |value| put_value(value, with))
    })
}

fn put_lookup(list: Message, set: &Set<'_>, negated: bool) -> Message {
    const INVERT: u32 = libc::NFT_LOOKUP_F_INV as u32;
    expression(list, "lookup", |data| {
        let data = data.put_text(1, set.name).put_u32_be(2, REGISTER);
        let data = if set.is_map() { data.put_u32_be(3, VERDICT_REGISTER) } else { data };
        if negated { data.put_u32_be(5, INVERT) } else { data }
    })
}

fn expression(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.put_text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill)
    })
}
