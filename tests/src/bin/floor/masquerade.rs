//! Masquerading: an element of the set that one rule looks up, and a set of the owner's own that
//! says which element it has. Table, set and rule are there.

use std::net::Ipv4Addr;

use nix::libc;

use crate::netlink::{Datagram, Netlink, nested};
use crate::{Job, Result};

/// `struct nfgenmsg`: family, version, and for a batch the subsystem.
const BATCH: [u8; 4] = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];
const INET: [u8; 4] = [libc::NFPROTO_INET as u8, 0, 0, 0];
/// nft's number of the type `ipv4_addr`.
const IPV4_ADDR: u32 = 7;

// Numbers of linux/netfilter/nf_tables.h.
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

const TABLE: &str = "floor";
const SOURCES: &str = "sources";

/// Both sets in one transaction.
pub(crate) fn add(rules: &Netlink, job: &Job, v4: Ipv4Addr) -> Result<()> {
    let own = own_set(job);
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let datagram = begin()
        .message(nft(libc::NFT_MSG_NEWSET), create, &INET)
        .put_text(NFTA_SET_TABLE, TABLE)
        .put_text(NFTA_SET_NAME, &own)
        .put(NFTA_SET_KEY_TYPE, &IPV4_ADDR.to_be_bytes())
        .put(NFTA_SET_KEY_LEN, &4u32.to_be_bytes())
        .put(NFTA_SET_ID, &1u32.to_be_bytes());
    let datagram = element(datagram, libc::NFT_MSG_NEWSETELEM, create, &own, v4);
    let datagram =
        element(datagram, libc::NFT_MSG_NEWSETELEM, create | libc::NLM_F_ACK, SOURCES, v4);
    rules.ask(&datagram.message(libc::NFNL_MSG_BATCH_END as u16, 0, &BATCH)).map(drop)
}

/// Both in one transaction.
pub(crate) fn remove(rules: &Netlink, job: &Job, v4: Ipv4Addr) -> Result<()> {
    let datagram = element(begin(), libc::NFT_MSG_DELSETELEM, 0, SOURCES, v4)
        .message(nft(libc::NFT_MSG_DELSET), libc::NLM_F_ACK, &INET)
        .put_text(NFTA_SET_TABLE, TABLE)
        .put_text(NFTA_SET_NAME, &own_set(job));
    rules.ask(&datagram.message(libc::NFNL_MSG_BATCH_END as u16, 0, &BATCH)).map(drop)
}

fn own_set(job: &Job) -> String {
    format!("att-{:016x}", job.number())
}

fn begin() -> Datagram {
    Datagram::new().message(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, &BATCH)
}

fn element(datagram: Datagram, message: i32, flags: i32, set: &str, v4: Ipv4Addr) -> Datagram {
    const NESTED: u16 = libc::NLA_F_NESTED as u16;
    let value = nested(&[(NFTA_DATA_VALUE, &v4.octets())]);
    let key = nested(&[(NFTA_SET_ELEM_KEY | NESTED, &value)]);
    let list = nested(&[(NFTA_LIST_ELEM | NESTED, &key)]);
    datagram
        .message(nft(message), flags, &INET)
        .put_text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .put_text(NFTA_SET_ELEM_LIST_SET, set)
        .put(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, &list)
}

fn nft(message: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | message as u16
}
