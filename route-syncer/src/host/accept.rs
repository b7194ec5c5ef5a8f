//! Letting this node's Pods through where the packet filter drops what it does not know.
//!
//! Docker, and some distributions, have the chain `FORWARD` of `iptables-nft` drop by default. What
//! another table accepts it drops all the same, so the rules must be in its tables:
//!
//! ```text
//! -A FORWARD -m comment --comment "cbr0 route syncer" -j CBR0-FORWARD
//! -A CBR0-FORWARD -s 10.0.1.0/24 -j ACCEPT
//! -A CBR0-FORWARD -d 10.0.1.0/24 -j ACCEPT
//! ```
//!
//! What passes a node comes from its Pods or goes to them, so its own ranges are enough. The way into
//! our chain is the last rule that packets come to: what an administrator, kube-proxy or a network
//! policy says of them comes first. Only rules that nothing gets past (`-j REJECT` for all the rest, as
//! some distributions have it) come behind it.
//!
//! The chain is ours by its name. Each rule has its text as its owner, which only a save and restore
//! loses; then they are written again.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use kernel::netlink::Message;
use kernel::nft::{
    Chain, Expression, Family, Field, ForwardChain, Nft, RuleInfo, Table, Verdict, Xtables,
    is_outdated,
};

use super::{Finding, Mode};

/// The name of the chains in which packets are dropped, and by which Docker is known.
const FORWARD: &str = "FORWARD";
const DOCKER: &str = "DOCKER-USER";
/// The name of our chains.
pub const OURS: &str = "CBR0-FORWARD";
const COMMENT: Xtables<'static> = Xtables::Comment("cbr0 route syncer");
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];
/// How often a change is tried that others get in the way of.
const TRIES: usize = 100;

/// Whether changes of this chain, of a table of `iptables-nft`, may be reasons to look.
pub fn is_watched(chain: &str) -> bool {
    [FORWARD, DOCKER, OURS].contains(&chain)
}

/// Lets packets from and to these ranges through, or looks whether they get through.
pub fn settle(own: &BTreeSet<IpNetwork>, mode: Mode) -> Finding {
    match try_settle(own, mode) {
        Ok(finding) => finding,
        Err(problem) => Finding::failed(format!(
            "it cannot be told whether packets of Pods are dropped on their way, or they cannot be let \
             through: {problem}"
        )),
    }
}

fn try_settle(own: &BTreeSet<IpNetwork>, mode: Mode) -> kernel::Result<Finding> {
    let mut nft = match Nft::open() {
        Err(error) if error.is_unsupported() => return Ok(Finding::ok("")),
        opened => opened?,
    };
    let mut changed = 0;
    for _ in 0..TRIES {
        let generation = nft.generation()?;
        let changes = changes(&mut nft, own)?;
        if changes.is_empty() {
            return Ok(finding(changed, &others(&nft.forward_chains()?)));
        }
        if mode == Mode::Look {
            return Ok(Finding::lacking(
                "the chain FORWARD drops packets from and to Pods; a running daemon lets them through",
            ));
        }
        match nft.commit_at(generation, &changes) {
            Err(error) if is_outdated(&error) => {}
            done => {
                done?;
                changed += 1;
            }
        }
    }
    Ok(Finding::failed("the packet filter changes all the time; packets of Pods may be dropped"))
}

fn finding(changed: usize, others: &[String]) -> Finding {
    if !others.is_empty() {
        return Finding::lacking(format!(
            "the packet filter drops what passes this node in {}, which no other table can overrule; \
             accept packets from and to the cluster's ranges there",
            others.join(" and ")
        ));
    }
    if changed == 0 { Finding::ok("") } else { Finding::set(format!("rules are in chain {OURS}")) }
}

/// The chains that drop by default and are not those of iptables.
fn others(chains: &[ForwardChain]) -> Vec<String> {
    let is_other = |chain: &&ForwardChain| chain.drops && !is_of_iptables(chain);
    let words = |chain: &ForwardChain| format!("chain {:?} of table {:?}", chain.name, chain.table);
    chains.iter().filter(is_other).map(words).collect()
}

fn is_of_iptables(chain: &ForwardChain) -> bool {
    FAMILIES.contains(&chain.family) && chain.table == "filter" && chain.name == FORWARD
}

/// What has to change, in both families. It is right only for what was seen.
fn changes(nft: &mut Nft, own: &BTreeSet<IpNetwork>) -> kernel::Result<Vec<Message>> {
    let bases = nft.forward_chains()?;
    let mut changes = Vec::new();
    for family in FAMILIES {
        let of_family = own.iter().filter(|range| range.is_ipv4() == (family == Family::Ip));
        let ranges: Vec<_> = of_family.copied().collect();
        let base = bases.iter().find(|base| base.family == family && is_of_iptables(base));
        if let (Some(base), false) = (base, ranges.is_empty()) {
            changes.extend(of_table(nft, base, &ranges)?);
        }
    }
    Ok(changes)
}

