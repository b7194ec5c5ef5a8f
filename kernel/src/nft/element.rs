//! Elements of sets.

use std::net::{IpAddr, SocketAddr};

use nix::libc;

use super::expression::{
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_LIST_ELEM, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
    put_value, put_verdict,
};
use super::{Verdict, comment, read_comment};
use crate::MacAddress;
use crate::address::{from_octets, octets};
use crate::netlink::{Attribute, Message};

const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const INTERVAL_END: u32 = libc::NFT_SET_ELEM_INTERVAL_END as u32;
/// `NFTNL_UDATA_SET_ELEM_COMMENT`.
const COMMENT: u8 = 0;

/// An element of a set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The key, in network byte order.
    pub key: Vec<u8>,
    /// In a verdict map: what happens to a packet with this key.
    pub verdict: Option<Verdict>,
    /// In a map of targets: where a packet with this key goes instead.
    pub target: Option<SocketAddr>,
    /// Whether a range ends before this key, rather than begins at it.
    pub ends_interval: bool,
    /// A word for people; empty if there is none.
    pub comment: String,
}

impl Element {
    /// The element for an address.
    pub fn new(key: IpAddr) -> Self {
        Self::of_key(octets(key))
    }

    /// The element for a link that frames come in by, in a set of [`super::KeyType::Port`].
    pub fn port(name: &str) -> Self {
        let mut key = name.as_bytes().to_vec();
        key.resize(libc::IFNAMSIZ, 0);
        Self::of_key(key)
    }

    /// As [`Element::port`], in a set of [`super::KeyType::PortAndMac`].
    pub fn port_and_mac(name: &str, mac: MacAddress) -> Self {
        let port = Self::port(name).key;
        Self::of_key([&port[..], &mac.0, &[0, 0]].concat())
    }

    /// As [`Element::port`], in a set of [`super::KeyType::PortAndIpv4`] or its like for IPv6.
    pub fn port_and_address(name: &str, address: IpAddr) -> Self {
        Self::of_key([Self::port(name).key, octets(address)].concat())
    }

    /// The element for a port of a transport protocol, in a set of [`super::KeyType::Service`].
    pub fn service(protocol: u8, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        Self::of_key(vec![protocol, 0, 0, 0, high, low, 0, 0])
    }

    /// As [`Element::service`], in a set of [`super::KeyType::Ipv4Service`] or its like for IPv6.
    pub fn address_service(address: IpAddr, protocol: u8, port: u16) -> Self {
        Self::of_key([octets(address), Self::service(protocol, port).key].concat())
    }

    /// The element of the first part of this key alone: of the link's name.
    #[must_use]
    pub fn port_alone(&self) -> Self {
        Self::of_key(self.key.iter().copied().take(libc::IFNAMSIZ).collect())
    }

    fn of_key(key: Vec<u8>) -> Self {
        Element { key, ..Element::default() }
    }

    /// The same element with a verdict, for a map.
    #[must_use]
    pub fn to(self, verdict: Verdict) -> Self {
        Element { verdict: Some(verdict), ..self }
    }

    /// The same element with a target, for a map of those.
    #[must_use]
    pub fn to_target(self, target: SocketAddr) -> Self {
        Element { target: Some(target), ..self }
    }

    /// The same element with a comment. More than 127 bytes are cut.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Element { comment: comment.into(), ..self }
    }

    /// The key as an address, if it has the length of one.
    pub fn address(&self) -> Option<IpAddr> {
        from_octets(&self.key)
    }

    pub(super) fn key_text(&self) -> String {
        self.address().map_or_else(|| format!("{:02x?}", self.key), |address| address.to_string())
    }

    pub(super) fn put(&self, list: Message) -> Message {
        list.nest(NFTA_LIST_ELEM, |element| {
            let mut element = element.nest(NFTA_SET_ELEM_KEY, |value| put_value(value, &self.key));
            if self.ends_interval {
                element = element.put_u32_be(NFTA_SET_ELEM_FLAGS, INTERVAL_END);
            }
            if let Some(verdict) = &self.verdict {
                element = element.nest(NFTA_SET_ELEM_DATA, |value| put_verdict(value, verdict));
            }
            if let Some(target) = self.target {
                let port = [&target.port().to_be_bytes()[..], &[0, 0]].concat();
                let bytes = [octets(target.ip()), port].concat();
                element = element.nest(NFTA_SET_ELEM_DATA, |value| put_value(value, &bytes));
            }
            if !self.comment.is_empty() {
                element = element.put(NFTA_SET_ELEM_USERDATA, &comment(COMMENT, &self.comment));
            }
            element
        })
    }

    pub(super) fn parse(element: &Attribute<'_>) -> Option<Self> {
        let attributes = element.nested();
        let flags = attributes.get(NFTA_SET_ELEM_FLAGS).and_then(|flags| flags.u32_be());
        let userdata = attributes.get(NFTA_SET_ELEM_USERDATA);
        Some(Element {
            key: attributes.get(NFTA_SET_ELEM_KEY)?.nested().get(NFTA_DATA_VALUE)?.value.to_vec(),
            verdict: attributes.get(NFTA_SET_ELEM_DATA).and_then(|data| parse_verdict(&data)),
            target: attributes.get(NFTA_SET_ELEM_DATA).and_then(|data| parse_target(&data)),
            ends_interval: flags.unwrap_or(0) & INTERVAL_END != 0,
            comment: userdata.map(|data| read_comment(COMMENT, data.value)).unwrap_or_default(),
        })
    }
}

fn parse_target(data: &Attribute<'_>) -> Option<SocketAddr> {
    let bytes = data.nested().get(NFTA_DATA_VALUE)?.value;
    let (address, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some(SocketAddr::new(from_octets(address)?, u16::from_be_bytes(*port.first_chunk()?)))
}

/// The verdicts that this crate writes; others are foreign and read as none.
fn parse_verdict(data: &Attribute<'_>) -> Option<Verdict> {
    let verdict = data.nested().get(NFTA_DATA_VERDICT)?.nested();
    match verdict.get(NFTA_VERDICT_CODE)?.u32_be()? as i32 {
        libc::NF_DROP => Some(Verdict::Drop),
        libc::NFT_RETURN => Some(Verdict::Return),
        libc::NF_ACCEPT => Some(Verdict::Accept),
        libc::NFT_JUMP => Some(Verdict::Jump(verdict.get(NFTA_VERDICT_CHAIN)?.text())),
        _ => None,
    }
}
