//! Sets and verdict maps.

use nix::libc;

use super::{CREATE, Element, Table, comment, request};
use crate::netlink::Message;

pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
pub(super) const NFTA_SET_USERDATA: u16 = 13;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const VERDICT: u32 = libc::NFT_DATA_VERDICT;
/// `NFTNL_UDATA_SET_COMMENT`.
pub(super) const SET_COMMENT: u8 = 7;
/// `NFTNL_UDATA_SET_KEYBYTEORDER`: type, length and the number of the machine's own order, without
/// which `nft` prints no names of links.
const HOST_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};
/// How many elements go into one message: a list is an attribute, and those end at 64 KiB.
const ELEMENTS: usize = 128;

/// The type of a set's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Names of links that frames come in by, padded with NULs.
    Port,
    /// Such a name, and the hardware address that a frame comes from, padded with two zeros.
    PortAndMac,
    /// Such a name, and an IPv4 address.
    PortAndIpv4,
    /// Such a name, and an IPv6 address.
    PortAndIpv6,
    /// A transport protocol's number and a port of it, each padded to four bytes.
    Service,
    /// An IPv4 address and such a service.
    Ipv4Service,
    /// An IPv6 address and such a service.
    Ipv6Service,
}

/// One of the things that a key is put together of.
#[derive(Clone, Copy)]
enum Part {
    Ipv4,
    Ipv6,
    Mac,
    Protocol,
    TransportPort,
    Link,
}

impl Part {
    /// Its length in bytes in a key of several parts.
    fn length(self) -> usize {
        match self {
            Part::Ipv4 | Part::Protocol | Part::TransportPort => 4,
            Part::Mac => 8,
            Part::Ipv6 | Part::Link => 16,
        }
    }

    /// Its number in `nft`'s own list (`enum datatypes`), by which it prints keys.
    fn number(self) -> u32 {
        match self {
            Part::Ipv4 => 7,
            Part::Ipv6 => 8,
            Part::Mac => 9,
            Part::Protocol => 12,
            Part::TransportPort => 13,
            Part::Link => 41,
        }
    }
}

/// The number of a type of several parts: six bits each.
fn number(parts: &[Part]) -> u32 {
    parts.iter().fold(0, |number, part| number << 6 | part.number())
}

impl KeyType {
    /// The length of a key in bytes.
    pub fn length(self) -> usize {
        self.parts().iter().map(|part| part.length()).sum()
    }

    /// The length of the address in a key, in bytes; 0 if there is none.
    pub(super) fn address_length(self) -> usize {
        let is_address = |part: &&Part| matches!(part, Part::Ipv4 | Part::Ipv6);
        self.parts().iter().find(is_address).map_or(0, |part| part.length())
    }

    fn parts(self) -> &'static [Part] {
        match self {
            KeyType::Ipv4 => &[Part::Ipv4],
            KeyType::Ipv6 => &[Part::Ipv6],
            KeyType::Port => &[Part::Link],
            KeyType::PortAndMac => &[Part::Link, Part::Mac],
            KeyType::PortAndIpv4 => &[Part::Link, Part::Ipv4],
            KeyType::PortAndIpv6 => &[Part::Link, Part::Ipv6],
            KeyType::Service => &[Part::Protocol, Part::TransportPort],
            KeyType::Ipv4Service => &[Part::Ipv4, Part::Protocol, Part::TransportPort],
            KeyType::Ipv6Service => &[Part::Ipv6, Part::Protocol, Part::TransportPort],
        }
    }
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Single keys.
    Keys,
    /// Ranges of keys; made with [`super::intervals`].
    Intervals,
    /// Single keys, each with a verdict.
    VerdictMap,
    /// Single keys, each with an IPv4 address and a port.
    Targets4,
    /// Single keys, each with an IPv6 address and a port.
    Targets6,
}

impl SetKind {
    /// What each key has beside it, as type and length.
    fn data(self) -> Option<(u32, usize)> {
        let parts: &[Part] = match self {
            SetKind::Keys | SetKind::Intervals => return None,
            SetKind::VerdictMap => return Some((VERDICT, 0)),
            SetKind::Targets4 => &[Part::Ipv4, Part::TransportPort],
            SetKind::Targets6 => &[Part::Ipv6, Part::TransportPort],
        };
        Some((number(parts), parts.iter().map(|part| part.length()).sum()))
    }
}

/// A set, by table and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The table it is in.
    pub table: Table<'a>,
    /// Its name.
    pub name: &'a str,
    /// The type of its keys.
    pub key: KeyType,
    /// What it holds.
    pub kind: SetKind,
}

