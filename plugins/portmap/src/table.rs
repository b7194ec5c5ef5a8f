//! The nf_tables objects of the plugin.
//!
//! ```text
//! table inet cbr0_portmap {
//!     map any4 { tcp . 80 : 10.0.1.2 . 8080 comment "cbr0/<container>/eth0" }     likewise any6
//!     map addressed4 { 192.0.2.1 . tcp . 80 : … }                                 likewise addressed6
//!     chain prerouting, output { fib daddr type local jump conditional; … jump hostports }
//!     chain hostports { dnat to … map @addressed4, @addressed6, @any4, @any6 }
//!     chain conditional { jump if-<network> }     a network with conditions has maps of its own
//!     set hairpin4 { cbr0 . 10.0.1.2 }            likewise hairpin6
//!     set bridged4 { 10.0.1.2 }                   likewise bridged6
//!     set loopback4 { 10.0.1.2 }
//!     set all4 { 10.0.1.2 }                       likewise all6
//!     chain postrouting { ct status dnat … @hairpin4 masquerade; … @loopback4 …; … @all4 … }
//!     chain raw { iifname @guarded ip daddr 127.0.0.0/8 drop }
//!     chain att-<owner's key> { return comment "map tcp *:80 10.0.1.2:8080" }     see record.rs
//!     chain port-… { return comment … }           see claims.rs
//! }
//! ```
//!
//! A packet costs a few lookups however many ports are mapped, and a change asks only for what is
//! the attachment's own. What nobody uses but us stays, empty.

use std::net::IpAddr;

use kernel::netlink::Message;
use kernel::nft::{
    Chain, Element, Expression, Family, Field, Hook, KeyType, Set, SetKind, Table, Verdict,
};

use crate::conditions::Condition;
use crate::mapping::Place;

pub(crate) const TABLE: Table<'static> = Table { family: Family::Inet, name: "cbr0_portmap" };

