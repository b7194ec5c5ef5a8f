//! What may happen, and how likely it is.

use fastrand::Rng;
use ipnetwork::IpNetwork;

use super::reference::ranges;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(Write),
    Edit(Edit),
    /// The daemon is killed and started again, and this happens in between.
    Restart {
        writes: Vec<Write>,
        edits: Vec<Edit>,
    },
    /// Etcd is ended, for longer than all time-outs together.
    EtcdStops,
    EtcdStarts,
    /// The uplink goes, and with it the way to etcd.
    LinkDown,
    LinkUp,
    /// The uplink goes and comes, before anybody could notice but for the routes.
    LinkFlap,
}

/// What somebody writes to etcd.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    /// A node has this subnet from now on, whoever had it; `moved` is whether the node has its other
    /// address.
    Claim {
        node: u8,
        subnet: u8,
        moved: bool,
    },
    /// The key of a subnet goes without a word, as when its lease expires.
    Vanish {
        subnet: u8,
    },
    /// A node says that it has left its subnet, or somebody says so of one that is held.
    Leave {
        subnet: u8,
    },
    /// A key that must make no route.
    Odd {
        place: usize,
    },
    OddGone {
        place: usize,
    },
    /// All that was before can no longer be watched.
    Compact,
}

/// A change of the kernel by others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// All routes of our protocol go.
    Flush,
    /// The route of ours to this destination goes, if there is one.
    Delete(IpNetwork),
    /// A foreign route comes to the destination, in the place of ours if there is one.
    Foreign(IpNetwork),
    /// The foreign route to the destination goes, if there is one.
    ForeignGone(IpNetwork),
    /// The route of ours to this destination is made to lead elsewhere, if there is one.
    Bend(IpNetwork),
}

/// Keys, and values of theirs, that must make no route: outside the cluster's range, of this node's
/// own range, with a gateway that is none, no JSON, behind no link, no subnet.
pub(crate) const ODD: [(&str, &str); 6] = [
    ("192.168.0.0-24", r#"{"PublicIP":"10.100.0.61","BackendType":"host-gw"}"#),
    ("10.0.1.128-25", r#"{"PublicIP":"10.100.0.62","BackendType":"host-gw"}"#),
    ("10.0.40.0-24", r#"{"PublicIP":"127.0.0.9","BackendType":"host-gw"}"#),
    ("10.0.41.0-24", "{"),
    ("10.0.42.0-24", r#"{"PublicIP":"10.200.0.5","BackendType":"host-gw"}"#),
    ("junk", r#"{"PublicIP":"10.100.0.63","BackendType":"host-gw"}"#),
];

/// One interleaving. Its first steps let there be something to see.
pub(crate) fn steps(random: &mut Rng) -> Vec<Step> {
    let mut steps: Vec<Step> = (2..=random.u8(3..=5)).map(|node| Step::Write(home(node))).collect();
    let mut latest = 2;
    steps.extend((0..random.usize(3..=8)).map(|_| step(random, &mut latest)));
    steps
}

/// A node joins.
fn home(node: u8) -> Write {
    Write::Claim { node, subnet: node, moved: false }
}

/// `latest` is the subnet that was claimed last.
fn step(random: &mut Rng, latest: &mut u8) -> Step {
    match random.u8(0..24) {
        0..9 => Step::Write(write(random, latest)),
        9..15 => Step::Edit(edit(random)),
        15..19 => Step::Restart {
            writes: (0..random.usize(0..3)).map(|_| write(random, latest)).collect(),
            edits: (0..random.usize(0..3)).map(|_| edit(random)).collect(),
        },
        19 => Step::EtcdStops,
        20 => Step::EtcdStarts,
        21 => Step::LinkDown,
        22 => Step::LinkUp,
        _ => Step::LinkFlap,
    }
}

/// Half of the time something happens to the subnet that was claimed last: else a claim would seldom
/// meet the evidence against it.
fn write(random: &mut Rng, latest: &mut u8) -> Write {
    let subnet = if random.bool() { *latest } else { random.u8(2..7) };
    let place = random.usize(0..ODD.len());
    match random.u8(0..12) {
        0..3 => home(subnet),
        3..6 => {
            *latest = subnet;
            Write::Claim { node: random.u8(2..6), subnet, moved: random.bool() }
        }
        6..8 => Write::Vanish { subnet },
        8..10 => Write::Leave { subnet },
        10 => {
            if random.bool() {
                Write::Odd { place }
            } else {
                Write::OddGone { place }
            }
        }
        _ => Write::Compact,
    }
}

/// Few destinations, so that things meet.
fn edit(random: &mut Rng) -> Edit {
    let to = ranges(random.u8(2..6))[random.usize(0..2)];
    match random.u8(0..9) {
        0 => Edit::Flush,
        1..3 => Edit::Delete(to),
        3..5 => Edit::Foreign(to),
        5..7 => Edit::ForeignGone(to),
        _ => Edit::Bend(to),
    }
}
