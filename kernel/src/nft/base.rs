//! Base chains and what they do with packets that no rule decides about, whoever made them.

use nix::libc;

use super::chain::{NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_HOOK_HOOKNUM};
use super::{Family, HEADER, Nft, SUBSYSTEM};
use crate::netlink::{Message, Reply, Result};

const NFTA_CHAIN_POLICY: u16 = 5;

/// A chain at the hook of packets that pass through the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardChain {
    /// Which packets it sees.
    pub family: Family,
    /// The name of its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether it drops what none of its rules decides about.
    pub drops: bool,
}

impl Nft {
    /// The chains that packets pass on their way through the host; none without nf_tables.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn forward_chains(&mut self) -> Result<Vec<ForwardChain>> {
        let header = [libc::AF_UNSPEC as u8, 0, 0, 0];
        let kind = SUBSYSTEM << 8 | libc::NFT_MSG_GETCHAIN as u16;
        let replies = match self.socket.dump(&Message::new("list all chains", kind, 0, &header)) {
            Err(error) if error.is_absent() || error.is_unsupported() => Vec::new(),
            replies => replies?,
        };
        Ok(replies.iter().filter_map(forward_chain).collect())
    }
}

fn forward_chain(reply: &Reply) -> Option<ForwardChain> {
    let family = Family::from_number(reply.u8_at(0)).filter(|family| *family != Family::Bridge)?;
    let attributes = reply.attributes(HEADER);
    let hook = attributes.get(NFTA_CHAIN_HOOK)?.nested().get(NFTA_HOOK_HOOKNUM)?.u32_be()?;
    let policy = attributes.get(NFTA_CHAIN_POLICY).and_then(|policy| policy.u32_be());
    (hook == libc::NF_INET_FORWARD as u32).then_some(ForwardChain {
        family,
        table: attributes.get(NFTA_CHAIN_TABLE)?.text(),
        name: attributes.get(NFTA_CHAIN_NAME)?.text(),
        drops: policy == Some(libc::NF_DROP as u32),
    })
}
