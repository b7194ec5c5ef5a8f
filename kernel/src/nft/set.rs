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
const NFTA_SET_ID: u16 = 10;
pub(super) const NFTA_SET_USERDATA: u16 = 13;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const VERDICT: u32 = libc::NFT_DATA_VERDICT;
/// `NFTNL_UDATA_SET_COMMENT`.
pub(super) const SET_COMMENT: u8 = 7;
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
}

impl KeyType {
    /// The length of a key in bytes.
    pub fn length(self) -> usize {
        match self {
            KeyType::Ipv4 => 4,
            KeyType::Ipv6 | KeyType::Port => 16,
            KeyType::PortAndMac => 24,
        }
    }

    /// The type's number in `nft`'s own list (`enum datatypes`), by which it prints keys; of a
    /// concatenation six bits each.
    fn number(self) -> u32 {
        match self {
            KeyType::Ipv4 => 7,
            KeyType::Ipv6 => 8,
            KeyType::Port => 41,
            KeyType::PortAndMac => 41 << 6 | 9,
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

    /// Deletes elements; `ENOENT` if one of them is not there.
    pub fn delete_elements(&self, elements: &[Element]) -> Vec<Message> {
        let list = |part: &[Element]| self.list("delete from", libc::NFT_MSG_DELSETELEM, 0, part);
        elements.chunks(ELEMENTS).map(list).collect()
    }

    /// Deletes all elements.
    pub fn flush(&self) -> Message {
        self.list("flush", libc::NFT_MSG_DELSETELEM, 0, &[])
    }

    pub(super) fn is_map(&self) -> bool {
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
            SetKind::VerdictMap => libc::NFT_SET_MAP,
        };
        let what = format!("add nf_tables set {:?}", self.name);
        let message = request(what, libc::NFT_MSG_NEWSET, flags, self.table.family)
            .put_text(NFTA_SET_TABLE, self.table.name)
            .put_text(NFTA_SET_NAME, self.name)
            .put_u32_be(NFTA_SET_FLAGS, set_flags as u32)
            .put_u32_be(NFTA_SET_KEY_TYPE, self.key.number())
            .put_u32_be(NFTA_SET_KEY_LEN, self.key.length() as u32)
            // By this a transaction could name a set without a name; the kernel always asks for it.
            .put_u32_be(NFTA_SET_ID, 1);
        let message =
            if self.is_map() { message.put_u32_be(NFTA_SET_DATA_TYPE, VERDICT) } else { message };
        if text.is_empty() {
            message
        } else {
            message.put(NFTA_SET_USERDATA, &comment(SET_COMMENT, text))
        }
    }
}
