//! What a rule looks at, and how it gets into the registers.

use nix::libc;

use super::expression::expression;
use crate::netlink::Message;

/// The register of sixteen bytes that steps work on.
pub(super) const REGISTER: u32 = libc::NFT_REG_1 as u32;
/// The first of the registers of four bytes, which are those of sixteen in smaller pieces.
pub(super) const SMALL_REGISTER: u32 = libc::NFT_REG32_00 as u32;

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
    /// The name of the link that it leaves by.
    OutPort,
    /// The name of the link that it came in by, and the destination address.
    PortAndDestination,
    /// The transport protocol, and the destination port.
    Service,
    /// The destination address, the transport protocol and the destination port.
    DestinationService,
}

/// One of the things that a field is put together of.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// A field of the metadata of a packet.
    Meta(i32),
    /// A part of a header: which, where in it, and how long.
    Payload(i32, u32, u32),
}

/// Where an address of this length begins in the network header; the other fields are not there.
pub(super) fn offset_of(field: Field, length: usize) -> Option<u32> {
    match (field, length) {
        (Field::Source, 4) => Some(12),
        (Field::Destination, 4) => Some(16),
        (Field::Source, _) => Some(8),
        (Field::Destination, _) => Some(24),
        _ => None,
    }
}

/// Loads a field into the registers, its parts one behind the other. A whole address may be asked
/// for by the length of a key.
pub(super) fn put_load(list: Message, field: Field, length: usize) -> Message {
    let loads = loads(field, length).into_iter();
    let (list, _) = loads.fold((list, SMALL_REGISTER), |(list, register), load| {
        // The registers of sixteen bytes have names of their own.
        let is_first = register == SMALL_REGISTER;
        let list = put_one(list, load, if is_first { REGISTER } else { register });
        (list, register + load.length().div_ceil(4))
    });
    list
}

/// The parts of a field, whose address, if it has one, is of the family that the key's length says.
fn loads(field: Field, length: usize) -> Vec<Load> {
    let address = |field, length| {
        let offset = offset_of(field, length).unwrap_or_default();
        Load::Payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length as u32)
    };
    let link = Load::Meta(libc::NFT_META_IIFNAME);
    let protocol = Load::Meta(libc::NFT_META_L4PROTO);
    // TCP, UDP and SCTP have it at the same place.
    let port = Load::Payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
    let mac = Load::Payload(libc::NFT_PAYLOAD_LL_HEADER, 6, 6);
    match field {
        Field::Source | Field::Destination => vec![address(field, length)],
        Field::Port => vec![link],
        Field::OutPort => vec![Load::Meta(libc::NFT_META_OIFNAME)],
        Field::PortAndMac => vec![link, mac],
        Field::PortAndDestination => vec![link, address(Field::Destination, length)],
        Field::Service => vec![protocol, port],
        Field::DestinationService => {
            vec![address(Field::Destination, length), protocol, port]
        }
    }
}

impl Load {
    /// How many bytes of registers it fills.
    fn length(self) -> u32 {
        match self {
            Load::Meta(libc::NFT_META_IIFNAME | libc::NFT_META_OIFNAME) => libc::IFNAMSIZ as u32,
            Load::Meta(_) => 1,
            Load::Payload(_, _, length) => length,
        }
    }
}

pub(super) fn put_one(list: Message, load: Load, register: u32) -> Message {
    match load {
        Load::Meta(key) => {
            expression(list, "meta", |data| data.put_u32_be(1, register).put_u32_be(2, key as u32))
        }
        Load::Payload(header, offset, length) => expression(list, "payload", |data| {
            data.put_u32_be(1, register)
                .put_u32_be(2, header as u32)
                .put_u32_be(3, offset)
                .put_u32_be(4, length)
        }),
    }
}
