//! The Go plugin's rules in iptables that speaks nf_tables.

use std::net::IpAddr;

use kernel::netlink::Message;
use kernel::nft::{Chain, Family, Nft, RuleInfo, Table};
use nix::errno::Errno;
use plugin_interface::Result;

use super::chain::{Rule, Shared};
use super::names;

/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;

/// A chain of this name in the table that ports are mapped in.
pub(super) fn chain(family: Family, name: &str) -> Chain<'_> {
    Chain { table: Table { family, name: "nat" }, name }
}

/// What there is of a container.
pub(super) fn look(
    nft: &mut Nft,
    family: Family,
    network: &str,
    container_id: &str,
) -> Result<Shared<Message>> {
    let (name, comment) =
        (names::chain(network, container_id), names::comment(network, container_id));
    let (entrance, own) = (chain(family, names::ENTRANCE), chain(family, &name));
    let leading = nft.rules_of(&entrance)?.into_iter();
    let leading = leading.filter(|rule| rule.leads_to().as_ref() == Some(&name));
    let (entries, others): (Vec<_>, Vec<_>) = leading.partition(|rule| rule.comment == comment);
    let read = |chain: &Chain<'_>, rules: &[RuleInfo]| {
        rules.iter().map(|rule| parse(chain, rule)).collect()
    };
    Ok(Shared {
        entries: read(&entrance, &entries),
        others: read(&entrance, &others),
        inside: read(&own, &nft.rules_of(&own)?),
    })
}

/// Removes what there is of a container, but for ports of addresses in use.
pub(super) fn remove(
    nft: &mut Nft,
    family: Family,
    (network, container_id): (&str, &str),
    in_use: &[IpAddr],
) -> Result<()> {
    let name = names::chain(network, container_id);
    let mut may_delete = true;
    for _ in 0..TRIES {
        let removal = look(nft, family, network, container_id)?.removal(in_use);
        let mut changes = removal.rules;
        changes.extend((removal.chain && may_delete).then(|| chain(family, &name).delete_empty()));
        match nft.commit(&changes) {
            // Somebody else has just removed some of it: what is left is looked at again.
            Err(error) if error.is(Errno::ENOENT) => {}
            // Somebody leads to the chain from elsewhere.
            Err(error) if error.is(Errno::EBUSY) && may_delete => may_delete = false,
            done => return Ok(done?),
        }
    }
    Ok(())
}

/// The comments of all containers.
pub(super) fn comments(nft: &mut Nft, family: Family) -> Result<Vec<String>> {
    let rules = nft.rules_of(&chain(family, names::ENTRANCE))?;
    Ok(rules.into_iter().map(|rule| rule.comment).collect())
}

fn parse(chain: &Chain<'_>, rule: &RuleInfo) -> Rule<Message> {
    Rule {
        protocol: rule.protocol(),
        ports: rule.ports(),
        target: rule.translates_to(chain.table.family == Family::Ip6),
        deletion: chain.delete_rule(rule.handle),
    }
}
