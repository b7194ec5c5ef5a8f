//! Tables: the namespaces of chains and sets.

use nix::libc;

use super::{CREATE, request};
use crate::netlink::Message;

pub(super) const NFTA_TABLE_NAME: u16 = 1;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6 (since Linux 5.2 with NAT).
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// What crosses a bridge.
    Bridge,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        let number = match self {
            Family::Inet => libc::NFPROTO_INET,
            Family::Ip => libc::NFPROTO_IPV4,
            Family::Ip6 => libc::NFPROTO_IPV6,
            Family::Bridge => libc::NFPROTO_BRIDGE,
        };
        number as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge]
            .into_iter()
            .find(|family| family.number() == number)
    }
}

/// A table, by family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

impl Table<'_> {
    /// Makes the table if there is none.
    pub fn add(&self) -> Message {
        let what = format!("add nf_tables table {:?}", self.name);
        request(what, libc::NFT_MSG_NEWTABLE, CREATE, self.family)
            .put_text(NFTA_TABLE_NAME, self.name)
    }

    /// Deletes the table with all that is in it; `ENOENT` if there is none.
    pub fn delete(&self) -> Message {
        let what = format!("delete nf_tables table {:?}", self.name);
        request(what, libc::NFT_MSG_DELTABLE, 0, self.family).put_text(NFTA_TABLE_NAME, self.name)
    }
}
