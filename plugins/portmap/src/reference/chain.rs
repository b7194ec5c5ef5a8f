//! What of a container's chain in iptables goes, and what stays.
//!
//! ```text
//! -A CNI-HOSTPORT-DNAT -p tcp --comment "dnat name: …" -m multiport --dports 80,81 -j CNI-DN-…
//! -A CNI-DN-… -s 10.1.0.0/24 -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK
//! -A CNI-DN-… -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.1.0.2:8080
//! ```
//!
//! Several attachments may share a chain: interfaces of one container, with the same comment, and
//! containers whose names are the same when they are joined, with others. Its rules have no comments,
//! and are known by where they lead and by the ports of who leads to the chain.

use std::net::{IpAddr, SocketAddr};

/// A rule of the chain, or one that leads there.
#[derive(Clone, Debug)]
pub(super) struct Rule<D> {
    /// The number of the transport protocol.
    pub(super) protocol: Option<u8>,
    /// The host's ports, one of which a packet must be sent to.
    pub(super) ports: Vec<u16>,
    /// Where packets are sent.
    pub(super) target: Option<SocketAddr>,
    /// What deletes it.
    pub(super) deletion: D,
}

/// A container's chain, as it was found.
#[derive(Clone, Debug)]
pub(super) struct Shared<D> {
    /// The rules that lead to the chain and have the container's comment.
    pub(super) entries: Vec<Rule<D>>,
    /// Those that lead there and have not.
    pub(super) others: Vec<Rule<D>>,
    /// The chain's rules.
    pub(super) inside: Vec<Rule<D>>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removal<D> {
    /// The deletions of rules.
    pub(super) rules: Vec<D>,
    /// Whether nothing of the chain is needed any more.
    pub(super) chain: bool,
}

impl<D> Rule<D> {
    /// Whether both ask for one of the same ports. One that asks for none asks for all.
    fn meets(&self, other: &Rule<D>) -> bool {
        let is_shared = |port| other.ports.is_empty() || other.ports.contains(port);
        let same =
            self.protocol.is_none() || other.protocol.is_none() || self.protocol == other.protocol;
        same && (self.ports.is_empty() || self.ports.iter().any(is_shared))
    }
}

impl<D: Clone> Shared<D> {
    /// Whether a container's ports lead to this place.
    pub(super) fn leads_to(&self, protocol: u8, port: u16, target: SocketAddr) -> bool {
        let is_meant =
            |rule: &&Rule<D>| rule.protocol == Some(protocol) && rule.ports.contains(&port);
        self.entries.iter().any(|entry| is_meant(&entry))
            && self.inside.iter().filter(is_meant).any(|rule| rule.target == Some(target))
    }

    /// What ends the container's part of it, but for ports of addresses in use.
    pub(super) fn removal(self, in_use: &[IpAddr]) -> Removal<D> {
        let leads_to_used =
            |rule: &Rule<D>| rule.target.is_some_and(|target| in_use.contains(&target.ip()));
        let used: Vec<_> = self.inside.iter().filter(|rule| leads_to_used(rule)).cloned().collect();
        let is_used = |rule: &Rule<D>| used.iter().any(|it| it.meets(rule));
        let is_others = |rule: &Rule<D>| self.others.iter().any(|it| it.meets(rule));
        let stays = |rule: &Rule<D>| match rule.target {
            Some(_) => leads_to_used(rule) || is_others(rule),
            None => is_used(rule) || is_others(rule),
        };
        let entries = self.entries.iter().filter(|rule| !is_used(rule));
        let inside = self.inside.iter().filter(|rule| !stays(rule));
        let rules = entries.chain(inside).map(|rule| rule.deletion.clone()).collect();
        let chain = self.others.is_empty() && !self.inside.iter().any(stays);
        Removal { rules, chain }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rule(text: &'static str) -> Rule<&'static str> {
        let mut words = text.split(' ');
        let protocol = match words.next() {
            Some("tcp") => Some(6),
            _ => Some(17),
        };
        let ports = words.next().unwrap().split(',').map(|port| port.parse().unwrap()).collect();
        let target = words.next().and_then(|word| word.parse().ok());
        Rule { protocol, ports, target, deletion: text }
    }

    fn shared(
        own: &[&'static str],
        others: &[&'static str],
        inside: &[&'static str],
    ) -> Shared<&'static str> {
        let rules = |texts: &[&'static str]| texts.iter().map(|text| rule(text)).collect();
        Shared { entries: rules(own), others: rules(others), inside: rules(inside) }
    }

    const INSIDE: [&str; 4] =
        ["tcp 80 mark", "tcp 80 10.1.0.2:8080", "tcp 81 mark", "tcp 81 10.1.0.3:8080"];

    #[test]
    fn one_container_s_chain_goes() {
        let removal = shared(&["tcp 80,81"], &[], &INSIDE).removal(&[]);
        assert_eq!((removal.rules.len(), removal.chain), (5, true));
    }

    #[test]
    fn an_address_in_use_keeps_its_ports() {
        let in_use = ["10.1.0.3".parse().unwrap()];
        let removal = shared(&["tcp 80", "tcp 81"], &[], &INSIDE).removal(&in_use);
        let expected = vec!["tcp 80", "tcp 80 mark", "tcp 80 10.1.0.2:8080"];
        assert_eq!(removal, Removal { rules: expected, chain: false });
    }

    #[test]
    fn who_leads_there_too_keeps_its_ports() {
        let removal = shared(&["tcp 80"], &["tcp 81"], &INSIDE).removal(&[]);
        let expected = vec!["tcp 80", "tcp 80 mark", "tcp 80 10.1.0.2:8080"];
        assert_eq!(removal, Removal { rules: expected, chain: false });
        let by_other_protocol = shared(&["tcp 80"], &["udp 81"], &INSIDE).removal(&[]);
        assert_eq!((by_other_protocol.rules.len(), by_other_protocol.chain), (5, false));
    }

    #[test]
    fn a_way_without_ports_keeps_all() {
        let foreign = Rule { protocol: None, ports: vec![], target: None, deletion: "foreign" };
        let mut all = shared(&["tcp 80"], &[], &INSIDE);
        all.others.push(foreign);
        assert_eq!(all.removal(&[]), Removal { rules: vec!["tcp 80"], chain: false });
    }

    #[test]
    fn a_port_leads_where_entry_and_rule_say() {
        let all = shared(&["tcp 80"], &[], &INSIDE);
        let target = |text: &str| text.parse().unwrap();
        assert!(all.leads_to(6, 80, target("10.1.0.2:8080")));
        assert!(!all.leads_to(17, 80, target("10.1.0.2:8080")));
        assert!(!all.leads_to(6, 80, target("10.1.0.2:80")));
        assert!(!all.leads_to(6, 81, target("10.1.0.3:8080")), "nobody leads to the chain");
    }
}
