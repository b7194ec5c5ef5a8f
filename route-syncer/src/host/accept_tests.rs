#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kernel::NetNs;
use kernel::nft::Hook;

use super::*;

const V4: Chain<'static> = chain(Family::Ip, FORWARD);

fn own() -> BTreeSet<IpNetwork> {
    ["10.0.1.0/24", "fd00:1::/64"].map(|range| range.parse().unwrap()).into()
}

fn drop_all() -> [Expression<'static>; 2] {
    [Expression::Counter, Expression::Act(Verdict::Drop)]
}

/// A namespace whose chain FORWARD has these rules.
fn with_rules(rules: &[&[Expression<'_>]]) -> NetNs {
    let ns = NetNs::create().unwrap();
    let mut changes = vec![V4.table.add(), V4.add_at(Hook::Forward)];
    changes.extend(rules.iter().map(|rule| V4.append(rule, "theirs")));
    Nft::open_in(&ns).unwrap().commit(&changes).unwrap();
    ns
}

/// The rules of FORWARD, in short.
fn forward(ns: &NetNs) -> Vec<String> {
    let rules = Nft::open_in(ns).unwrap().rules_of(&V4).unwrap();
    let words = |rule: &RuleInfo| match rule.leads_to() {
        Some(chain) => chain,
        None if rule.stops_all() => "stop".to_owned(),
        None => rule.comment.clone(),
    };
    rules.iter().map(words).collect()
}

fn ours(ns: &NetNs) -> Vec<String> {
    let rules = Nft::open_in(ns).unwrap().rules_of(&chain(Family::Ip, OURS)).unwrap();
    rules.into_iter().map(|rule| rule.owner).collect()
}

fn settle_in(ns: &NetNs, mode: Mode) -> Finding {
    ns.run(|| settle(&own(), mode)).unwrap()
}

fn set() -> Finding {
    Finding::set("rules are in chain CBR0-FORWARD")
}

#[test]
fn where_nothing_drops_nothing_is_made() {
    let ns = NetNs::create().unwrap();
    assert_eq!(settle_in(&ns, Mode::Set), Finding::ok(""));
    assert_eq!(Nft::open_in(&ns).unwrap().tables().unwrap(), []);
    let ns = with_rules(&[&[Expression::Act(Verdict::Accept)]]);
    assert_eq!(settle_in(&ns, Mode::Set), Finding::ok(""));
    assert_eq!(forward(&ns), ["theirs"]);
}

#[test]
fn the_way_through_is_before_the_rule_that_nothing_gets_past_and_behind_all_others() {
    let accept = [Expression::Act(Verdict::Accept)];
    let ns = with_rules(&[&accept, &drop_all()]);
    let looked = settle_in(&ns, Mode::Look);
    assert!(looked.words.contains("drops packets from and to Pods"), "{looked:?}");
    assert_eq!(forward(&ns), ["theirs", "stop"], "only looked at");
    assert_eq!(settle_in(&ns, Mode::Set), set());
    assert_eq!(forward(&ns), ["theirs", OURS, "stop"]);
    assert_eq!(ours(&ns), ["-s 10.0.1.0/24 -j ACCEPT", "-d 10.0.1.0/24 -j ACCEPT"]);
    for mode in [Mode::Set, Mode::Look] {
        assert_eq!(settle_in(&ns, mode), Finding::ok(""));
    }
}

#[test]
fn what_is_flushed_moved_or_doubled_is_repaired_and_what_was_made_is_removed() {
    let ns = with_rules(&[&drop_all()]);
    let mut nft = Nft::open_in(&ns).unwrap();
    assert_eq!(settle_in(&ns, Mode::Set), set());
    let jump = [Expression::Act(Verdict::Jump(OURS.into()))];
    let (doubled, ours_flushed) = (V4.insert(&jump, ""), chain(Family::Ip, OURS).flush());
    let late = vec![V4.flush(), V4.append(&drop_all(), ""), V4.append(&jump, "")];
    let gone = vec![V4.flush(), V4.append(&drop_all(), "")];
    for changes in [vec![ours_flushed], late, gone, vec![doubled]] {
        nft.commit(&changes).unwrap();
        assert_eq!(settle_in(&ns, Mode::Set), set());
        assert_eq!(forward(&ns), [OURS, "stop"]);
        assert_eq!(ours(&ns).len(), 2);
    }
    assert!(ns.run(remove).unwrap().unwrap());
    assert_eq!(forward(&ns), ["stop"]);
    assert!(!nft.exist(&[chain(Family::Ip, OURS)]).unwrap()[0]);
    assert!(!ns.run(remove).unwrap().unwrap());
}

#[test]
fn what_drops_elsewhere_is_told() {
    let chain = |drops, table: &str| ForwardChain {
        family: Family::Inet,
        table: table.into(),
        name: "forward".into(),
        drops,
    };
    let ours = ForwardChain { family: Family::Ip, name: FORWARD.into(), ..chain(true, "filter") };
    assert_eq!(others(&[chain(false, "open"), ours.clone()]), [""; 0]);
    let told = finding(0, &others(&[chain(true, "firewall"), ours]));
    assert!(told.words.contains("\"forward\" of table \"firewall\""), "{told:?}");
}