/// A set as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetInfo {
    /// Its name.
    pub name: String,
    /// Its comment; empty if it has none.
    pub comment: String,
}

impl Set<'_> {
    /// Makes the set if there is none of its name.
    pub fn add(&self, text: &str) -> Message {
        self.new_set(CREATE, text)
    }

    /// Makes the set; `EEXIST` if there is one of its name.
    pub fn create(&self, text: &str) -> Message {
        self.new_set(CREATE | libc::NLM_F_EXCL as u16, text)
    }

    /// Deletes the set with its elements; `ENOENT` if there is none, `EBUSY` while a rule uses it.
    pub fn delete(&self) -> Message {
        let what = format!("delete nf_tables set {:?}", self.name);
        let message = request(what, libc::NFT_MSG_DELSET, 0, self.table.family);
        message.put_text(NFTA_SET_TABLE, self.table.name).put_text(NFTA_SET_NAME, self.name)
    }

    /// Adds elements; `EEXIST` if one of them is there already. Without the exclusive flag the
    /// kernel would answer success and leave the present element, somebody else's, as it is.
    pub fn add_elements(&self, elements: &[Element]) -> Vec<Message> {
        let flags = CREATE | libc::NLM_F_EXCL as u16;
        let list = |part: &[Element]| self.list("add to", libc::NFT_MSG_NEWSETELEM, flags, part);
        elements.chunks(ELEMENTS).map(list).collect()
    }

    /// Adds elements, whether they are there already or not: for those that nobody owns.
    pub fn ensure_elements(&self, elements: &[Element]) -> Vec<Message> {
        let list = |part: &[Element]| self.list("add to", libc::NFT_MSG_NEWSETELEM, CREATE, part);
        elements.chunks(ELEMENTS).map(list).collect()
    }

    /// Deletes elements; `ENOENT` if one of them is not there.
    pub fn delete_elements(&self, elements: &[Element]) -> Vec<Message> {
        let list = |part: &[Element]| self.list("delete from", libc::NFT_MSG_DELSETELEM, 0, part);
        elements.chunks(ELEMENTS).map(list).collect()
    }

    /// Deletes all elements.
    pub fn flush(&self) -> Message {
        self.list("flush", libc::NFT_MSG_DELSETELEM, 0, &[])
    }

    pub(super) fn has_verdicts(&self) -> bool {
        self.kind == SetKind::VerdictMap
    }

    pub(super) fn list(&self, verb: &str, kind: i32, flags: u16, elements: &[Element]) -> Message {
        let keys: Vec<_> = elements.iter().take(4).map(Element::key_text).collect();
        let what = format!("{verb} nf_tables set {:?} [{}]", self.name, keys.join(" "));
        let message = request(what, kind, flags, self.table.family)
            .put_text(NFTA_SET_ELEM_LIST_TABLE, self.table.name)
            .put_text(NFTA_SET_ELEM_LIST_SET, self.name);
        if elements.is_empty() {
            return message;
        }
        message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            elements.iter().fold(list, |list, one| one.put(list))
        })
    }

    fn new_set(&self, flags: u16, text: &str) -> Message {
        let set_flags = match self.kind {
            SetKind::Keys => 0,
            SetKind::Intervals => libc::NFT_SET_INTERVAL,
            SetKind::VerdictMap | SetKind::Targets4 | SetKind::Targets6 => libc::NFT_SET_MAP,
        };
        let what = format!("add nf_tables set {:?}", self.name);
        let message = request(what, libc::NFT_MSG_NEWSET, flags, self.table.family)
            .put_text(NFTA_SET_TABLE, self.table.name)
            .put_text(NFTA_SET_NAME, self.name)
            .put_u32_be(NFTA_SET_FLAGS, set_flags as u32)
            .put_u32_be(NFTA_SET_KEY_TYPE, number(self.key.parts()))
            .put_u32_be(NFTA_SET_KEY_LEN, self.key.length() as u32)
            // By this a transaction could name a set without a name; the kernel always asks for it.
            .put_u32_be(NFTA_SET_ID, 1);
        let message = match self.kind.data() {
            Some((kind, 0)) => message.put_u32_be(NFTA_SET_DATA_TYPE, kind),
            Some((kind, length)) => message
                .put_u32_be(NFTA_SET_DATA_TYPE, kind)
                .put_u32_be(NFTA_SET_DATA_LEN, length as u32),
            None => message,
        };
        let mut told = Vec::new();
        if self.key == KeyType::Port {
            told.extend(HOST_ORDER);
        }
        if !text.is_empty() {
            told.extend(comment(SET_COMMENT, text));
        }
        if told.is_empty() { message } else { message.put(NFTA_SET_USERDATA, &told) }
    }
}
