//! What the Go reference plugin made for an attachment, so that a node can be switched in place.
//!
//! Its rules are known by the addresses in them alone ([`addresses`]). Its rules for a policy are a
//! bridge's, which other containers of its may still need; it never removes them itself, and
//! neither do we.

mod addresses;

use std::net::IpAddr;
use std::path::Path;

use cni_conf::plugin::Call;
use kernel::nft::{Chain, Expression, Family, Field, Nft, Table, Verdict, Xtables};
use nix::errno::Errno;
use plugin_interface::reference::LegacyTable;
use plugin_interface::{Error, Result};

use crate::filter::{self, Filter};
use crate::firewall::Firewall;
use crate::plan::{Place, Plan};

/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

/// Removes the rules of the attachment's addresses that are nobody's of ours.
pub(crate) fn remove(firewall: &mut Firewall, call: &Call, netns: Option<&Path>) -> Result<()> {
    if !may_have_rules(firewall)? {
        return Ok(());
    }
    let addresses = addresses::find(call, netns)?;
    if addresses.is_empty() { Ok(()) } else { remove_rules(firewall, &addresses) }
}

/// Whether there is a chain that its rules may be in.
fn may_have_rules(firewall: &mut Firewall) -> Result<bool> {
    let there = firewall.nft().exist(&filter::PRIVATE_CHAINS)?;
    let families = [Family::Ip, Family::Ip6];
    let in_legacy = || families.iter().any(|family| LegacyTable::is_loaded(*family, "filter"));
    Ok(there.contains(&true) || in_legacy())
}

fn remove_rules(firewall: &mut Firewall, addresses: &[IpAddr]) -> Result<()> {
    // A program that is not there, or fails, leaves what it alone could remove.
    let legacy = addresses.iter().filter_map(|it| Some((*it, legacy(*it).ok()??)));
    let legacy: Vec<_> = legacy.filter(|(it, table)| table.has(&lines(*it)[..1])).collect();
    let mut steps: Vec<_> = legacy.iter().map(|(it, table)| table.delete(&lines(*it))).collect();
    steps.push(remove_from_nft(firewall, addresses));
    Error::all(steps)
}

/// Whether the reference plugin lets these addresses pass and keeps the policy.
pub(crate) fn serves(firewall: &mut Firewall, plan: &Plan) -> Result<bool> {
    let nft = firewall.nft();
    let filters = Filter::look(nft, &plan.admin_chain)?;
    for address in &plan.addresses {
        let mut passing = filters.iter().filter(|filter| filter.is_for(*address)).peekable();
        let in_nft = passing.peek().is_some()
            && passing.all(|filter| filter.difference(*address).is_none())
            && keeps(nft, *address, plan.place.as_ref())?;
        let in_legacy = || -> Result<bool> {
            let mut rules = lines(*address).to_vec();
            rules.extend(plan.place.iter().flat_map(policy_lines));
            Ok(legacy(*address)?.is_some_and(|table| table.has(&rules)))
        };
        if !in_nft && !in_legacy()? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove_from_nft(firewall: &mut Firewall, addresses: &[IpAddr]) -> Result<()> {
    let is_there = |filters: &[Filter<'_>], address: &IpAddr| {
        filters.iter().any(|it| it.is_for(*address) && !it.take(*address, "").is_empty())
    };
    let filters = Filter::look(firewall.nft(), "")?;
    if !addresses.iter().any(|address| is_there(&filters, address)) {
        return Ok(());
    }
    // An attachment of ours may have the address by now.
    let held = firewall.held()?;
    for _ in 0..TRIES {
        let filters = Filter::look(firewall.nft(), "")?;
        let free = addresses.iter().filter(|address| !held.contains(address));
        let changes: Vec<_> = free
            .flat_map(|address| {
                let passing = filters.iter().filter(|filter| filter.is_for(*address));
                passing.flat_map(|filter| filter.take(*address, "")).collect::<Vec<_>>()
            })
            .collect();
        match firewall.nft().commit(&changes) {
            // Somebody else has just removed some of them: what is left is looked at again.
            Err(error) if error.is(Errno::ENOENT) => {}
            done => return Ok(done?),
        }
    }
    Ok(())
}

/// Whether its rules for the bridge are there, in the tables of `iptables-nft`.
fn keeps(nft: &mut Nft, address: IpAddr, place: Option<&Place>) -> Result<bool> {
    let Some(place) = place else { return Ok(true) };
    let family = if address.is_ipv4() { Family::Ip } else { Family::Ip6 };
    let table = Table { family, name: "filter" };
    let by = |field, negated| {
        // As iptables writes names: with the NUL, and no more.
        let network = [place.bridge.as_bytes(), &[0]].concat();
        let prefix = (network.len() * 8) as u8;
        Expression::Matches { field, network, prefix, negated }
    };
    let comment = comment(place);
    let rule = |negated, verdict| {
        let comment = Expression::Xtables(Xtables::Comment(&comment));
        let links = [by(Field::Port, false), by(Field::OutPort, negated)];
        let [came_in, leaves] = links;
        vec![came_in, leaves, comment, Expression::Counter, Expression::Act(verdict)]
    };
    let found = nft.rules_of(&Chain { table, name: STAGE_1 })?;
    let has = |rule: &[Expression<'_>]| found.iter().any(|found| found.is_made_of(rule));
    let leads_on = has(&rule(true, Verdict::Jump(STAGE_2.into())));
    Ok(leads_on && (place.isolated.is_none() || has(&rule(false, Verdict::Drop))))
}

fn legacy(address: IpAddr) -> Result<Option<LegacyTable>> {
    LegacyTable::of(address, "filter")
}

/// The rules of an address, as `iptables-legacy -S` lists them.
fn lines(address: IpAddr) -> [String; 2] {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    [
        format!(
            "-A CNI-FORWARD -d {address}/{prefix} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        ),
        format!("-A CNI-FORWARD -s {address}/{prefix} -j ACCEPT"),
    ]
}

/// The rules of a bridge, likewise.
fn policy_lines(place: &Place) -> Vec<String> {
    let (bridge, comment) = (&place.bridge, comment(place));
    let comment = format!("-m comment --comment \"{comment}\"");
    let mut lines = vec![format!("-A {STAGE_1} -i {bridge} ! -o {bridge} {comment} -j {STAGE_2}")];
    if place.isolated.is_some() {
        lines.push(format!("-A {STAGE_1} -i {bridge} -o {bridge} {comment} -j DROP"));
    }
    lines
}

fn comment(place: &Place) -> String {
    let policy = if place.isolated.is_some() { "isolated" } else { "same-bridge" };
    format!("CNI firewall plugin rules (ingressPolicy: {policy})")
}
