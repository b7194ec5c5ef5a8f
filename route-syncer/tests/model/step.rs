//! What may happen, and how likely it is.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::reference::{Family, Node, V4, V6};

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The source tells a complete list; `proven` if it has evidence for all that is missing.
    List { nodes: Vec<Node>, held: Vec<Node>, proven: bool },
    /// The source tells the last list again, but for the nodes in these places.
    Shrink { lost: Vec<usize> },
    /// The source cannot tell.
    Broken,
    /// The daemon is killed and started again; meanwhile the kernel may be edited. The source is
    /// broken then, or tells what it remembers.
    Restart { meanwhile: Vec<Edit>, remembered: Option<(Vec<Node>, Vec<Node>)> },
    /// Somebody changes the kernel.
    Edit(Edit),
}

/// A change of the kernel by others.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// All routes of our protocol go.
    Flush,
    /// The route of ours to this destination goes, if there is one.
    Delete(IpNetwork),
    /// A foreign route comes to the destination, in the place of ours if there is one.
    Foreign(IpNetwork),
    /// The foreign route to the destination goes, if there is one.
    ForeignGone(IpNetwork),
    /// A route of our protocol comes that we did not make.
    Forged(IpNetwork),
    LinkDown,
    LinkUp,
    AddressGone(Family),
    AddressBack(Family),
    /// The link goes, and one of another index has its addresses.
    LinkAnew,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=7).prop_map(|mut steps| {
        // Without a first list there is little to see.
        if !matches!(steps[0], Step::List { .. } | Step::Restart { .. }) {
            let nodes = (1..=5).map(Node::sane).collect();
            steps.insert(0, Step::List { nodes, held: Vec::new(), proven: false });
        }
        steps
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (nodes(0..7), nodes(0..2), any::<bool>()).prop_map(|(nodes, held, proven)| {
            // Only who proves what is missing holds nodes itself.
            let held = if proven { held } else { Vec::new() };
            let held = held.into_iter().filter(|one| nodes.iter().all(|node| node.number != one.number));
            Step::List { held: held.collect(), nodes, proven }
        }),
        2 => vec(0usize..7, 0..6).prop_map(|lost| Step::Shrink { lost }),
        1 => Just(Step::Broken),
        2 => (vec(edit(), 0..3), prop::option::weighted(0.3, (nodes(0..4), nodes(0..2))))
            .prop_map(|(meanwhile, remembered)| {
                let remembered = remembered.map(|(nodes, held)| {
                    let is_new = |one: &Node| nodes.iter().all(|node: &Node| node.number != one.number);
                    let held = held.into_iter().filter(is_new).collect();
                    (nodes, held)
                });
                Step::Restart { meanwhile, remembered }
            }),
        6 => edit().prop_map(Step::Edit),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        1 => Just(Edit::Flush),
        2 => destination().prop_map(Edit::Delete),
        2 => destination().prop_map(Edit::Foreign),
        2 => destination().prop_map(Edit::ForeignGone),
        2 => destination().prop_map(Edit::Forged),
        1 => Just(Edit::LinkDown),
        2 => Just(Edit::LinkUp),
        1 => family().prop_map(Edit::AddressGone),
        2 => family().prop_map(Edit::AddressBack),
        1 => Just(Edit::LinkAnew),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(V4), Just(V6)]
}

/// Few destinations, so that things meet.
fn destination() -> impl Strategy<Value = IpNetwork> {
    (2u8..6, family()).prop_map(|(number, family)| sane_range(number, family))
}

/// Nodes in any order, each at most once; mostly this node is among them.
fn nodes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Node>> {
    (vec(node(), count), prop::bool::weighted(0.9)).prop_map(|(nodes, with_own)| {
        let mut seen = vec![1];
        let mut list: Vec<Node> = if with_own { vec![Node::sane(1)] } else { Vec::new() };
        for node in nodes {
            if !seen.contains(&node.number) {
                seen.push(node.number);
                list.push(node);
            }
        }
        // This node stands anywhere.
        let middle = list.len() / 2;
        if with_own && middle > 0 {
            list.swap(0, middle);
        }
        list
    })
}

fn node() -> impl Strategy<Value = Node> {
    (2u8..9, vec(claim(), 0..3), addresses()).prop_map(|(number, claims, addresses)| {
        let mut pod_cidrs = vec![sane_range(number, V4), sane_range(number, V6)];
        if claims.len() == 2 {
            // It has moved altogether.
            pod_cidrs.clear();
        }
        pod_cidrs.extend(claims);
        Node {
            number,
            addresses: addresses.map_or_else(|| sane_addresses(number), |f| f(number)),
            pod_cidrs,
        }
    })
}

type Addresses = fn(u8) -> Vec<IpAddr>;

fn addresses() -> impl Strategy<Value = Option<Addresses>> {
    let moved: Addresses = |number| sane_addresses(number + 20);
    let far: Addresses =
        |number| vec![IpAddr::from([10, 200, 0, number]), sane_addresses(number)[1]];
    let v4_only: Addresses = |number| sane_addresses(number)[..1].to_vec();
    let v6_only: Addresses = |number| sane_addresses(number)[1..].to_vec();
    let own: Addresses = |_| sane_addresses(1);
    prop_oneof![
        12 => Just(None),
        2 => Just(Some(moved)),
        1 => Just(Some(far)),
        1 => Just(Some(v4_only)),
        1 => Just(Some(v6_only)),
        1 => Just(Some(own)),
    ]
}

pub(crate) fn sane_addresses(number: u8) -> Vec<IpAddr> {
    vec![IpAddr::from([10, 100, 0, number]), format!("fd00:100::{number}").parse().unwrap()]
}

pub(crate) fn sane_range(number: u8, family: Family) -> IpNetwork {
    match family {
        V4 => format!("10.0.{number}.0/24").parse().unwrap(),
        V6 => format!("fd01:{number}::/64").parse().unwrap(),
    }
}

/// What may be claimed beside a node's own number: somebody else's, a wider or a narrower one, and
/// what nobody may have.
fn claim() -> impl Strategy<Value = IpNetwork> {
    const ODD: [&str; 18] = [
        "10.0.4.0/23",
        "10.0.5.128/25",
        "10.1.0.0/16",
        "fd01:4::/63",
        "fd01:5::/96",
        "0.0.0.0/0",
        "0.0.0.0/1",
        "::/0",
        "10.0.0.0/23",
        "10.0.1.64/26",
        "fd01:1::/80",
        "10.100.0.0/24",
        "10.100.0.128/25",
        "fd00:100::/48",
        "10.96.7.0/24",
        "127.1.0.0/16",
        "10.0.7.1/24",
        "fe80::/64",
    ];
    prop_oneof![
        3 => (2u8..9, family()).prop_map(|(number, family)| sane_range(number, family)),
        2 => prop::sample::select(&ODD[..]).prop_map(|text| text.parse().unwrap()),
    ]
}
