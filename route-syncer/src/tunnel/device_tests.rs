//! The devices that should be, and the steps towards them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::claims::Claim;
use crate::observed;

const LOCAL: &str = "10.100.0.1";

fn own(cidr: &str, gateway: &str) -> Judged {
    let gateway = gateway.parse().ok();
    let claim = Claim {
        node: "node1".into(),
        cidr: cidr.parse().unwrap(),
        gateway,
        vtep: None,
        held_since: None,
    };
    Judged { claim, verdict: Verdict::Own }
}

/// An uplink with addresses of both families.
fn observed() -> Observed {
    let link = Link { index: 2, name: "eth0".into(), up: true, carrier: true, mtu: Some(1500) };
    let address = |text: &str| {
        let subnet: IpNetwork = text.parse().unwrap();
        observed::Address { link: 2, local: subnet.ip(), subnet }
    };
    Observed {
        links: vec![link],
        addresses: vec![address("10.100.0.1/24"), address("fd00:100::1/64")],
        ..Observed::default()
    }
}

fn v4() -> Device {
    wanted(&[own("10.0.1.0/24", LOCAL)], &observed()).0[0]
}

/// What is seen after the changes of so many looks.
fn after(wanted: &[Device], rounds: usize) -> Observed {
    let mut observed = observed();
    for _ in 0..rounds {
        let (changes, obstacles) = changes(wanted, &observed.tunnel);
        assert_eq!(obstacles, []);
        changes.iter().for_each(|change| change.foresee(&mut observed));
    }
    observed
}

#[test]
fn each_family_has_a_device_whose_packets_fit_into_the_uplinks() {
    let judged =
        [own("10.0.1.0/24", LOCAL), own("10.0.9.0/24", LOCAL), own("fd00:1::/64", "fd00:100::1")];
    let (devices, obstacles) = wanted(&judged, &observed());
    assert_eq!(obstacles, []);
    let told: Vec<_> = devices.iter().map(|one| (one.mtu, one.address.to_string())).collect();
    assert_eq!(told, [(1450, "10.0.1.0/32".to_owned()), (1430, "fd00:1::/128".to_owned())]);
    assert_eq!(devices[0].mac.to_string(), "0e:cb:0a:64:00:01");
}

#[test]
fn what_the_source_does_not_tell_is_left_as_it_is() {
    assert_eq!(wanted(&[], &observed()), (Vec::new(), Vec::new()));
    assert_eq!(wanted(&[own("10.0.1.0/24", "")], &observed()), (Vec::new(), Vec::new()));
    let unknown = Obstacle::Uplink("10.9.9.9".parse().unwrap());
    assert_eq!(wanted(&[own("10.0.1.0/24", "10.9.9.9")], &observed()), (Vec::new(), vec![unknown]));
}

#[test]
fn a_device_is_made_and_then_has_its_address_and_then_nothing_is_to_be_done() {
    assert_eq!(changes(&[v4()], &after(&[v4()], 0).tunnel).0, [Change::Create(v4())]);
    let made = after(&[v4()], 1);
    assert_eq!(made.link_name(made.tunnel.devices[&Family::V4].index), "cbr0-vxlan");
    let next = changes(&[v4()], &made.tunnel).0;
    assert!(
        matches!(next[..], [Change::AddAddress(Family::V4, _, address)] if address == v4().address)
    );
    assert_eq!(changes(&[v4()], &after(&[v4()], 2).tunnel).0, []);
}

#[test]
fn what_can_be_changed_is_and_what_cannot_is_made_anew() {
    let seen = after(&[v4()], 2).tunnel;
    let index = seen.devices[&Family::V4].index;
    let next = |device: Device| changes(&[device], &seen).0;
    assert_eq!(next(Device { mtu: 1400, ..v4() }), [Change::Resize(Family::V4, index, 1400)]);
    let other: IpNetwork = "10.0.7.0/32".parse().unwrap();
    assert_eq!(
        next(Device { address: other, ..v4() }),
        [
            Change::AddAddress(Family::V4, index, other),
            Change::DeleteAddress(Family::V4, index, v4().address),
        ]
    );
    let moved = Device { local: "10.100.0.77".parse().unwrap(), ..v4() };
    assert_eq!(next(moved), [Change::Remove(Family::V4, index), Change::Create(moved)]);
    let mut down = seen.clone();
    down.devices.get_mut(&Family::V4).unwrap().up = false;
    assert_eq!(changes(&[v4()], &down).0, [Change::Raise(Family::V4, index)]);
    assert_eq!(removal(&seen), [Change::Remove(Family::V4, index)]);
}

#[test]
fn who_is_in_the_way_is_named_and_left_alone() {
    let flannel = |id, port| Vxlan { id, local: LOCAL.parse().ok(), port, learning: false };
    let obstacles = |others: &[(&str, Vxlan)], taken: &[&str]| {
        let seen = Seen {
            others: others.iter().map(|(name, other)| ((*name).to_owned(), *other)).collect(),
            taken: taken.iter().map(|name| (*name).to_owned()).collect(),
            ..Seen::default()
        };
        let (changes, obstacles) = changes(&[v4()], &seen);
        assert_eq!(changes.is_empty(), !obstacles.is_empty());
        obstacles.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let in_the_way = obstacles(&[("flannel.1", flannel(1, 8472))], &[]);
    assert!(in_the_way[0].contains("ip link del flannel.1"), "{in_the_way:?}");
    let v6 = Vxlan { local: "fd00:100::1".parse().ok(), ..flannel(1, 8472) };
    let apart = [("flannel.2", flannel(2, 8472)), ("vx", flannel(1, 4789)), ("flannel-v6.1", v6)];
    assert_eq!(obstacles(&apart, &[]), [""; 0]);
    assert!(obstacles(&[], &["cbr0-vxlan"])[0].contains("another kind"));
    assert_eq!(obstacles(&[], &["cbr0-vxlan6"]), [""; 0]);
}
