//! The verbs. The container's namespace is needed by none of them; DEL looks into it for what the
//! reference plugin made.

use std::path::Path;

use cni_conf::plugin::{Call, Upkeep};
use cni_conf::result::CniResult;
use plugin_interface::check::demand;
use plugin_interface::{Error, Previous, Result, Valid, status};

use crate::conf::{Conf, Policy};
use crate::firewall::Firewall;
use crate::plan::Plan;
use crate::reference;

/// Lets the container's packets pass, and gives it its policy, in one transaction.
pub(crate) fn add(call: &Call) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let policy = conf.policy;
    let plan = Plan::make(conf, &previous)?;
    let made = match Firewall::open()? {
        Some(mut firewall) => {
            let made = firewall.add(&call.attachment, &plan);
            let made =
                made.map_err(|error| error.undone(firewall.remove(&call.attachment).map(drop)));
            // A plugin before it may have deleted something that its socket's end would wait for.
            firewall.leave();
            made
        }
        None => lacking(policy, None),
    };
    match made {
        Err(Error::Kernel(error)) if error.is_unsupported() => lacking(policy, Some(error))?,
        made => made?,
    }
    Ok(previous.result)
}

/// Removes what the attachment owns; without anything, what the reference plugin made for it.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let Some(mut firewall) = Firewall::open()? else { return Ok(()) };
    let done = match firewall.remove(&call.attachment) {
        Ok(false) => reference::remove(&mut firewall, call, netns),
        removed => removed.map(drop),
    };
    firewall.leave();
    done
}

/// Compares the packet filter with what ADD made of the same result.
pub(crate) fn check(call: &Call) -> Result<()> {
    let conf = Conf::parse(&call.conf)?;
    let policy = conf.policy;
    // The links may be gone that the result tells of.
    let differs = |error: Error| Error::Different(error.to_string());
    let plan = Plan::make(conf, &Previous::of(call)?).map_err(differs)?;
    let Some(mut firewall) = Firewall::open()? else { return lacking(policy, None) };
    let Some(difference) = firewall.difference(&call.attachment, &plan)? else { return Ok(()) };
    let by_reference =
        !firewall.owns(&call.attachment)? && reference::serves(&mut firewall, &plan)?;
    demand(by_reference, || difference)
}

/// Removes what no valid attachment of the network owns, and gives all others their rules where
/// somebody has emptied the tables of `iptables-nft`.
pub(crate) fn gc(upkeep: &Upkeep) -> Result<()> {
    let Some(valid) = Valid::of(upkeep)? else { return Ok(()) };
    let Some(mut firewall) = Firewall::open()? else { return Ok(()) };
    let collected = firewall.collect(&valid);
    let caught_up = Conf::parse(&upkeep.conf).and_then(|it| firewall.catch_up(&it.admin_chain));
    Error::all([collected, caught_up])
}

/// Whether the configuration can be served.
pub(crate) fn status(upkeep: &Upkeep) -> Result<()> {
    let look = || match Firewall::open()? {
        Some(_) => Conf::parse(&upkeep.conf).map(drop),
        None => lacking(Conf::parse(&upkeep.conf)?.policy, None),
    };
    status::answer(upkeep, look())
}

/// Where the kernel has no nf_tables, `iptables-nft` has no tables in the way of an open network,
/// and nothing needs to be made; a policy cannot be kept.
fn lacking(policy: Policy, error: Option<kernel::Error>) -> Result<()> {
    if policy == Policy::Open {
        return Ok(());
    }
    Err(Error::MissingFeature {
        key: "ingressPolicy",
        value: error.map_or_else(
            || format!("{:?}", policy.name()),
            |error| format!("{:?} ({error})", policy.name()),
        ),
        feature: "nf_tables for IP and for bridges (CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE)",
    })
}
