//! Chains and their rules.

use nix::libc;

use super::rule::{RULE_COMMENT, RULE_OWNER};
use super::{CREATE, Expression, Table, comment, request};
use crate::netlink::Message;

pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_USE: u16 = 6;
const NFTA_CHAIN_TYPE: u16 = 7;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_POSITION: u16 = 6;
pub(super) const NFTA_RULE_USERDATA: u16 = 7;

/// Where packets enter a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Source address translation of what leaves (`type nat hook postrouting priority srcnat`).
    SourceNat,
    /// Destination address translation of what comes in (`type nat hook prerouting priority dstnat`).
    DestinationNat,
    /// The same of what the host itself sends (`type nat hook output priority -100`).
    OutputNat,
    /// What comes in, before everything else (`type filter hook prerouting priority raw`).
    Raw,
    /// Frames that come in by a bridge's ports (`type filter hook prerouting priority -300`).
    BridgeIngress,
    /// What passes through the host (`type filter hook forward priority filter`).
    Forward,
    /// Frames from one port of a bridge to another (`type filter hook forward priority filter`).
    BridgeForward,
}

/// A chain, by table and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// The table it is in.
    pub table: Table<'a>,
    /// Its name.
    pub name: &'a str,
}

impl Chain<'_> {
    /// Makes the chain if there is none of its name.
    pub fn add(&self) -> Message {
        self.new_chain(CREATE)
    }

    /// Makes the chain; `EEXIST` if there is one of its name.
    pub fn create(&self) -> Message {
        self.new_chain(CREATE | libc::NLM_F_EXCL as u16)
    }

    /// Makes the chain at a hook, if there is none of its name.
    pub fn add_at(&self, hook: Hook) -> Message {
        let (kind, number, priority) = match hook {
            Hook::SourceNat => ("nat", libc::NF_INET_POST_ROUTING, libc::NF_IP_PRI_NAT_SRC),
            Hook::DestinationNat => ("nat", libc::NF_INET_PRE_ROUTING, libc::NF_IP_PRI_NAT_DST),
            Hook::OutputNat => ("nat", libc::NF_INET_LOCAL_OUT, libc::NF_IP_PRI_NAT_DST),
            Hook::Raw => ("filter", libc::NF_INET_PRE_ROUTING, libc::NF_IP_PRI_RAW),
            Hook::BridgeIngress => {
                ("filter", libc::NF_BR_PRE_ROUTING, libc::NF_BR_PRI_NAT_DST_BRIDGED)
            }
            Hook::Forward => ("filter", libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER),
            Hook::BridgeForward => ("filter", libc::NF_BR_FORWARD, libc::NF_BR_PRI_FILTER_BRIDGED),
        };
        self.new_chain(CREATE)
            .nest(NFTA_CHAIN_HOOK, |hook| {
                hook.put_u32_be(NFTA_HOOK_HOOKNUM, number as u32)
                    .put_u32_be(NFTA_HOOK_PRIORITY, priority as u32)
            })
            .put_text(NFTA_CHAIN_TYPE, kind)
    }

    /// Deletes the chain with its rules; `EBUSY` while something jumps to it, `ENOENT` if there
    /// is none.
    pub fn delete(&self) -> Message {
        let what = format!("delete nf_tables chain {:?}", self.name);
        self.named(request(what, libc::NFT_MSG_DELCHAIN, 0, self.table.family))
    }

    /// Deletes the chain, which must have no rules; `EBUSY` if it has, or something jumps to it.
    pub fn delete_empty(&self) -> Message {
        /// `NLM_F_NONREC`.
        const NOT_RECURSIVE: u16 = 0x100;
        let what = format!("delete empty nf_tables chain {:?}", self.name);
        self.named(request(what, libc::NFT_MSG_DELCHAIN, NOT_RECURSIVE, self.table.family))
    }

    /// Appends a rule.
    pub fn append(&self, expressions: &[Expression<'_>], text: &str) -> Message {
        self.new_rule(CREATE | libc::NLM_F_APPEND as u16, expressions, RULE_COMMENT, text)
    }

    /// Appends a rule with a word about whose it is, which neither `nft` nor `iptables` shows, and
    /// which they lose when they save and restore the rule.
    pub fn append_owned(&self, expressions: &[Expression<'_>], owner: &str) -> Message {
        self.new_rule(CREATE | libc::NLM_F_APPEND as u16, expressions, RULE_OWNER, owner)
    }

    /// Puts a rule before all others.
    pub fn insert(&self, expressions: &[Expression<'_>], text: &str) -> Message {
        self.new_rule(CREATE, expressions, RULE_COMMENT, text)
    }

    /// Puts a rule before the one of this handle; `ENOENT` if the chain has none.
    pub fn insert_before(&self, handle: u64, expressions: &[Expression<'_>]) -> Message {
        let rule = self.insert(expressions, "");
        rule.put(NFTA_RULE_POSITION, &handle.to_be_bytes())
    }

    fn new_rule(
        &self,
        flags: u16,
        expressions: &[Expression<'_>],
        kind: u8,
        text: &str,
    ) -> Message {
        let what = format!("add a rule to nf_tables chain {:?}", self.name);
        let message = self.in_chain(request(what, libc::NFT_MSG_NEWRULE, flags, self.table.family));
        let message = message.nest(NFTA_RULE_EXPRESSIONS, |list| {
            expressions.iter().fold(list, |list, one| one.put(list))
        });
        if text.is_empty() {
            message
        } else {
            message.put(NFTA_RULE_USERDATA, &comment(kind, text))
        }
    }

    /// Removes the rule of this handle; `ENOENT` if the chain has none.
    pub fn delete_rule(&self, handle: u64) -> Message {
        let what = format!("delete rule {handle} of nf_tables chain {:?}", self.name);
        let message = request(what, libc::NFT_MSG_DELRULE, 0, self.table.family);
        self.in_chain(message).put(NFTA_RULE_HANDLE, &handle.to_be_bytes())
    }

    /// Removes all rules of the chain.
    pub fn flush(&self) -> Message {
        let what = format!("flush nf_tables chain {:?}", self.name);
        self.in_chain(request(what, libc::NFT_MSG_DELRULE, 0, self.table.family))
    }

    fn new_chain(&self, flags: u16) -> Message {
        let what = format!("add nf_tables chain {:?}", self.name);
        self.named(request(what, libc::NFT_MSG_NEWCHAIN, flags, self.table.family))
    }

    pub(super) fn named(&self, message: Message) -> Message {
        message.put_text(NFTA_CHAIN_TABLE, self.table.name).put_text(NFTA_CHAIN_NAME, self.name)
    }

    pub(super) fn in_chain(&self, message: Message) -> Message {
        message.put_text(NFTA_RULE_TABLE, self.table.name).put_text(NFTA_RULE_CHAIN, self.name)
    }
}
