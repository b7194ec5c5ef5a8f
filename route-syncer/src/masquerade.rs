//! Masquerading: what Pods send out of the cluster leaves with the node's address, and what they
//! send to Pods and nodes leaves with their own.
//!
//! The rules are made once; what changes is four sets. Everything is in a table of our own, which
//! is read first and written, in one transaction, only where it differs.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use kernel::netlink::Message;
use kernel::nft::{
    Chain, Element, Expression, Family, Field, Hook, KeyType, Nft, Set, SetKind, Table, Verdict,
    intervals,
};

use crate::claims::{Judged, Verdict as ClaimVerdict};
use crate::ranges;
use crate::source::Node;

/// The name of the table of the masquerade rules.
pub const TABLE_NAME: &str = "cbr0_cluster";
const TABLE: Table<'static> = Table { family: Family::Inet, name: TABLE_NAME };
const CHAIN: Chain<'static> = Chain { table: TABLE, name: "postrouting" };
const OWN4: Set<'static> = set("own_pods4", KeyType::Ipv4);
const OWN6: Set<'static> = set("own_pods6", KeyType::Ipv6);
const EXEMPT4: Set<'static> = set("exempt4", KeyType::Ipv4);
const EXEMPT6: Set<'static> = set("exempt6", KeyType::Ipv6);

/// The comments of the rules, in their order. By them the rules are known again.
const MULTICAST: &str = "multicast leaves as it is";
const LEAVING: &str = "what Pods of this node send out of the cluster";

/// Which packets are masqueraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The ranges of this node's Pods: the sources.
    pub own: BTreeSet<IpNetwork>,
    /// The destinations that are in the cluster.
    pub exempt: BTreeSet<IpNetwork>,
}

/// What became of a sync.
#[derive(Debug)]
pub enum Outcome {
    /// All is as it should be; whether something had to be written.
    InPlace {
        /// Whether something had to be written.
        written: bool,
    },
    /// It could not be made so, and the table is as it was: to new ranges it masquerades.
    Stale(kernel::Error),
    /// It could not be made so, and there is no table: nothing is masqueraded.
    Absent(kernel::Error),
}

impl Scope {
    /// From the cluster's ranges as the administrator knows them, from the claims, and from the
    /// addresses of the nodes. A refused claim exempts its range too, which is in the cluster
    /// whoever holds it; but not a range that no claim can be for, such as the whole Internet.
    pub fn new(cluster: &[IpNetwork], judged: &[Judged], nodes: &[&Node]) -> Self {
        let own = judged.iter().filter(|judged| judged.verdict == ClaimVerdict::Own);
        let sane = judged.iter().filter(|judged| match &judged.verdict {
            ClaimVerdict::Refused(refusal) => !refusal.is_about_the_range(),
            _ => true,
        });
        let addresses = nodes.iter().flat_map(|node| &node.addresses);
        let exempt = cluster.iter().copied().chain(sane.map(|judged| judged.claim.cidr));
        Self {
            own: own.map(|judged| judged.claim.cidr).collect(),
            exempt: exempt.chain(addresses.copied().map(IpNetwork::from)).collect(),
        }
    }

