//! What is asked about what attachments own: whether it is as it should be, and whose it is.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_conf::attachment::Attachment;
use kernel::nft::{Element, Verdict};
use plugin_interface::Result;

use super::Firewall;
use crate::filter::{Filter, Owned};
use crate::plan::{Place, Plan};
use crate::policy::{self, OWNER, TABLE};

impl Firewall {
    /// What is not as [`Firewall::add`] made it.
    pub(crate) fn difference(
        &mut self,
        attachment: &Attachment,
        plan: &Plan,
    ) -> Result<Option<String>> {
        let filters = Filter::look(&mut self.nft, &plan.admin_chain)?;
        let in_filters = plan.addresses.iter().find_map(|address| {
            let mut filters = filters.iter().filter(|filter| filter.is_for(*address));
            filters.find_map(|filter| filter.difference(*address))
        });
        match in_filters {
            None => self.difference_of_own(attachment, plan),
            found => Ok(found),
        }
    }

    /// Whether the attachment owns anything.
    pub(crate) fn owns(&mut self, attachment: &Attachment) -> Result<bool> {
        let name = format!("{OWNER}{}", attachment.owner_key());
        Ok(self.nft.elements(&policy::owned(&name))?.is_some())
    }

    /// The addresses that some attachment of ours has.
    pub(crate) fn held(&mut self) -> Result<HashSet<IpAddr>> {
        Ok(self.all()?.into_iter().map(|(address, _)| address).collect())
    }

    fn difference_of_own(
        &mut self,
        attachment: &Attachment,
        plan: &Plan,
    ) -> Result<Option<String>> {
        let name = format!("{OWNER}{}", attachment.owner_key());
        let mut found = self.nft.elements(&policy::owned(&name))?.unwrap_or_default();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        if found != elements(plan) {
            return Ok(Some(format!("nf_tables map {name:?} has not the attachment's addresses")));
        }
        let Some(place) = &plan.place else { return Ok(None) };
        let mut wanted: Vec<_> = policy::elements_of(&place.bridge).into();
        if let Some(port) = &place.isolated {
            let own = |element: Element| element.with_comment(attachment.label());
            wanted.push((policy::owned_ports(&name), Element::port(port)));
            wanted.push((policy::PORTS, own(Element::port(port))));
            let addresses = plan.addresses.iter();
            wanted.extend(addresses.map(|it| (policy::isolated(*it), own(Element::new(*it)))));
        }
        for (set, element) in wanted {
            if self.nft.element(&set, &element)?.as_ref() != Some(&element) {
                let lost = "the policy is not kept any more";
                return Ok(Some(format!(
                    "nf_tables set {:?} has lost an element: {lost}",
                    set.name
                )));
            }
        }
        self.lost_rules(place)
    }

    fn lost_rules(&mut self, place: &Place) -> Result<Option<String>> {
        let rules = self.nft.rules(&TABLE)?;
        let count = |name: &str| rules.iter().filter(|rule| rule.chain == name).count();
        let mut wanted = policy::rules(&place.bridge).into_iter();
        let mut lost = wanted.find(|(name, wanted)| count(name) != *wanted).map(|(name, _)| name);
        let bridged = self.nft.rules_of(&policy::BRIDGE_FORWARD)?.len();
        if place.isolated.is_some() && bridged != 2 {
            lost = Some(policy::BRIDGE_FORWARD.name.to_owned());
        }
        Ok(lost.map(|name| format!("nf_tables chain {name:?} has lost rules")))
    }

    /// The keys of all owners.
    pub(super) fn owners(&mut self) -> Result<Vec<String>> {
        let sets = self.nft.sets(&TABLE)?;
        Ok(sets.iter().filter_map(|set| Some(set.name.strip_prefix(OWNER)?.to_owned())).collect())
    }

    /// The addresses of all owners.
    pub(super) fn all(&mut self) -> Result<Vec<Owned>> {
        let mut all = Vec::new();
        for owner in self.owners()? {
            let map = self.nft.elements(&policy::owned(&format!("{OWNER}{owner}")))?;
            let addresses = map.iter().flatten().filter_map(Element::address);
            all.extend(addresses.map(|address| (address.to_canonical(), owner.clone())));
        }
        Ok(all)
    }
}

/// The elements of an attachment's map, in the order of their keys.
pub(super) fn elements(plan: &Plan) -> Vec<Element> {
    let verdict = match &plan.place {
        Some(place) => Verdict::Jump(policy::chain_name(&place.bridge)),
        None => Verdict::Return,
    };
    let keys = plan.addresses.iter().map(|address| Element::new(as_ipv6(*address).into()));
    let mut elements: Vec<_> = keys.map(|key| key.to(verdict.clone())).collect();
    elements.sort_by(|a, b| a.key.cmp(&b.key));
    elements
}

/// The owner's key behind a comment, which holds the triple in clear if it fits.
pub(super) fn owner_of(comment: &str) -> String {
    Attachment::parse_alias(comment)
        .map_or_else(|| comment.to_owned(), |attachment| attachment.owner_key())
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
        IpAddr::V6(v6) => v6,
    }
}
