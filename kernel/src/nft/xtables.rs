//! Matches of iptables (`nft_compat`), written as `iptables-nft` writes them, for rules in chains
//! that are its own: it takes rules in other words for foreign, and does not save them.

use super::expression::expression;
use super::rule::{NFTA_MATCH_INFO, NFTA_MATCH_NAME, NFTA_MATCH_REV};
use crate::netlink::Message;

/// `struct xt_comment_info`.
const COMMENT_LENGTH: usize = 256;
/// `struct xt_conntrack_mtinfo3`, rounded up to eight bytes.
const CONNTRACK_LENGTH: usize = 168;
/// Where in it what is asked for is, and the states.
const MATCH_FLAGS: usize = 146;
const STATE_MASK: usize = 150;
/// `XT_CONNTRACK_STATE`.
const ASKS_FOR_STATE: u16 = 1;
/// `XT_CONNTRACK_STATE_BIT` of `IP_CT_ESTABLISHED` and of `IP_CT_RELATED`.
const ESTABLISHED: u16 = 1 << 1;
const RELATED: u16 = 1 << 2;

/// A match of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xtables<'a> {
    /// `-m comment --comment …`: a word for people, of at most 255 bytes.
    Comment(&'a str),
    /// `-m conntrack --ctstate RELATED,ESTABLISHED`: what belongs to a flow that is there.
    OfAFlow,
}

impl Xtables<'_> {
    pub(super) fn put(&self, list: Message) -> Message {
        let (name, revision, info) = match self {
            Xtables::Comment(text) => {
                let mut info = text.as_bytes().to_vec();
                info.truncate(COMMENT_LENGTH - 1);
                info.resize(COMMENT_LENGTH, 0);
                ("comment", 0, info)
            }
            Xtables::OfAFlow => {
                let mut info = vec![0; CONNTRACK_LENGTH];
                info[MATCH_FLAGS..][..2].copy_from_slice(&ASKS_FOR_STATE.to_ne_bytes());
                info[STATE_MASK..][..2].copy_from_slice(&(RELATED | ESTABLISHED).to_ne_bytes());
                ("conntrack", 3, info)
            }
        };
        expression(list, "match", |data| {
            data.put_text(NFTA_MATCH_NAME, name)
                .put_u32_be(NFTA_MATCH_REV, revision)
                .put(NFTA_MATCH_INFO, &info)
        })
    }
}
