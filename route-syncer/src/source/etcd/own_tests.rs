//! What is in etcd, and what this node does about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::backend::Backend;
use super::super::contents::Stored;
use super::super::subnet::{Pool, Pools};
use super::*;

fn node(number: u8) -> Identity {
    Identity {
        name: format!("node{number}"),
        machine: Some(format!("machine{number}")),
        v4: Some([10, 100, 0, number].into()),
        v6: None,
        backend: Backend::HostGw,
    }
}

fn subnet(number: u8) -> Subnet {
    format!("10.0.{number}.0-24").parse().unwrap()
}

fn contents(leases: &[(u8, &Identity)]) -> Contents {
    let mut contents = Contents::default();
    for (number, identity) in leases {
        let value = identity.value().into();
        let stored = Stored { value, revision: 5, lease: 7 };
        contents.leases.insert(subnet(*number).to_string(), stored);
    }
    contents
}

/// Subnets 1 to `last`.
fn config(last: u8) -> Result<Config, ConfigError> {
    let address = |number| [10, 0, number, 0].into();
    let pool = Pool { first: address(1), last: address(last), prefix: 24 };
    let networks = vec!["10.0.0.0/14".parse().unwrap()];
    Ok(Config { networks, pools: Pools { v4: pool, v6: None } })
}

fn missing() -> Result<Config, ConfigError> {
    Err(ConfigError::Missing { key: "/config".into() })
}

fn decided(
    remembered: Option<u8>,
    contents: &Contents,
    config: &Result<Config, ConfigError>,
) -> Own {
    decide(&node(1), remembered.map(subnet), contents, &Picture::default(), config)
}

#[test]
fn the_lease_that_is_there_is_kept() {
    let there = contents(&[(3, &node(1)), (1, &node(2))]);
    let has = |stale| Own::Has { subnet: subnet(3), lease: 7, stale };
    assert_eq!(decided(None, &there, &missing()), has(None));
    assert_eq!(decided(Some(3), &there, &missing()), has(None));
    // With another address, or as flannel wrote it, it is written anew.
    let moved = Identity { v4: Some([10, 100, 0, 77].into()), ..node(1) };
    assert_eq!(decided(None, &contents(&[(3, &moved)]), &missing()), has(Some(5)));
    let flannels = Identity { name: "10.100.0.1".into(), machine: None, ..node(1) };
    assert_eq!(decided(None, &contents(&[(3, &flannels)]), &missing()), has(Some(5)));
}

#[test]
fn the_subnet_of_before_is_taken_again_or_none() {
    let free = contents(&[(1, &node(2))]);
    assert_eq!(decided(Some(3), &free, &missing()), Own::Take(subnet(3)));
    // Though a backup has another one for this node.
    let older = contents(&[(4, &node(1))]);
    assert_eq!(decided(Some(3), &older, &missing()), Own::Take(subnet(3)));
    let lost = contents(&[(3, &node(2))]);
    let holder = "node2 (10.100.0.2)".to_owned();
    let expected = Own::Lacks(Lack::Lost { subnet: subnet(3), holder });
    assert_eq!(decided(Some(3), &lost, &config(9)), expected);
}

#[test]
fn a_new_node_takes_one_that_is_free_or_held_if_none_is() {
    let taken = contents(&[(1, &node(2)), (3, &node(3))]);
    assert_eq!(decided(None, &taken, &config(3)), Own::Take(subnet(2)));
    let mut picture = Picture::default();
    let held = super::super::picture::Member {
        identity: node(4),
        subnet: subnet(2),
        floor: 1,
        held_since: Some("then".into()),
    };
    picture.members.insert(subnet(2).to_string(), held);
    let decided = |config| decide(&node(1), None, &taken, &picture, &config);
    assert_eq!(decided(config(4)), Own::Take(subnet(4)));
    assert_eq!(decided(config(3)), Own::Take(subnet(2)));
}

#[test]
fn without_a_network_or_a_free_subnet_there_is_a_remedy() {
    let Own::Lacks(lack) = decided(None, &Contents::default(), &missing()) else { panic!() };
    assert!(lack.to_string().contains("etcdctl put /config"), "{lack}");
    let full = contents(&[(1, &node(2)), (2, &node(3))]);
    let Own::Lacks(lack) = decided(None, &full, &config(2)) else { panic!() };
    let text = lack.to_string();
    assert!(text.contains("all 2 subnets of 10.0.0.0/14") && text.contains("forget"), "{text}");
    // A key that cannot be read is somebody's all the same.
    let mut broken = contents(&[(1, &node(2))]);
    let stored = Stored { value: b"junk".to_vec(), revision: 1, lease: 0 };
    broken.leases.insert(subnet(2).to_string(), stored);
    assert!(matches!(decided(None, &broken, &config(2)), Own::Lacks(_)));
}

#[test]
fn another_machine_with_our_address_is_refused() {
    assert!(check_address(&node(1), &contents(&[(1, &node(1)), (2, &node(2))])).is_ok());
    let twin = Identity { v4: node(1).v4, ..node(2) };
    let text = check_address(&node(1), &contents(&[(2, &twin)])).unwrap_err().to_string();
    assert!(text.contains("node2 (10.100.0.1)") && text.contains("forget node2"), "{text}");
}

#[test]
fn only_ones_own_leave_is_one() {
    let mut contents = Contents::default();
    for (number, identity, by_itself) in
        [(1, node(1), true), (2, node(1), false), (3, node(2), true)]
    {
        let value = sign(&identity, by_itself).into();
        contents.left.insert(subnet(number).to_string(), Stored { value, revision: 1, lease: 0 });
    }
    let left = |number| has_left(&node(1), subnet(number), &contents);
    assert_eq!([left(1), left(2), left(3), left(4)], [true, false, false, false]);
}
