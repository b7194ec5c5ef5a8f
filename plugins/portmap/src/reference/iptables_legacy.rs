//! The Go plugin's rules in `iptables-legacy`.

use std::net::IpAddr;

use plugin_interface::Result;
use plugin_interface::reference::{LegacyRule, LegacyTable};

use super::chain::{Rule, Shared};
use super::names;
use crate::mapping::PROTOCOLS;

/// What there is of a container.
pub(super) fn look(table: &LegacyTable, network: &str, container_id: &str) -> Shared<String> {
    let (name, comment) =
        (names::chain(network, container_id), names::comment(network, container_id));
    let rules = table.rules();
    let leading = rules.iter().filter(|rule| rule.is_in(names::ENTRANCE) && rule.leads_to(&name));
    let (entries, others): (Vec<_>, Vec<_>) = leading.partition(|rule| rule.comment() == comment);
    Shared {
        entries: entries.into_iter().map(parse).collect(),
        others: others.into_iter().map(parse).collect(),
        inside: rules.iter().filter(|rule| rule.is_in(&name)).map(parse).collect(),
    }
}

/// Removes what there is of a container, but for ports of addresses in use.
pub(super) fn remove(
    table: &LegacyTable,
    (network, container_id): (&str, &str),
    in_use: impl FnOnce() -> Vec<IpAddr>,
) -> Result<()> {
    let name = names::chain(network, container_id);
    if !table.has(&[format!("-N {name}")]) {
        return Ok(());
    }
    let removal = look(table, network, container_id).removal(&in_use());
    let rules = table.rules();
    let is_elsewhere = |rule: &LegacyRule<'_>| rule.leads_to(&name) && !rule.is_in(names::ENTRANCE);
    let may_delete = removal.chain && !rules.iter().any(is_elsewhere);
    let mut changes = removal.rules;
    changes.extend(may_delete.then(|| format!("-X {name}")));
    table.apply(&changes)
}

/// The comments of all containers.
pub(super) fn comments(table: &LegacyTable) -> Vec<String> {
    let rules = table.rules().into_iter().filter(|rule| rule.is_in(names::ENTRANCE));
    rules.map(|rule| rule.comment().to_owned()).collect()
}

fn parse(rule: &LegacyRule<'_>) -> Rule<String> {
    let named = rule.value("-p");
    let protocol = PROTOCOLS.into_iter().find(|(name, _)| Some(*name) == named);
    let ports = rule.value("--dports").or_else(|| rule.value("--dport")).unwrap_or_default();
    Rule {
        protocol: protocol.map(|(_, number)| number),
        ports: ports.split(',').filter_map(|port| port.parse().ok()).collect(),
        target: rule.value("--to-destination").and_then(|target| target.parse().ok()),
        deletion: rule.deletion(),
    }
}
