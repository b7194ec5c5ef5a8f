//! Rules by which the kernel chooses a routing table (`ip-rule(8)`).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::libc;

use crate::Rtnl;
use crate::address::{from_octets, octets};
use crate::netlink::{Message, Reply, Result};

/// `struct fib_rule_hdr`.
const HEADER: usize = 12;
const RTM_NEWRULE: u16 = libc::RTM_NEWRULE;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;

/// A rule that leads packets from one address to a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The address.
    pub source: IpAddr,
    /// The table.
    pub table: u32,
    /// Who made it (`RTPROT_*`); zero if nobody said.
    pub protocol: u8,
    /// Its place among the rules; none for the one before all that are there.
    pub priority: Option<u32>,
}

/// Adds a rule; `EEXIST` if there is one that is the same in everything, its place included. Without
/// a place it is a rule of its own, as often as it is added.
pub fn add(rule: &Rule) -> Message {
    request("add", RTM_NEWRULE, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16, rule)
}

/// Deletes a rule; `ENOENT` if there is none that is the same in all that is given.
pub fn delete(rule: &Rule) -> Message {
    request("delete", RTM_DELRULE, 0, rule)
}

/// The rules of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those that lead packets from one address to a table, in their order.
    pub by_source: Vec<Rule>,
    /// The tables that any rule leads to.
    pub tables: Vec<u32>,
}

impl Rtnl {
    /// The rules of both families.
    ///
    /// # Errors
    /// The list cannot be read, or changes each time it is read.
    pub fn rules(&mut self) -> Result<Rules> {
        let mut rules = Rules::default();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; HEADER];
            header[0] = family as u8;
            let message = Message::new("list rules", RTM_GETRULE, 0, &header);
            match self.socket.dump(&message) {
                Ok(replies) => {
                    let own = |reply: &&Reply| i32::from(reply.u8_at(0)) == family;
                    let replies: Vec<_> = replies.iter().filter(own).collect();
                    rules.by_source.extend(replies.iter().filter_map(|reply| parse(reply)));
                    rules.tables.extend(replies.iter().map(|reply| table_of(reply)));
                }
                // A kernel without IPv6 has no rules for it.
                Err(error) if error.is(Errno::EAFNOSUPPORT) || error.is(Errno::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rules)
    }
}

fn request(verb: &str, kind: u16, flags: u16, rule: &Rule) -> Message {
    let family = if rule.source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let length = IpNetwork::from(rule.source).prefix();
    // Tables beyond a byte are given by the attribute.
    let table = u8::try_from(rule.table).unwrap_or(libc::RT_TABLE_UNSPEC);
    let header = [family as u8, 0, length, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let what = format!("{verb} rule from {} to table {}", rule.source, rule.table);
    let message = Message::new(what, kind, flags, &header)
        .put(FRA_SRC, &octets(rule.source))
        .put_u32(FRA_TABLE, rule.table)
        .put(FRA_PROTOCOL, &[rule.protocol]);
    match rule.priority {
        Some(priority) => message.put_u32(FRA_PRIORITY, priority),
        None => message,
    }
}

fn parse(reply: &Reply) -> Option<Rule> {
    let attributes = reply.attributes(HEADER);
    let source = from_octets(attributes.get(FRA_SRC)?.value)?;
    let is_one = reply.u8_at(2) == IpNetwork::from(source).prefix();
    (is_one && reply.u8_at(7) == TO_TABLE).then_some(Rule {
        source,
        table: table_of(reply),
        protocol: attributes.get(FRA_PROTOCOL).and_then(|it| it.u8()).unwrap_or(0),
        priority: attributes.get(FRA_PRIORITY).and_then(|it| it.u32()),
    })
}

fn table_of(reply: &Reply) -> u32 {
    let table = reply.attributes(HEADER).get(FRA_TABLE).and_then(|table| table.u32());
    table.unwrap_or_else(|| u32::from(reply.u8_at(4)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
    use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

    use super::*;
    use crate::NetNs;

    const RULES: [(&str, u32); 2] = [("10.1.0.5", 100), ("fd00::5", 100_000)];

    fn rule((source, table): (&str, u32)) -> Rule {
        Rule { source: source.parse().unwrap(), table, protocol: 203, priority: None }
    }

    /// An encoder that is not ours must see in our requests what we meant.
    fn read(message: &Message) -> (bool, RuleMessage) {
        let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&message.to_bytes());
        match parsed.unwrap().payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(rule)) => (true, rule),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(rule)) => (false, rule),
            other => panic!("no rule: {other:?}"),
        }
    }

    #[test]
    fn requests_say_what_they_mean() {
        for (place, family) in RULES.into_iter().zip([AddressFamily::Inet, AddressFamily::Inet6]) {
            let rule = Rule { priority: Some(7), ..rule(place) };
            for (message, is_new) in [(add(&rule), true), (delete(&rule), false)] {
                let (new, read) = read(&message);
                assert_eq!((new, read.header.family), (is_new, family));
                assert_eq!(read.header.action, RuleAction::ToTable);
                assert_eq!(read.header.src_len, if rule.source.is_ipv4() { 32 } else { 128 });
                for attribute in [
                    RuleAttribute::Source(rule.source),
                    RuleAttribute::Table(rule.table),
                    RuleAttribute::Priority(7),
                    RuleAttribute::Protocol(203.into()),
                ] {
                    assert!(read.attributes.contains(&attribute), "{attribute:?} in {read:?}");
                }
            }
        }
    }

    #[test]
    fn a_rule_is_added_listed_and_deleted() {
        let mut rtnl = Rtnl::open_in(&NetNs::create().unwrap()).unwrap();
        assert_eq!(rtnl.rules().unwrap().by_source, []);
        for rule in RULES.map(rule) {
            rtnl.request(&add(&rule)).unwrap();
            let [found] = rtnl.rules().unwrap().by_source[..] else { panic!("not one rule") };
            assert_eq!(Rule { priority: None, ..found }, rule);
            assert!(rtnl.rules().unwrap().tables.contains(&rule.table));
            assert!(rtnl.request(&add(&found)).unwrap_err().is(Errno::EEXIST));
            let foreign = Rule { protocol: 3, ..found };
            assert!(rtnl.request(&delete(&foreign)).unwrap_err().is_absent());
            rtnl.request(&delete(&found)).unwrap();
            assert_eq!(rtnl.rules().unwrap().by_source, []);
        }
    }
}
