//! Which changes of the packet filter are any of our business.
//!
//! Plugins, kube-proxy and Docker change it all the time. Ours is the table of the masquerade rules,
//! and in the tables of `iptables-nft` the chain that packets pass, and our own.

use kernel::netlink::Reply;
use nix::libc;

use crate::host::accept;
use crate::masquerade;

/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// The name of the table, of whatever is in it (`NFTA_*_TABLE`), and of the table itself.
const TABLE: u16 = 1;
/// `NFTA_CHAIN_NAME`.
const CHAIN_NAME: u16 = 3;
/// `NFTA_RULE_CHAIN`.
const RULE_CHAIN: u16 = 2;
/// The table of `iptables-nft`.
const FILTER: &str = "filter";

/// Whether an event of nf_tables tells of a change that may be one of ours.
pub(super) fn concerns_us(event: &Reply) -> bool {
    let attributes = event.attributes(HEADER);
    let text = |kind| attributes.get(kind).map(|found| found.text()).unwrap_or_default();
    match text(TABLE).as_str() {
        masquerade::TABLE_NAME => true,
        FILTER => match i32::from(event.kind & 0xff) {
            libc::NFT_MSG_NEWRULE | libc::NFT_MSG_DELRULE => accept::is_watched(&text(RULE_CHAIN)),
            libc::NFT_MSG_NEWCHAIN | libc::NFT_MSG_DELCHAIN => {
                accept::is_watched(&text(CHAIN_NAME))
            }
            libc::NFT_MSG_DELTABLE => true,
            _ => false,
        },
        _ => false,
    }
}