const PREROUTING: Chain<'static> = Chain { table: TABLE, name: "prerouting" };
const OUTPUT: Chain<'static> = Chain { table: TABLE, name: "output" };
const HOSTPORTS: Chain<'static> = Chain { table: TABLE, name: "hostports" };
const CONDITIONAL: Chain<'static> = Chain { table: TABLE, name: "conditional" };
const POSTROUTING: Chain<'static> = Chain { table: TABLE, name: "postrouting" };
const RAW: Chain<'static> = Chain { table: TABLE, name: "raw" };
/// How many rules the chains have that everything goes through.
const RULES: [(Chain<'static>, usize); 5] =
    [(PREROUTING, 2), (OUTPUT, 2), (HOSTPORTS, 4), (POSTROUTING, 7), (RAW, 1)];

const fn keys(name: &'static str, key: KeyType) -> Set<'static> {
    Set { table: TABLE, name, key, kind: SetKind::Keys }
}

const HAIRPIN4: Set<'static> = keys("hairpin4", KeyType::PortAndIpv4);
const HAIRPIN6: Set<'static> = keys("hairpin6", KeyType::PortAndIpv6);
const BRIDGED4: Set<'static> = keys("bridged4", KeyType::Ipv4);
const BRIDGED6: Set<'static> = keys("bridged6", KeyType::Ipv6);
const LOOPBACK4: Set<'static> = keys("loopback4", KeyType::Ipv4);
const ALL4: Set<'static> = keys("all4", KeyType::Ipv4);
const ALL6: Set<'static> = keys("all6", KeyType::Ipv6);
/// The links by which packets to the loopback addresses could come in, since they may leave by them.
pub(crate) const GUARDED: Set<'static> = keys("guarded", KeyType::Port);

/// For whom the source address of what goes to a container is the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disguise {
    /// For who is behind the same link: the answer would not come by the host.
    Hairpin,
    /// The same where what crosses a bridge passes the filters (`br_netfilter`): there it is bridged
    /// to the container, and came in by no link then.
    Bridged,
    /// For the host itself by its loopback address: nobody else could answer that.
    Loopback,
    /// For all.
    All,
}

impl Disguise {
    pub(crate) const ALL: [(&'static str, Disguise); 4] = [
        ("hairpin", Disguise::Hairpin),
        ("bridged", Disguise::Bridged),
        ("loopback", Disguise::Loopback),
        ("all", Disguise::All),
    ];

    /// The set that such containers are in; IPv6 has no loopback addresses that could leave.
    pub(crate) fn set(self, ipv6: bool) -> Option<Set<'static>> {
        match (self, ipv6) {
            (Disguise::Hairpin, false) => Some(HAIRPIN4),
            (Disguise::Hairpin, true) => Some(HAIRPIN6),
            (Disguise::Bridged, false) => Some(BRIDGED4),
            (Disguise::Bridged, true) => Some(BRIDGED6),
            (Disguise::Loopback, false) => Some(LOOPBACK4),
            (Disguise::Loopback, true) => None,
            (Disguise::All, false) => Some(ALL4),
            (Disguise::All, true) => Some(ALL6),
        }
    }

    /// The container's element of it, behind this link.
    pub(crate) fn element(self, link: &str, address: IpAddr) -> Element {
        match self {
            Disguise::Hairpin => Element::port_and_address(link, address),
            Disguise::Bridged | Disguise::Loopback | Disguise::All => Element::new(address),
        }
    }
}

/// The maps that a network's ports are in: those of all, or its own if it has conditions.
#[derive(Debug)]
pub(crate) struct Maps {
    suffix: String,
    names: [String; 4],
}

impl Maps {
    /// The maps of all networks without conditions; with a network's key, its own.
    pub(crate) fn new(network_key: Option<&str>) -> Maps {
        let suffix = network_key.map(|key| format!("-{key}")).unwrap_or_default();
        let names = ["any4", "any6", "addressed4", "addressed6"].map(|it| format!("{it}{suffix}"));
        Maps { suffix, names }
    }

    /// The map that a place is in.
    pub(crate) fn of(&self, place: &Place) -> Set<'_> {
        self.map(place.address.is_some(), place.ipv6)
    }

    fn map(&self, addressed: bool, ipv6: bool) -> Set<'_> {
        let name = &self.names[usize::from(addressed) * 2 + usize::from(ipv6)];
        let key = match (addressed, ipv6) {
            (false, _) => KeyType::Service,
            (true, false) => KeyType::Ipv4Service,
            (true, true) => KeyType::Ipv6Service,
        };
        let kind = if ipv6 { SetKind::Targets6 } else { SetKind::Targets4 };
        Set { table: TABLE, name, key, kind }
    }

    /// The chain in which who has a port at one address only says so.
    pub(crate) fn claims(&self, place: &Place) -> String {
        let family = if place.ipv6 { 6 } else { 4 };
        format!("port-{}-{}-{family}{}", place.protocol_name(), place.port, self.suffix)
    }

    fn chain_name(&self) -> String {
        format!("if{}", self.suffix)
    }

    fn make(&self) -> impl Iterator<Item = Message> {
        [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .map(|(addressed, ipv6)| self.map(addressed, ipv6).add(""))
    }

    /// The rules that look a packet up, that of one address first.
    fn rules(&self, chain: Chain<'_>, conditions: &[&[Condition]; 2]) -> Vec<Message> {
        let mut rules = Vec::new();
        for (addressed, ipv6) in [(true, false), (true, true), (false, false), (false, true)] {
            let map = self.map(addressed, ipv6);
            let field = if addressed { Field::DestinationService } else { Field::Service };
            let mut steps = vec![Expression::Is(family(ipv6))];
            steps.extend(conditions[usize::from(ipv6)].iter().map(Condition::step));
            steps.push(Expression::Redirect { field, map: &map });
            rules.push(chain.append(&steps, ""));
        }
        rules
    }

    /// What a network with conditions has to itself. The chain that leads to it is somebody else's,
    /// too: `is_new` says whether the jump must be put there.
    pub(crate) fn conditional(&self, conditions: &[&[Condition]; 2], is_new: bool) -> Vec<Message> {
        let name = self.chain_name();
        let chain = Chain { table: TABLE, name: &name };
        let mut changes: Vec<_> = self.make().collect();
        if is_new {
            let jump = Expression::Act(Verdict::Jump(name.clone()));
            changes.extend([chain.create(), CONDITIONAL.append(&[jump], "")]);
        }
        changes.push(chain.flush());
        changes.extend(self.rules(chain, conditions));
        changes
    }

    /// The chain that is there if [`Maps::conditional`] has been made.
    pub(crate) fn with_chain<T>(&self, work: impl FnOnce(Chain<'_>) -> T) -> T {
        work(Chain { table: TABLE, name: &self.chain_name() })
    }
}

/// The key of a place in its map.
pub(crate) fn key(place: &Place) -> Element {
    match place.address {
        Some(address) => Element::address_service(address, place.protocol, place.port),
        None => Element::service(place.protocol, place.port),
    }
}

fn family(ipv6: bool) -> KeyType {
    if ipv6 { KeyType::Ipv6 } else { KeyType::Ipv4 }
}

/// What all attachments share. It can be made again and again: rules are replaced within the
/// transaction, but for those of the networks with conditions.
pub(crate) fn frame() -> Vec<Message> {
    let maps = Maps::new(None);
    let mut changes = vec![TABLE.add()];
    changes.extend(maps.make());
    let sets = [HAIRPIN4, HAIRPIN6, BRIDGED4, BRIDGED6, LOOPBACK4, ALL4, ALL6, GUARDED];
    changes.extend(sets.map(|set| set.add("")));
    changes.extend([HOSTPORTS.add(), CONDITIONAL.add(), HOSTPORTS.flush()]);
    changes.extend(maps.rules(HOSTPORTS, &[&[], &[]]));
    for (chain, hook) in [(PREROUTING, Hook::DestinationNat), (OUTPUT, Hook::OutputNat)] {
        changes.extend([chain.add_at(hook), chain.flush()]);
        changes.extend([CONDITIONAL, HOSTPORTS].map(|next| {
            let jump = Expression::Act(Verdict::Jump(next.name.into()));
            chain.append(&[Expression::ToHost, jump], "")
        }));
    }
    changes.extend([POSTROUTING.add_at(Hook::SourceNat), POSTROUTING.flush()]);
    changes.extend(disguises());
    changes.extend([RAW.add_at(Hook::Raw), RAW.flush(), guard()]);
    changes
}

fn disguises() -> Vec<Message> {
    let mut rules = Vec::new();
    for (_, disguise) in Disguise::ALL {
        for ipv6 in [false, true] {
            let Some(set) = disguise.set(ipv6) else { continue };
            let (field, more) = match disguise {
                Disguise::Hairpin => (Field::PortAndDestination, vec![]),
                Disguise::Bridged => {
                    (Field::Destination, vec![Expression::FromNowhere, Expression::NotFromHost])
                }
                Disguise::Loopback => (Field::Destination, vec![of_loopback(Field::Source)]),
                Disguise::All => (Field::Destination, vec![]),
            };
            let mut steps = vec![Expression::Redirected, Expression::Is(family(ipv6))];
            steps.extend(more);
            steps.push(Expression::InSet { field, set: &set, negated: false });
            steps.push(Expression::Masquerade);
            rules.push(POSTROUTING.append(&steps, ""));
        }
    }
    rules
}

/// `route_localnet` opens the host's loopback addresses to whoever is behind the link, but for this.
fn guard() -> Message {
    let steps = [
        Expression::InSet { field: Field::Port, set: &GUARDED, negated: false },
        Expression::Is(KeyType::Ipv4),
        of_loopback(Field::Destination),
        Expression::Act(Verdict::Drop),
    ];
    RAW.append(&steps, "")
}

fn of_loopback(field: Field) -> Expression<'static> {
    Expression::Matches { field, network: vec![127, 0, 0, 0], prefix: 8, negated: false }
}

/// A chain that has not the rules that [`frame`] gave it, among those that have so many.
pub(crate) fn damaged(count: impl Fn(&str) -> usize) -> Option<&'static str> {
    RULES.iter().find(|(chain, rules)| count(chain.name) != *rules).map(|(chain, _)| chain.name)
}
