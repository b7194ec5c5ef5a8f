//! nf_tables on the real kernel, in throw-away namespaces.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use nix::errno::Errno;

use super::*;

const TABLE: Table<'static> = Table { family: Family::Inet, name: "cbr0_test" };
const MAP: Set<'static> =
    Set { table: TABLE, name: "sources4", key: KeyType::Ipv4, kind: SetKind::VerdictMap };
const OWNER: Set<'static> =
    Set { table: TABLE, name: "owner-a", key: KeyType::Ipv6, kind: SetKind::Keys };
const BASE: Chain<'static> = Chain { table: TABLE, name: "postrouting" };
const SUBNET: Chain<'static> = Chain { table: TABLE, name: "net-10.0.1.0/24" };

fn nft() -> Nft {
    Nft::open_in(&NetNs::create().unwrap()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn skeleton() -> Vec<Message> {
    let network = vec![10, 0, 1, 0];
    let leave =
        Expression::Matches { field: Field::Destination, network, prefix: 24, negated: true };
    let by_source = Expression::InSet { field: Field::Source, set: &MAP, negated: false };
    vec![
        TABLE.add(),
        MAP.add("verdicts"),
        BASE.add_at(Hook::SourceNat),
        BASE.append(&[Expression::Is(KeyType::Ipv4), by_source], "by source"),
        SUBNET.create(),
        SUBNET.append(&[Expression::Is(KeyType::Ipv4), leave, Expression::Masquerade], "leaves"),
    ]
}

fn jump(address: &str) -> Element {
    Element::new(ip(address)).to(Verdict::Jump(SUBNET.name.into())).with_comment("net/id/eth0")
}

#[test]
fn what_is_written_is_read_back() {
    let mut nft = nft();
    nft.commit(&skeleton()).unwrap();
    nft.commit(&MAP.add_elements(&[jump("10.0.1.5")])).unwrap();
    assert_eq!(nft.tables().unwrap(), [(Family::Inet, "cbr0_test".to_owned())]);
    assert_eq!(nft.chains(&TABLE).unwrap(), [BASE.name, SUBNET.name]);
    assert_eq!(
        nft.sets(&TABLE).unwrap(),
        [SetInfo { name: MAP.name.into(), comment: "verdicts".into() }]
    );
    let rules = nft.rules(&TABLE).unwrap();
    let words: Vec<_> =
        rules.iter().map(|rule| (rule.chain.as_str(), rule.comment.as_str())).collect();
    assert_eq!(words, [(BASE.name, "by source"), (SUBNET.name, "leaves")]);
    assert_eq!(nft.elements(&MAP).unwrap().unwrap(), [jump("10.0.1.5")]);
    assert_eq!(nft.element(&MAP, &jump("10.0.1.5")).unwrap(), Some(jump("10.0.1.5")));
    assert_eq!(nft.element(&MAP, &jump("10.0.1.6")).unwrap(), None);
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let mut nft = nft();
    nft.commit(&skeleton()).unwrap();
    let mut changes = vec![OWNER.create("")];
    changes.extend(
        MAP.add_elements(&[Element::new(ip("10.0.1.5")).to(Verdict::Jump("nowhere".into()))]),
    );
    let error = nft.commit(&changes).unwrap_err();
    assert!(error.is(Errno::ENOENT), "{error}");
    assert!(error.to_string().contains("10.0.1.5"), "{error}");
    assert_eq!(nft.elements(&OWNER).unwrap(), None);
}

#[test]
fn a_present_element_is_not_taken_over() {
    let mut nft = nft();
    nft.commit(&skeleton()).unwrap();
    nft.commit(&MAP.add_elements(&[jump("10.0.1.5")])).unwrap();
    let second = nft.commit(&MAP.add_elements(&[jump("10.0.1.5")])).unwrap_err();
    assert!(second.is(Errno::EEXIST), "{second}");
}

#[test]
fn a_chain_in_use_stays_and_an_unused_one_goes() {
    let mut nft = nft();
    nft.commit(&skeleton()).unwrap();
    nft.commit(&MAP.add_elements(&[jump("10.0.1.5")])).unwrap();
    assert!(nft.commit(&[SUBNET.delete()]).unwrap_err().is(Errno::EBUSY));
    nft.commit(&MAP.delete_elements(&[jump("10.0.1.5")])).unwrap();
    nft.commit(&[SUBNET.delete()]).unwrap();
    assert!(nft.commit(&[SUBNET.delete()]).unwrap_err().is_absent());
}

#[test]
fn chains_are_found_by_name_and_their_rules_deleted_one_by_one() {
    let mut nft = nft();
    let ask = [BASE, Chain { table: TABLE, name: "other" }, SUBNET];
    assert_eq!(nft.exist(&ask).unwrap(), [false; 3]);
    nft.commit(&skeleton()).unwrap();
    assert_eq!(nft.exist(&ask).unwrap(), [true, false, true]);
    nft.commit(&[BASE.append(&[Expression::Act(Verdict::Jump(SUBNET.name.into()))], "jump")])
        .unwrap();

    let rules = nft.rules_of(&BASE).unwrap();
    let words: Vec<_> = rules.iter().map(|rule| (&*rule.comment, rule.leads_to())).collect();
    assert_eq!(words, [("by source", None), ("jump", Some(SUBNET.name.to_owned()))]);
    assert!(nft.commit(&[SUBNET.delete_empty()]).unwrap_err().is(Errno::EBUSY));
    nft.commit(&[BASE.delete_rule(rules[1].handle)]).unwrap();
    assert_eq!(nft.rules_of(&BASE).unwrap(), rules[..1]);
    assert!(nft.commit(&[BASE.delete_rule(rules[1].handle)]).unwrap_err().is_absent());

    let inside = nft.rules_of(&SUBNET).unwrap();
    assert!(nft.commit(&[SUBNET.delete_empty()]).unwrap_err().is(Errno::EBUSY));
    nft.commit(&[SUBNET.delete_rule(inside[0].handle), SUBNET.delete_empty()]).unwrap();
    let endless = "n".repeat(1000);
    let impossible = Chain { table: TABLE, name: &endless };
    assert_eq!(nft.exist(&[SUBNET, impossible, BASE]).unwrap(), [false, false, true]);
}

#[test]
fn the_address_that_a_rule_asks_for_is_told() {
    let mut nft = nft();
    let asks = |address: &str, prefix, negated| {
        let network = crate::address::octets(ip(address));
        BASE.append(&[Expression::Matches { field: Field::Source, network, prefix, negated }], "")
    };
    let changes = [
        TABLE.add(),
        BASE.add_at(Hook::SourceNat),
        asks("10.0.1.5", 32, false),
        asks("fd00::5", 128, false),
        asks("10.0.1.5", 32, true),
        asks("10.0.1.5", 24, false),
    ];
    nft.commit(&changes).unwrap();
    let rules = nft.rules_of(&BASE).unwrap();
    let told: Vec<_> = rules.iter().map(|rule| rule.address(Field::Source)).collect();
    assert_eq!(told, [Some(ip("10.0.1.5")), Some(ip("fd00::5")), None, None]);
    assert!(rules.iter().all(|rule| rule.address(Field::Destination).is_none()));
}

#[test]
fn maps_of_targets_hold_what_was_put_there() {
    let mut nft = nft();
    let map = |name, key, kind| Set { table: TABLE, name, key, kind };
    let any4 = map("any4", KeyType::Service, SetKind::Targets4);
    let addressed6 = map("addressed6", KeyType::Ipv6Service, SetKind::Targets6);
    let hairpin = map("hairpin", KeyType::PortAndIpv4, SetKind::Keys);
    let chain = Chain { table: TABLE, name: "prerouting" };
    let redirect = |map, field| Expression::Redirect { field, map };
    let came_in = Expression::CameInBy { link: "eth0", negated: true };
    let udp = Expression::Transport { protocol: 17, negated: false };
    let in_pair =
        Expression::InSet { field: Field::PortAndDestination, set: &hairpin, negated: false };
    let (v4, v6) = (Expression::Is(KeyType::Ipv4), Expression::Is(KeyType::Ipv6));
    let to4 = Element::service(6, 80).to_target("10.0.1.2:8080".parse().unwrap());
    let to6 = Element::address_service(ip("fd00::1"), 17, 53);
    let to6 = to6.to_target("[fd00::2]:5353".parse().unwrap()).with_comment("c");
    let pair = Element::port_and_address("cbr0", ip("10.0.1.2"));
    let mut changes = vec![
        TABLE.add(),
        any4.add(""),
        addressed6.add(""),
        hairpin.add(""),
        chain.add_at(Hook::DestinationNat),
        Chain { table: TABLE, name: "output" }.add_at(Hook::OutputNat),
        Chain { table: TABLE, name: "raw" }.add_at(Hook::Raw),
        chain.append(&[Expression::ToHost, v4.clone(), redirect(&any4, Field::Service)], "second"),
        chain
            .insert(&[came_in, udp, v6, redirect(&addressed6, Field::DestinationService)], "first"),
        BASE.add_at(Hook::SourceNat),
        BASE.append(&[Expression::Redirected, v4, in_pair, Expression::Masquerade], ""),
        BASE.append(
            &[Expression::FromNowhere, Expression::NotFromHost, Expression::Masquerade],
            "",
        ),
    ];
    for (set, element) in [(any4, &to4), (addressed6, &to6), (hairpin, &pair)] {
        changes.extend(set.add_elements(std::slice::from_ref(element)));
    }
    nft.commit(&changes).unwrap();
    for (set, element) in [(any4, to4), (addressed6, to6), (hairpin, pair)] {
        assert_eq!(nft.elements(&set).unwrap().unwrap(), [element]);
    }
    let comments: Vec<_> =
        nft.rules_of(&chain).unwrap().into_iter().map(|rule| rule.comment).collect();
    assert_eq!(comments, ["first", "second"]);
}

#[test]
fn intervals_of_both_families_are_held() {
    let mut nft = nft();
    let name = |key, name| Set { table: TABLE, name, key, kind: SetKind::Intervals };
    let (v4, v6) = (name(KeyType::Ipv4, "exempt4"), name(KeyType::Ipv6, "exempt6"));
    let elements4 = intervals(&["10.0.0.0/14".parse().unwrap(), "192.0.2.0/24".parse().unwrap()]);
    let elements6 = intervals(&["fd00::/48".parse().unwrap()]);
    let mut changes = vec![TABLE.add(), v4.add(""), v6.add("")];
    changes.extend(v4.add_elements(&elements4));
    changes.extend(v6.add_elements(&elements6));
    nft.commit(&changes).unwrap();
    let mut found = nft.elements(&v4).unwrap().unwrap();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, elements4);
    assert_eq!(nft.elements(&v6).unwrap().unwrap().len(), 2);

    nft.commit(&[v4.flush()]).unwrap();
    assert_eq!(nft.elements(&v4).unwrap().unwrap(), []);
}

#[test]
fn many_elements_are_split_over_messages() {
    let mut nft = nft();
    nft.commit(&[TABLE.add(), OWNER.create("owner")]).unwrap();
    let keys: Vec<_> = (0..20_000u32)
        .map(|n| Element::new(ip("fd00::").max(format!("fd00::{n:x}").parse().unwrap())))
        .collect();
    nft.commit(&OWNER.add_elements(&keys)).unwrap();
    let asked: Vec<_> = keys.iter().map(|key| (OWNER, key)).collect();
    assert!(nft.each_element(&asked).unwrap().iter().all(Option::is_some));
    assert_eq!(nft.elements(&OWNER).unwrap().unwrap().len(), 20_000);
    nft.commit(&[OWNER.delete()]).unwrap();
    assert_eq!(nft.sets(&TABLE).unwrap(), []);
}

#[test]
fn absent_things_are_empty_not_errors() {
    let mut nft = nft();
    assert_eq!(nft.tables().unwrap(), []);
    assert_eq!(nft.sets(&TABLE).unwrap(), []);
    assert_eq!(nft.rules(&TABLE).unwrap(), []);
    assert_eq!(nft.elements(&MAP).unwrap(), None);
    assert_eq!(nft.element(&MAP, &jump("10.0.1.5")).unwrap(), None);
    assert!(nft.commit(&[TABLE.delete()]).unwrap_err().is_absent());
    nft.commit(&[]).unwrap();
}

#[test]
fn comments_are_cut_at_whole_characters() {
    let long = "ä".repeat(100);
    let stored = comment(0, &long);
    assert_eq!(stored.len(), 2 + 126 + 1);
    assert_eq!(read_comment(0, &stored), "ä".repeat(63));
    assert_eq!(read_comment(7, &[&comment(0, "other")[..], &comment(7, "mine")].concat()), "mine");
    assert_eq!(read_comment(7, &[7, 200, b'x']), "x");
}

#[test]
fn a_rule_of_iptables_is_known_by_what_it_does() {
    let mut nft = nft();
    let table = Table { family: Family::Ip, name: "filter" };
    let chain = Chain { table, name: "CNI-FORWARD" };
    let to = |address: &str| {
        let network = crate::address::octets(ip(address));
        let field = Field::Destination;
        let to = Expression::Matches { field, network, prefix: 32, negated: false };
        let states = Expression::Xtables(Xtables::OfAFlow);
        [to, states, Expression::Counter, Expression::Act(Verdict::Accept)]
    };
    let note = [Expression::Xtables(Xtables::Comment("a word")), Expression::Counter];
    nft.commit(&[
        table.add(),
        chain.create(),
        chain.append_owned(&to("10.0.1.5"), "owner"),
        chain.insert(&note, ""),
    ])
    .unwrap();
    let [first, second] = &nft.rules_of(&chain).unwrap()[..] else { unreachable!() };
    assert_eq!((first.comment.as_str(), first.owner.as_str()), ("a word", ""));
    assert_eq!((second.comment.as_str(), second.owner.as_str()), ("", "owner"));
    assert!(first.is_made_of(&note) && second.is_made_of(&to("10.0.1.5")));
    let others = [&to("10.0.1.6")[..], &to("10.0.1.5")[..3], &to("10.0.1.5")[1..], &note, &[]];
    assert!(others.iter().all(|other| !second.is_made_of(other)));
}

#[test]
fn a_change_of_what_was_seen_is_refused_when_somebody_else_was_first() {
    let ns = NetNs::create().unwrap();
    let (mut nft, mut other) = (Nft::open_in(&ns).unwrap(), Nft::open_in(&ns).unwrap());
    let seen = nft.generation().unwrap();
    other.commit(&[TABLE.add()]).unwrap();
    let error = nft.commit_at(seen, &[TABLE.delete()]).unwrap_err();
    assert!(is_outdated(&error), "{error}");
    let seen = nft.generation().unwrap();
    nft.commit_at(seen, &[TABLE.delete()]).unwrap();
    assert_eq!(nft.tables().unwrap(), []);
}

#[test]
fn chains_that_packets_pass_are_told_with_what_they_do() {
    let ns = NetNs::create().unwrap();
    let mut nft = Nft::open_in(&ns).unwrap();
    assert_eq!(nft.forward_chains().unwrap(), []);
    let filter = Table { family: Family::Ip, name: "filter" };
    let forward = Chain { table: filter, name: "FORWARD" };
    let other = Chain { table: filter, name: "OTHER" };
    nft.commit(&[filter.add(), forward.add_at(Hook::Forward), other.add()]).unwrap();
    let found = ForwardChain {
        family: Family::Ip,
        table: "filter".into(),
        name: "FORWARD".into(),
        drops: false,
    };
    assert_eq!(nft.forward_chains().unwrap(), [found]);
}

#[test]
fn a_rule_is_put_before_another_that_stops_all() {
    let ns = NetNs::create().unwrap();
    let mut nft = Nft::open_in(&ns).unwrap();
    let table = Table { family: Family::Ip, name: "filter" };
    let chain = Chain { table, name: "FORWARD" };
    let drop = [Expression::Counter, Expression::Act(Verdict::Drop)];
    let some = Expression::Matches {
        field: Field::Source,
        network: vec![10, 0, 0, 0],
        prefix: 8,
        negated: false,
    };
    let conditional = [some, Expression::Act(Verdict::Drop)];
    let accept = [Expression::Act(Verdict::Accept)];
    let changes = [
        table.add(),
        chain.add_at(Hook::Forward),
        chain.append(&conditional, ""),
        chain.append(&accept, ""),
        chain.append(&drop, ""),
    ];
    nft.commit(&changes).unwrap();
    let stops = |nft: &mut Nft| -> Vec<bool> {
        nft.rules_of(&chain).unwrap().iter().map(RuleInfo::stops_all).collect()
    };
    assert_eq!(stops(&mut nft), [false, false, true]);
    let last = nft.rules_of(&chain).unwrap()[2].handle;
    nft.commit(&[chain.insert_before(last, &accept)]).unwrap();
    assert_eq!(stops(&mut nft), [false, false, false, true]);
}