fn of_table(
    nft: &mut Nft,
    base: &ForwardChain,
    ranges: &[IpNetwork],
) -> kernel::Result<Vec<Message>> {
    let (forward, ours) = (chain(base.family, FORWARD), chain(base.family, OURS));
    let there = nft.exist(&[ours, chain(base.family, DOCKER)])?;
    let [is_ours_there, is_docker_there] = there[..] else { return Ok(Vec::new()) };
    let rules = nft.rules_of(&forward)?;
    let stop = rules.iter().find(|rule| rule.stops_all()).map(|rule| rule.handle);
    let is_needed = base.drops || is_docker_there || stop.is_some() || is_ours_there;
    if !is_needed {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    let wanted = rules_for(ranges);
    let found = nft.rules_of(&ours)?;
    if !is_ours_there {
        changes.push(ours.create());
    }
    if !found.iter().map(|rule| &rule.owner).eq(wanted.iter().map(|(owner, _)| owner)) {
        changes.push(ours.flush());
        changes.extend(wanted.iter().map(|(owner, rule)| ours.append_owned(rule, owner)));
    }
    changes.extend(way_in(&forward, &rules));
    Ok(changes)
}

/// Makes exactly one way into our chain, before the rule that nothing gets past.
fn way_in(forward: &Chain<'_>, rules: &[RuleInfo]) -> Vec<Message> {
    let is_ours = |rule: &&RuleInfo| rule.leads_to().as_deref() == Some(OURS);
    let before_stop = rules.iter().take_while(|rule| !rule.stops_all()).filter(is_ours).count();
    if before_stop == 1 && rules.iter().filter(is_ours).count() == 1 {
        return Vec::new();
    }
    let ways = rules.iter().filter(is_ours);
    let mut changes: Vec<_> = ways.map(|rule| forward.delete_rule(rule.handle)).collect();
    let jump = [
        Expression::Xtables(COMMENT),
        Expression::Counter,
        Expression::Act(Verdict::Jump(OURS.into())),
    ];
    let stop = rules.iter().find(|rule| rule.stops_all());
    changes.push(match stop {
        Some(stop) => forward.insert_before(stop.handle, &jump),
        None => forward.append(&jump, ""),
    });
    changes
}

/// The rules of our chain, each with its text.
fn rules_for(ranges: &[IpNetwork]) -> Vec<(String, Vec<Expression<'static>>)> {
    let rule = |range: IpNetwork, field: Field, option: &str| {
        let network = match range {
            IpNetwork::V4(v4) => v4.network().octets().to_vec(),
            IpNetwork::V6(v6) => v6.network().octets().to_vec(),
        };
        let prefix = range.prefix();
        let matches = Expression::Matches { field, network, prefix, negated: false };
        let steps = vec![matches, Expression::Counter, Expression::Act(Verdict::Accept)];
        (format!("{option} {range} -j ACCEPT"), steps)
    };
    let both = |range: &IpNetwork| {
        [rule(*range, Field::Source, "-s"), rule(*range, Field::Destination, "-d")]
    };
    ranges.iter().flat_map(both).collect()
}

/// Removes what was made. Returns whether there was anything.
///
/// # Errors
/// The kernel refuses.
pub fn remove() -> kernel::Result<bool> {
    let Ok(mut nft) = Nft::open() else { return Ok(false) };
    for _ in 0..TRIES {
        let generation = nft.generation()?;
        let changes = removal(&mut nft)?;
        if changes.is_empty() {
            return Ok(false);
        }
        match nft.commit_at(generation, &changes) {
            Err(error) if is_outdated(&error) => {}
            done => return done.map(|()| true),
        }
    }
    Ok(false)
}

fn removal(nft: &mut Nft) -> kernel::Result<Vec<Message>> {
    let mut changes = Vec::new();
    for family in FAMILIES {
        let (forward, ours) = (chain(family, FORWARD), chain(family, OURS));
        if nft.exist(&[ours])? != [true] {
            continue;
        }
        let rules = nft.rules_of(&forward)?;
        let ways = rules.iter().filter(|rule| rule.leads_to().as_deref() == Some(OURS));
        changes.extend(ways.map(|rule| forward.delete_rule(rule.handle)));
        changes.push(ours.delete());
    }
    Ok(changes)
}

const fn chain(family: Family, name: &str) -> Chain<'_> {
    Chain { table: Table { family, name: "filter" }, name }
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
