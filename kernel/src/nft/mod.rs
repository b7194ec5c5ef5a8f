//! Packet filtering: nf_tables over nfnetlink (`nft(8)`, `linux/netfilter/nf_tables.h`).
//!
//! Objects are small values that name themselves; their methods make requests. Requests that
//! change something are collected and take effect together in [`Nft::commit`], or not at all.
//!
//! The kernel has no owners for what lies in a shared table. Callers keep one set per owner that
//! holds the owner's keys, written in the same transaction, so that an owner's things can be found
//! by one name and without listing anybody else's.

mod base;
mod chain;
mod element;
mod expression;
mod field;
mod forwarding;
mod generation;
mod interval;
mod list;
mod outline;
mod rule;
mod set;
mod table;
#[cfg(test)]
mod tests;
mod xtables;

pub use base::ForwardChain;
pub use chain::{Chain, Hook};
pub use element::Element;
pub use expression::{Expression, Verdict};
pub use field::Field;
pub use generation::{Generation, is_outdated};
pub use interval::intervals;
pub use rule::RuleInfo;
pub use set::{KeyType, Set, SetInfo, SetKind};
pub use table::{Family, Table};
pub use xtables::Xtables;

use nix::libc;

use crate::NetNs;
use crate::conntrack::Conntrack;
use crate::netlink::{self, Message, Protocol, Result, Socket};
use crate::process::child::close_later;

/// `struct nfgenmsg`.
const HEADER: usize = 4;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// The kernel keeps at most this many bytes of text, its NUL included, as a comment.
const COMMENT_LIMIT: usize = 128;

/// A socket to the nf_tables of the namespace it was opened in.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    /// Whether a transaction was made.
    changed: bool,
}

impl Nft {
    /// Opens a socket in the current namespace.
    ///
    /// # Errors
    /// The process may not open netlink sockets.
    pub fn open() -> Result<Self> {
        Ok(Nft { socket: Socket::open(Protocol::Netfilter)?, changed: false })
    }

    /// Opens a socket in another namespace; the calling thread stays where it is.
    ///
    /// # Errors
    /// As [`Nft::open`], or the namespace cannot be entered.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        netlink::open_in(ns, Self::open)
    }

    /// Makes all changes in one transaction.
    ///
    /// # Errors
    /// The first refusal; then none of the changes was made.
    pub fn commit(&mut self, changes: &[Message]) -> Result<()> {
        self.transact(&bound("begin an nf_tables transaction", libc::NFNL_MSG_BATCH_BEGIN), changes)
    }

    /// The connection tracking of the socket's namespace.
    pub fn conntrack(&mut self) -> Conntrack<'_> {
        Conntrack::on(&mut self.socket)
    }

    /// Ends the use of the socket without waiting for the kernel, if anything was changed. The end of
    /// any netfilter socket waits until what transactions have deleted is forgotten
    /// (`nft_rcv_nl_event()`), some ten milliseconds, in which the changes are in force already. A
    /// child process waits in place of this one, which is about to end itself.
    pub fn leave(self) {
        if self.changed {
            close_later(self.socket);
        }
    }

    fn transact(&mut self, begin: &Message, changes: &[Message]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.changed = true;
        let end = bound("end an nf_tables transaction", libc::NFNL_MSG_BATCH_END);
        self.socket.transaction(begin, changes, &end)
    }
}

/// What begins or ends a transaction.
fn bound(what: &str, kind: i32) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(what, kind as u16, 0, &[libc::AF_UNSPEC as u8, 0, high, low])
}

/// A request to nf_tables about something in a table of this family.
fn request(what: String, kind: i32, flags: u16, family: Family) -> Message {
    Message::new(what, SUBSYSTEM << 8 | kind as u16, flags, &[family.number(), 0, 0, 0])
}

/// A comment as libnftnl stores it: type, length, text with NUL. Text that is too long is cut.
fn comment(kind: u8, text: &str) -> Vec<u8> {
    let mut end = text.len().min(COMMENT_LIMIT - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let length = end as u8 + 1;
    [&[kind, length], &text.as_bytes()[..end], &[0]].concat()
}

/// The comment among an object's user data; empty if there is none.
fn read_comment(kind: u8, mut data: &[u8]) -> String {
    while let [this, length, rest @ ..] = data {
        let (value, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        if *this == kind {
            let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
            return String::from_utf8_lossy(&value[..end]).into_owned();
        }
        data = rest;
    }
    String::new()
}