    /// The sets with the elements they should have.
    fn sets(&self) -> [(Set<'static>, Vec<Element>); 4] {
        let elements = |networks: &BTreeSet<IpNetwork>, v4: bool| {
            let family = networks.iter().copied().filter(|network| network.is_ipv4() == v4);
            intervals(&family.collect::<Vec<_>>())
        };
        [
            (OWN4, elements(&self.own, true)),
            (OWN6, elements(&self.own, false)),
            (EXEMPT4, elements(&self.exempt, true)),
            (EXEMPT6, elements(&self.exempt, false)),
        ]
    }
}

/// Who keeps the rules.
///
/// Its socket stays open: whoever closes one waits until all that transactions deleted before is
/// forgotten, ten milliseconds and more, and new routes would wait for that.
#[derive(Debug, Default)]
pub struct Masquerade {
    nft: Option<Nft>,
}

impl Masquerade {
    /// Makes the kernel masquerade this and nothing else of ours.
    pub fn sync(&mut self, scope: &Scope) -> Outcome {
        let open = || Nft::open();
        let mut nft = match self.nft.take().map_or_else(open, Ok) {
            Ok(nft) => nft,
            Err(error) => return Outcome::Absent(error),
        };
        match write_difference(&mut nft, scope) {
            Ok(written) => {
                self.nft = Some(nft);
                Outcome::InPlace { written }
            }
            // The next one has a new socket.
            Err(error) => match nft.tables() {
                Ok(tables) if tables.contains(&(TABLE.family, TABLE.name.to_owned())) => {
                    Outcome::Stale(error)
                }
                // Where tables cannot even be listed there are none: the kernel lacks nf_tables.
                _ => Outcome::Absent(error),
            },
        }
    }
}

/// Removes the table. Returns whether there was one.
///
/// # Errors
/// The kernel refuses.
pub fn remove() -> kernel::Result<bool> {
    // Where tables cannot even be listed there are none: the kernel lacks nf_tables.
    let Ok(mut nft) = Nft::open() else { return Ok(false) };
    let tables = nft.tables().unwrap_or_default();
    if !tables.contains(&(TABLE.family, TABLE.name.to_owned())) {
        return Ok(false);
    }
    match nft.commit(&[TABLE.delete()]) {
        // Somebody was faster.
        Err(error) if error.is_absent() => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Whether the rules are there. What they apply to is not looked at.
///
/// # Errors
/// The kernel cannot be asked.
pub fn is_there() -> kernel::Result<bool> {
    is_frame_intact(&mut Nft::open()?)
}

fn write_difference(nft: &mut Nft, scope: &Scope) -> kernel::Result<bool> {
    let changes = if is_frame_intact(nft)? {
        let mut changes = Vec::new();
        for (set, wanted) in scope.sets() {
            match nft.elements(&set)? {
                Some(found) if same(&found, &wanted) => {}
                Some(_) => {
                    changes.push(set.flush());
                    changes.extend(set.add_elements(&wanted));
                }
                None => return nft.commit(&anew(scope)).map(|()| true),
            }
        }
        changes
    } else {
        anew(scope)
    };
    nft.commit(&changes).map(|()| !changes.is_empty())
}

/// Whether the chain and its rules are ours and complete. Elements are compared apart.
fn is_frame_intact(nft: &mut Nft) -> kernel::Result<bool> {
    if nft.chains(&TABLE)? != [CHAIN.name] {
        return Ok(false);
    }
    let rules = nft.rules(&TABLE)?;
    Ok(rules.iter().map(|rule| rule.comment.as_str()).eq([MULTICAST, MULTICAST, LEAVING, LEAVING]))
}

fn same(found: &[Element], wanted: &[Element]) -> bool {
    let order = |elements: &[Element]| {
        let mut keys: Vec<_> =
            elements.iter().map(|element| (element.key.clone(), element.ends_interval)).collect();
        keys.sort_unstable();
        keys
    };
    order(found) == order(wanted)
}

/// The whole table, in the place of one that may be there.
fn anew(scope: &Scope) -> Vec<Message> {
    // Adding first makes deleting possible where there is no table yet.
    let mut changes = vec![TABLE.add(), TABLE.delete(), TABLE.add()];
    for (set, elements) in scope.sets() {
        changes.push(set.add(""));
        changes.extend(set.add_elements(&elements));
    }
    changes.push(CHAIN.add_at(Hook::SourceNat));
    for (key, multicast) in [KeyType::Ipv4, KeyType::Ipv6].into_iter().zip(ranges::multicast()) {
        changes.push(CHAIN.append(&multicast_rule(key, multicast), MULTICAST));
    }
    for (key, own, exempt) in [(KeyType::Ipv4, OWN4, EXEMPT4), (KeyType::Ipv6, OWN6, EXEMPT6)] {
        changes.push(CHAIN.append(
            &[
                Expression::Is(key),
                Expression::InSet { field: Field::Source, set: &own, negated: false },
                Expression::InSet { field: Field::Destination, set: &exempt, negated: true },
                Expression::Masquerade,
            ],
            LEAVING,
        ));
    }
    changes
}

/// Routing protocols and service discovery use the source address of what they receive.
fn multicast_rule(key: KeyType, multicast: IpNetwork) -> [Expression<'static>; 3] {
    let network = match multicast {
        IpNetwork::V4(v4) => v4.ip().octets().to_vec(),
        IpNetwork::V6(v6) => v6.ip().octets().to_vec(),
    };
    let prefix = multicast.prefix();
    [
        Expression::Is(key),
        Expression::Matches { field: Field::Destination, network, prefix, negated: false },
        Expression::Act(Verdict::Return),
    ]
}

const fn set(name: &'static str, key: KeyType) -> Set<'static> {
    Set { table: TABLE, name, key, kind: SetKind::Intervals }
}

#[cfg(test)]
#[path = "masquerade_tests.rs"]
mod tests;
