//! `ingressPolicy`: tables of our own, in which nothing but what is to be dropped is decided.
//!
//! ```text
//! table inet cbr0_firewall {
//!     map bridges { cbr0 : jump bridge-cbr0 }           the bridges with a policy
//!     set names { cbr0 }                                the same
//!     set isolated4 { 10.0.1.5 comment "cbr0/<container>/eth0" }      likewise isolated6
//!     map att-<owner's key> { ::ffff:10.0.1.5 : jump bridge-cbr0 }    one an attachment
//!     chain forward { iifname vmap @bridges }
//!     chain bridge-cbr0 { oifname != cbr0 oifname @names drop; oifname cbr0 jump within }
//!     chain within { to and from isolated4 and isolated6: drop }
//! }
//! table bridge cbr0_firewall {
//!     set ports { vethkt4dxjzron6 comment … }           those of isolated containers
//!     set att-<owner's key> { vethkt4dxjzron6 }         one an isolated attachment
//!     chain forward { to and from ports: drop }
//! }
//! ```
//!
//! What is on one bridge is kept apart on the bridge, which needs no `br_netfilter`; [`Chain`]
//! `within` is for what comes back to the bridge by way of the host. The kernel counts the
//! attachments of a bridge: each has a jump to the bridge's chain.

use std::net::IpAddr;

use kernel::netlink::Message;
use kernel::nft::{
    Chain, Element, Expression, Family, Field, Hook, KeyType, Set, SetKind, Table, Verdict,
};

pub(crate) const TABLE: Table<'static> = Table { family: Family::Inet, name: "cbr0_firewall" };
pub(crate) const BRIDGE_TABLE: Table<'static> = Table { family: Family::Bridge, ..TABLE };
pub(crate) const FORWARD: Chain<'static> = Chain { table: TABLE, name: "forward" };
pub(crate) const BRIDGE_FORWARD: Chain<'static> = Chain { table: BRIDGE_TABLE, ..FORWARD };
pub(crate) const PORTS: Set<'static> =
    Set { table: BRIDGE_TABLE, name: "ports", key: KeyType::Port, kind: SetKind::Keys };
const BRIDGES: Set<'static> =
    Set { table: TABLE, name: "bridges", key: KeyType::Port, kind: SetKind::VerdictMap };
const NAMES: Set<'static> =
    Set { table: TABLE, name: "names", key: KeyType::Port, kind: SetKind::Keys };
const ISOLATED4: Set<'static> =
    Set { table: TABLE, name: "isolated4", key: KeyType::Ipv4, kind: SetKind::Keys };
const ISOLATED6: Set<'static> =
    Set { table: TABLE, name: "isolated6", key: KeyType::Ipv6, kind: SetKind::Keys };
/// The sets of all isolated addresses.
pub(crate) const ISOLATED: [Set<'static>; 2] = [ISOLATED4, ISOLATED6];
const WITHIN: Chain<'static> = Chain { table: TABLE, name: "within" };
/// What the names of the bridges' chains begin with.
pub(crate) const OF_BRIDGE: &str = "bridge-";
/// What the names of the owners' maps and sets begin with.
pub(crate) const OWNER: &str = "att-";
/// How often the chain of a bridge is used that no attachment uses: by its two rules, and its
/// element in the map.
pub(crate) const USES_OF_ITS_OWN: u32 = 3;

/// The map of an owner.
pub(crate) fn owned(name: &str) -> Set<'_> {
    Set { table: TABLE, name, key: KeyType::Ipv6, kind: SetKind::VerdictMap }
}

/// The set of an owner, of its ports.
pub(crate) fn owned_ports(name: &str) -> Set<'_> {
    Set { name, ..PORTS }
}

/// The set of the isolated addresses of a family.
pub(crate) fn isolated(address: IpAddr) -> Set<'static> {
    if address.is_ipv4() { ISOLATED4 } else { ISOLATED6 }
}

