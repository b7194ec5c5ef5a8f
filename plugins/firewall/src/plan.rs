//! What follows from the configuration and the result of the plugins before this one.

use std::net::IpAddr;

use kernel::Rtnl;
use kernel::link::Link;
use plugin_interface::{Error, Previous, Result};

use crate::conf::{Conf, Policy, wrong};

/// What an attachment shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The container's addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The admin's chain.
    pub(crate) admin_chain: String,
    /// Where the container is, if it has a policy.
    pub(crate) place: Option<Place>,
}

/// Where a container with a policy is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The bridge.
    pub(crate) bridge: String,
    /// The container's port of it, if nothing may pass between it and others.
    pub(crate) isolated: Option<String>,
}

impl Plan {
    /// The plan for a container that the plugins before this one have attached.
    pub(crate) fn make(conf: Conf, previous: &Previous) -> Result<Plan> {
        let mut addresses: Vec<_> = previous.addresses().map(|address| address.ip()).collect();
        addresses.sort();
        addresses.dedup();
        let place = match conf.policy {
            Policy::Open => None,
            policy => Some(Place::find(policy, &links_of(previous)?)?),
        };
        Ok(Plan { addresses, admin_chain: conf.admin_chain, place })
    }
}

impl Place {
    /// The place of a container whose links on the host are these.
    fn find(policy: Policy, links: &[Link]) -> Result<Place> {
        let missing = |what: &str| {
            let reason = format!(
                "interface needs to be set for ingress policy: the plugins before this one told of \
                 no {what}; make sure to chain \"firewall\" plugin with \"bridge\""
            );
            wrong("ingressPolicy", policy.name(), &reason)
        };
        let bridge = links.iter().find(|link| link.kind == "bridge");
        let bridge = bridge.ok_or_else(|| missing("bridge on the host"))?;
        let port = links.iter().find(|link| link.master == Some(bridge.index));
        let isolated = match policy {
            Policy::Isolated => {
                Some(port.ok_or_else(|| missing("port of the bridge"))?.name.clone())
            }
            _ => None,
        };
        Ok(Place { bridge: bridge.name.clone(), isolated })
    }
}

/// The links on the host that the result names.
fn links_of(previous: &Previous) -> Result<Vec<Link>> {
    let names: Vec<_> = previous.on_host().map(|interface| interface.name.as_str()).collect();
    let found = Rtnl::open()?.links_by_name(&names).map_err(Error::from)?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32, kind: &str, master: Option<u32>) -> Link {
        Link { name: name.into(), index, kind: kind.into(), master, ..Link::default() }
    }

    #[test]
    fn the_place_is_the_bridge_and_for_isolation_its_port() {
        let links = [
            link("cbr0.100", 5, "veth", None),
            link("cbr0", 3, "bridge", None),
            link("veth1", 4, "veth", Some(3)),
        ];
        let place = |policy| Place::find(policy, &links).unwrap();
        let same = Place { bridge: "cbr0".into(), isolated: None };
        assert_eq!(place(Policy::SameBridge), same);
        assert_eq!(place(Policy::Isolated), Place { isolated: Some("veth1".into()), ..same });
    }

    #[test]
    fn a_policy_needs_a_bridge_and_isolation_a_port() {
        let lone = [link("cbr0", 3, "bridge", None), link("veth1", 4, "veth", None)];
        for (policy, links) in [(Policy::SameBridge, &lone[1..]), (Policy::Isolated, &lone)] {
            let error = Place::find(policy, links).unwrap_err().to_string();
            assert!(error.contains("chain \"firewall\" plugin with \"bridge\""), "{error}");
        }
    }
}
