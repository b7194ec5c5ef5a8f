//! The Go plugin's rules in tables of its own, with its backend `nftables`.
//!
//! ```text
//! table ip cni_hostport {                  likewise ip6
//!     chain hostports { tcp dport 80 dnat to 10.1.0.2:8080 comment "<container>" }
//!     chain masquerading { ip saddr 10.1.0.2 ip daddr 10.1.0.2 masquerade comment "<container>" }
//! }
//! ```
//!
//! The comments name the container alone. So what leads to an address that the container still has is
//! taken for another interface's, and all else for this one's.

use std::net::IpAddr;

use kernel::netlink::Message;
use kernel::nft::{Chain, Family, Field, Nft, RuleInfo, Table};
use nix::errno::Errno;
use plugin_interface::Result;

use crate::mapping::Mapping;

/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;

/// The chain without which there is nothing of anybody.
pub(super) fn host_ports(family: Family) -> Chain<'static> {
    chain(family, "hostports")
}

/// Removes the rules with this comment, but for those of addresses in use.
pub(super) fn remove(
    nft: &mut Nft,
    family: Family,
    comment: &str,
    in_use: &[IpAddr],
) -> Result<()> {
    for _ in 0..TRIES {
        let changes = removal(nft, family, comment, in_use)?;
        match nft.commit(&changes) {
            // Somebody else has just removed some of them: what is left is looked at again.
            Err(error) if error.is(Errno::ENOENT) => {}
            done => return Ok(done?),
        }
    }
    Ok(())
}

/// Whether a rule with this comment makes the port lead where it should.
pub(super) fn leads(rules: &[RuleInfo], comment: &str, mapping: &Mapping) -> bool {
    let Mapping { place, target } = mapping;
    rules.iter().filter(|rule| rule.comment == comment).any(|rule| {
        rule.protocol() == Some(place.protocol)
            && rule.ports().contains(&place.port)
            && rule.translates_to(place.ipv6) == Some(*target)
    })
}

fn removal(
    nft: &mut Nft,
    family: Family,
    comment: &str,
    in_use: &[IpAddr],
) -> Result<Vec<Message>> {
    let ipv6 = family == Family::Ip6;
    let mut changes = Vec::new();
    for chain in [host_ports(family), chain(family, "masquerading")] {
        let rules = nft.rules_of(&chain)?.into_iter().filter(|rule| rule.comment == comment);
        let gone = rules.filter(|rule| {
            let target = rule.translates_to(ipv6).map(|target| target.ip());
            let address = target.or_else(|| rule.address(Field::Destination));
            !address.is_some_and(|address| in_use.contains(&address))
        });
        changes.extend(gone.map(|rule| chain.delete_rule(rule.handle)));
    }
    Ok(changes)
}

fn chain(family: Family, name: &'static str) -> Chain<'static> {
    Chain { table: Table { family, name: "cni_hostport" }, name }
}
