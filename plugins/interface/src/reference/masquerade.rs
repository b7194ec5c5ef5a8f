//! `ipMasq`: what the container sends out of its network leaves with the host's address.
//!
//! The reference makes one of
//!
//! ```text
//! table ip nat {                          of iptables; likewise ip6; every rule has the comment
//!     chain POSTROUTING { ip saddr <address> jump CNI-<hash> }                shared
//!     chain CNI-<hash> { ip daddr <network> accept; ip daddr != 224.0.0.0/4 masquerade }
//! }
//! table inet cni_plugins_masquerade {     of nftables; the comment begins with the attachment's key
//!     chain masq_checks { ip saddr <address> ip daddr != <network> masquerade }   shared
//! }
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni_conf::attachment::Attachment;
use kernel::nft::{Chain, Family, Field, Nft, Table};
use nix::errno::Errno;

use super::chains::Chains;
use super::{Leftover, names};
use crate::Valid;
use crate::error::{Error, Result};

/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;
const CHECKS: Chain<'static> = Chain {
    table: Table { family: Family::Inet, name: "cni_plugins_masquerade" },
    name: "masq_checks",
};

/// The rules of an attachment in the shared chain of nftables.
#[derive(Debug)]
pub(super) struct Rules {
    key: String,
}

impl Rules {
    /// The chain without which there are none.
    pub(super) fn chain(&self) -> Chain<'_> {
        CHECKS
    }

    pub(super) fn remove(&self, nft: &mut Nft) -> Result<()> {
        remove_rules(nft, |comment| comment.starts_with(&self.key))
    }
}

/// What there may be of an attachment.
pub(super) fn leftovers(attachment: &Attachment) -> Vec<Leftover> {
    vec![
        Leftover::Chains(chains_of(Family::Ip, attachment)),
        Leftover::Chains(chains_of(Family::Ip6, attachment)),
        Leftover::Rules(Rules { key: names::rule_key(attachment) }),
    ]
}

/// The addresses of the attachment that nf_tables masquerades, `iptables-nft` included.
pub(super) fn sources(nft: &mut Nft, attachment: &Attachment) -> Result<Vec<IpAddr>> {
    let key = names::rule_key(attachment);
    let rules = nft.rules_of(&CHECKS)?.into_iter().filter(|rule| rule.comment.starts_with(&key));
    let mut sources: Vec<_> = rules.filter_map(|rule| rule.address(Field::Source)).collect();
    for family in [Family::Ip, Family::Ip6] {
        sources.extend(chains_of(family, attachment).sources(nft)?);
    }
    Ok(sources)
}

/// The chain in iptables of the attachment's container.
pub(super) fn chains_of(family: Family, attachment: &Attachment) -> Chains {
    of_iptables(family, &attachment.network, &attachment.container_id)
}

/// A container's chain in iptables.
pub(super) fn of_iptables(family: Family, network: &str, container_id: &str) -> Chains {
    Chains {
        family,
        table: "nat",
        entrance: "POSTROUTING",
        names: vec![names::chain(network, container_id)],
        comment: names::comment(network, container_id),
    }
}

/// Removes what there is of attachments of the network that are not valid.
pub(super) fn collect(nft: &mut Nft, valid: &Valid<'_>) -> Result<()> {
    let keys: Vec<_> = valid.attachments.iter().map(names::rule_key).collect();
    let of_network = names::network_key(valid.network);
    let is_stale = |comment: &str| {
        comment.starts_with(&of_network) && !keys.iter().any(|key| comment.starts_with(key))
    };
    let mut steps = vec![remove_rules(nft, is_stale)];
    for family in [Family::Ip, Family::Ip6] {
        let rules = nft.rules(&Table { family, name: "nat" })?;
        let comments = rules.iter().map(|rule| rule.comment.as_str());
        let chains = stale(comments, valid).into_iter();
        let chains = chains.map(|id| of_iptables(family, valid.network, id));
        steps.extend(chains.map(|chains| chains.remove(nft, &[])));
    }
    Error::all(steps)
}

/// The containers of the network that these comments name, but the valid ones.
pub(super) fn stale<'a>(
    comments: impl Iterator<Item = &'a str>,
    valid: &Valid<'_>,
) -> BTreeSet<&'a str> {
    let named = comments.filter_map(|comment| names::container_of(comment, valid.network));
    named.filter(|id| !valid.attachments.iter().any(|one| one.container_id == *id)).collect()
}

fn remove_rules(nft: &mut Nft, is_meant: impl Fn(&str) -> bool) -> Result<()> {
    for _ in 0..TRIES {
        let mut rules = nft.rules_of(&CHECKS)?;
        rules.retain(|rule| is_meant(&rule.comment));
        let changes: Vec<_> = rules.iter().map(|rule| CHECKS.delete_rule(rule.handle)).collect();
        match nft.commit(&changes) {
            // Somebody else has just removed one of them: what is left is looked at again.
            Err(error) if error.is(Errno::ENOENT) => {}
            done => return Ok(done?),
        }
    }
    Ok(())
}
