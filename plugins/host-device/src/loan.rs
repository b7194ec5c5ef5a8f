//! A link that is lent: to whom, what it was at home, and how it is told from others.
//!
//! Its alias in the container is its name at home, as with the reference, whose DEL needs no more. So
//! an alias of its own, and whether it was up, are in the loan alone.

use cni_conf::attachment::Attachment;
use cni_conf::names::check_ifname;
use kernel::MacAddress;
use kernel::link::Link;
use serde::{Deserialize, Serialize};

/// A link's place at home, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Loan {
    network: String,
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
    /// Its name on the host.
    pub(crate) name: String,
    /// Its alias on the host.
    pub(crate) alias: String,
    /// Whether it was up.
    pub(crate) up: bool,
    /// The kind of a link that dies with its namespace; empty for hardware, which comes home.
    kind: String,
    /// Its hardware address on the host, as far as it has one.
    mac: String,
    /// The address that hardware was built with.
    permanent_mac: String,
    /// Whether DEL was there before the link came home.
    pub(crate) over: bool,
}

impl Loan {
    /// The loan of a link of the host to this attachment.
    pub(crate) fn new(attachment: &Attachment, link: &Link) -> Loan {
        let text = |mac: Option<MacAddress>| mac.map(|mac| mac.to_string()).unwrap_or_default();
        Loan {
            network: attachment.network.clone(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            name: link.name.clone(),
            alias: link.alias.clone(),
            up: link.is_up(),
            kind: link.kind.clone(),
            mac: text(link.mac),
            permanent_mac: text(link.permanent_mac),
            over: false,
        }
    }

    /// As far as the reference plugin tells of a link that it lent: the alias is its name on the host.
    pub(crate) fn of_reference(attachment: &Attachment, link: &Link) -> Option<Loan> {
        check_ifname(&link.alias).ok()?;
        let home =
            Link { name: link.alias.clone(), alias: String::new(), flags: 0, ..link.clone() };
        Some(Loan::new(attachment, &home))
    }

    /// Who has it; none if the loan was not written by this plugin.
    pub(crate) fn borrower(&self) -> Option<Attachment> {
        check_ifname(&self.name).ok()?;
        Attachment::new(&self.network, &self.container_id, &self.ifname).ok()
    }

    /// Whether it comes home by itself when the container's namespace dies.
    pub(crate) fn is_hardware(&self) -> bool {
        self.kind.is_empty()
    }

    /// The alias of the link on its way home, by which it is found whatever its name is there.
    pub(crate) fn mark(&self) -> Option<String> {
        Some(self.borrower()?.alias())
    }

    /// The link among those of the container, which may have changed its name, alias or address.
    pub(crate) fn find_in_container<'a>(&self, links: &'a [Link]) -> Option<&'a Link> {
        let agree = |link: &&Link| {
            let same = [link.alias == self.name, link.name == self.ifname, self.has_mac(link)];
            link.kind == self.kind && same.iter().filter(|same| **same).count() >= 2
        };
        links.iter().find(|link| self.is_marked(link)).or_else(|| {
            // Its own name comes first: two links that are lent may have had one name at home.
            let named = links.iter().find(|link| link.name == self.ifname && agree(link));
            named.or_else(|| links.iter().find(agree)).or_else(|| self.by_permanent_mac(links))
        })
    }

    /// The link among those of the host, if it is there as it was lent: what has its own alias and
    /// name again was given back by somebody else, or never left.
    pub(crate) fn find_at_home<'a>(&self, links: &'a [Link]) -> Option<&'a Link> {
        let lent = |link: &&Link| {
            link.alias == self.name && link.kind == self.kind && self.has_mac(link)
                || self.is_hardware() && link.alias == self.name && self.was_built_as(link)
        };
        links.iter().find(|link| self.is_marked(link)).or_else(|| {
            let altered = || self.by_permanent_mac(links).filter(|link| link.name != self.name);
            links.iter().find(lent).or_else(altered)
        })
    }

    /// Whether a link of the host is the one that was lent, however it came back.
    pub(crate) fn is_of(&self, link: &Link) -> bool {
        let same = link.kind == self.kind && self.has_mac(link) || self.was_built_as(link);
        link.name == self.name && same
    }

    fn is_marked(&self, link: &Link) -> bool {
        self.mark().is_some_and(|mark| link.alias == mark)
    }

    fn has_mac(&self, link: &Link) -> bool {
        link.mac.map(|mac| mac.to_string()).unwrap_or_default() == self.mac
    }

    /// Links on top of hardware may have its permanent address, too, but are no hardware.
    fn was_built_as(&self, link: &Link) -> bool {
        let built_as = link.permanent_mac.filter(|_| link.kind.is_empty() && self.is_hardware());
        built_as.is_some_and(|mac| mac.to_string() == self.permanent_mac)
    }

    /// The one piece of hardware of this address; two that share it are told by more than that.
    fn by_permanent_mac<'a>(&self, links: &'a [Link]) -> Option<&'a Link> {
        let mut built = links.iter().filter(|link| self.was_built_as(link));
        built.next().filter(|_| built.next().is_none())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn link(name: &str, alias: &str, kind: &str, mac: MacAddress) -> Link {
        let permanent_mac = kind.is_empty().then_some(mac);
        let (name, alias, kind) = (name.into(), alias.into(), kind.into());
        Link { name, alias, kind, mac: Some(mac), permanent_mac, ..Link::default() }
    }

    fn loan(kind: &str) -> Loan {
        let attachment = Attachment::new("net", "pod", "eth0").unwrap();
        Loan::new(&attachment, &link("dev0", "rack 7", kind, OWN))
    }

    #[test]
    fn a_container_may_change_one_of_name_alias_and_address() {
        let loan = loan("veth");
        let lent = [
            link("eth0", "dev0", "veth", OWN),
            link("wan", "dev0", "veth", OWN),
            link("eth0", "mine", "veth", OWN),
            link("eth0", "dev0", "veth", OTHER),
            link("eth0", "net/pod/eth0", "veth", OWN),
        ];
        for lent in lent {
            assert_eq!(loan.find_in_container(std::slice::from_ref(&lent)), Some(&lent));
        }
        let others = [
            link("eth0", "", "veth", OTHER),
            link("wan", "dev0", "veth", OTHER),
            link("eth0", "dev0", "bridge", OWN),
        ];
        assert_eq!(loan.find_in_container(&others), None);
        let twins = [link("eth1", "dev0", "veth", OWN), link("eth0", "dev0", "veth", OTHER)];
        assert_eq!(loan.find_in_container(&twins), Some(&twins[1]));
    }

    #[test]
    fn hardware_that_came_home_by_itself_is_known_by_its_permanent_address() {
        let loan = loan("");
        let vlan = Link { permanent_mac: Some(OWN), ..link("v7", "", "vlan", OWN) };
        for (name, alias) in [("eth0", "dev0"), ("dev3", "dev0"), ("dev3", "mine")] {
            let changed = Link { mac: Some(OTHER), ..link(name, alias, "", OWN) };
            let links = [link("eth0", "", "", OTHER), vlan.clone(), changed];
            assert_eq!(loan.find_at_home(&links), Some(&links[2]), "{name} {alias}");
        }
        let back = [vlan, link("dev0", "rack 7", "", OWN)];
        assert_eq!(loan.find_at_home(&back), None, "it is as it was");
        let twins = [link("a", "", "", OWN), link("b", "", "", OWN)];
        assert_eq!(loan.find_at_home(&twins), None, "which of them?");
        let told = [link("a", "", "", OWN), link("b", "dev0", "", OWN)];
        assert_eq!(loan.find_at_home(&told), Some(&told[1]));
    }

    #[test]
    fn a_virtual_link_at_home_is_lent_while_it_has_its_name_for_an_alias() {
        let loan = loan("veth");
        let lent = link("eth0", "dev0", "veth", OWN);
        assert_eq!(loan.find_at_home(std::slice::from_ref(&lent)), Some(&lent));
        let marked = link("dev3", "net/pod/eth0", "veth", OTHER);
        assert_eq!(loan.find_at_home(std::slice::from_ref(&marked)), Some(&marked));
        let given_back = link("dev0", "", "veth", OWN);
        assert!(loan.is_of(&given_back));
        let others =
            [given_back, link("dev0", "dev0", "veth", OTHER), link("eth0", "dev0", "bridge", OWN)];
        assert_eq!(loan.find_at_home(&others), None);
    }

    #[test]
    fn the_references_alias_is_a_name() {
        let attachment = Attachment::new("net", "pod", "eth0").unwrap();
        let lent = link("eth0", "dev0", "veth", OWN);
        let loan = Loan::of_reference(&attachment, &lent).unwrap();
        assert_eq!((loan.name.as_str(), loan.alias.as_str(), loan.up), ("dev0", "", false));
        for alias in ["", "a b", "net/pod/eth0"] {
            let lent = Link { alias: alias.into(), ..lent.clone() };
            assert_eq!(Loan::of_reference(&attachment, &lent), None, "{alias}");
        }
    }
}