/// The name of a bridge's chain.
pub(crate) fn chain_name(bridge: &str) -> String {
    format!("{OF_BRIDGE}{bridge}")
}

/// The changes that all attachments share. They can be made again and again: rules are replaced
/// within the transaction.
pub(crate) fn frame() -> Vec<Message> {
    let by_bridge = Expression::InSet { field: Field::Port, set: &BRIDGES, negated: false };
    let mut changes = vec![
        TABLE.add(),
        BRIDGES.add(""),
        NAMES.add(""),
        ISOLATED4.add(""),
        ISOLATED6.add(""),
        WITHIN.add(),
        WITHIN.flush(),
        FORWARD.add_at(Hook::Forward),
        FORWARD.flush(),
        FORWARD.append(&[by_bridge], ""),
    ];
    changes.extend(within().iter().map(|rule| WITHIN.append(rule, "")));
    changes
}

/// As [`frame`], for what is on one bridge.
pub(crate) fn bridge_frame() -> Vec<Message> {
    let mut changes = vec![
        BRIDGE_TABLE.add(),
        PORTS.add(""),
        BRIDGE_FORWARD.add_at(Hook::BridgeForward),
        BRIDGE_FORWARD.flush(),
    ];
    for field in [Field::Port, Field::OutPort] {
        let isolated = Expression::InSet { field, set: &PORTS, negated: false };
        changes.push(BRIDGE_FORWARD.append(&[isolated, Expression::Act(Verdict::Drop)], ""));
    }
    changes
}

/// How many rules each of the shared chains and that of a bridge have.
pub(crate) fn rules(bridge: &str) -> [(String, usize); 3] {
    let name = |chain: Chain<'_>| chain.name.to_owned();
    [(name(FORWARD), 1), (name(WITHIN), within().len()), (chain_name(bridge), 2)]
}

/// Makes the chain of a bridge, through which comes what its containers send.
pub(crate) fn add_bridge(bridge: &str) -> Vec<Message> {
    let name = chain_name(bridge);
    let chain = Chain { table: TABLE, name: &name };
    let leaves_by = |negated| {
        let network = Element::port(bridge).key;
        Expression::Matches { field: Field::OutPort, network, prefix: 128, negated }
    };
    let to_others = Expression::InSet { field: Field::OutPort, set: &NAMES, negated: false };
    let drop = Expression::Act(Verdict::Drop);
    let within = Expression::Act(Verdict::Jump(WITHIN.name.into()));
    let mut changes = vec![
        chain.create(),
        chain.append(&[leaves_by(true), to_others, drop], ""),
        chain.append(&[leaves_by(false), within], ""),
    ];
    for (set, element) in elements_of(bridge) {
        changes.extend(set.add_elements(&[element]));
    }
    changes
}

/// Removes the chain of a bridge; `EBUSY` while an attachment uses it.
pub(crate) fn remove_bridge(bridge: &str) -> Vec<Message> {
    let name = chain_name(bridge);
    let elements = elements_of(bridge).into_iter();
    let mut changes: Vec<_> =
        elements.flat_map(|(set, element)| set.delete_elements(&[element])).collect();
    changes.push(Chain { table: TABLE, name: &name }.delete());
    changes
}

/// By what a bridge is known.
pub(crate) fn elements_of(bridge: &str) -> [(Set<'static>, Element); 2] {
    let port = Element::port(bridge);
    [(BRIDGES, port.clone().to(Verdict::Jump(chain_name(bridge)))), (NAMES, port)]
}

/// The rules of `within`.
fn within() -> Vec<Vec<Expression<'static>>> {
    let fields = [Field::Source, Field::Destination];
    let rules = [&ISOLATED4, &ISOLATED6].into_iter().flat_map(|set| {
        fields.map(|field| {
            let isolated = Expression::InSet { field, set, negated: false };
            vec![Expression::Is(set.key), isolated, Expression::Act(Verdict::Drop)]
        })
    });
    rules.collect()
}
