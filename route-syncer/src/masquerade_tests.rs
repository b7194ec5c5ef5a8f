//! The table, in throw-away namespaces, and what goes into it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kernel::NetNs;

use super::*;
use crate::claims::{Claim, Refusal};

fn networks(texts: &[&str]) -> BTreeSet<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn scope() -> Scope {
    Scope {
        own: networks(&["10.0.1.0/24", "fd00:1::/64"]),
        exempt: networks(&["10.0.0.0/14", "10.0.1.0/24", "10.100.0.2/32", "fd00::/16"]),
    }
}

fn in_namespace(test: impl FnOnce()) {
    NetNs::create().unwrap().run(test).unwrap();
}

/// Syncs, and tells whether something was written.
fn written(scope: &Scope) -> bool {
    match Masquerade::default().sync(scope) {
        Outcome::InPlace { written } => written,
        other => panic!("{other:?}"),
    }
}

fn elements(set: &Set<'_>) -> usize {
    Nft::open().unwrap().elements(set).unwrap().unwrap().len()
}

#[test]
fn what_is_in_place_is_not_written_again() {
    in_namespace(|| {
        assert!(written(&scope()));
        assert!(!written(&scope()));
    });
}

#[test]
fn a_changed_scope_is_written_once() {
    in_namespace(|| {
        written(&scope());
        let mut larger = scope();
        larger.exempt.insert("192.168.0.0/16".parse().unwrap());
        assert!(written(&larger));
        assert!(!written(&larger));
        // Each range is its first address and the one behind its last.
        assert_eq!((elements(&EXEMPT4), elements(&EXEMPT6), elements(&OWN4)), (6, 2, 2));
        assert!(written(&Scope::default()));
        assert!(!written(&Scope::default()));
        assert_eq!((elements(&EXEMPT4), elements(&OWN6)), (0, 0));
    });
}

#[test]
fn a_damaged_table_is_made_anew() {
    let damages: [fn() -> Vec<Message>; 4] = [
        || vec![TABLE.delete()],
        || vec![CHAIN.flush()],
        || vec![CHAIN.append(&[Expression::Masquerade], "somebody's")],
        || vec![OWN4.flush()],
    ];
    for damage in damages {
        in_namespace(|| {
            written(&scope());
            Nft::open().unwrap().commit(&damage()).unwrap();
            assert!(written(&scope()));
            assert!(!written(&scope()));
            let mut nft = Nft::open().unwrap();
            assert!(is_frame_intact(&mut nft).unwrap());
        });
    }
}

#[test]
fn other_tables_are_left_alone() {
    in_namespace(|| {
        let other = Table { family: Family::Inet, name: "other" };
        let chain = Chain { table: other, name: "postrouting" };
        let mut nft = Nft::open().unwrap();
        nft.commit(&[other.add(), chain.add(), chain.append(&[Expression::Masquerade], "theirs")])
            .unwrap();
        let before = nft.rules(&other).unwrap();
        written(&scope());
        assert_eq!(nft.rules(&other).unwrap(), before);
    });
}

#[test]
fn many_ranges_fit() {
    in_namespace(|| {
        let mut many = scope();
        many.exempt.extend((0..5000u32).map(|number| {
            let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + (number << 9));
            IpNetwork::new(address.into(), 24).unwrap()
        }));
        assert!(written(&many));
        assert!(!written(&many));
        assert!(written(&scope()));
        assert!(!written(&scope()));
    });
}

#[test]
fn the_scope_is_the_cluster_the_claims_and_the_nodes() {
    let judged = |cidr: &str, verdict| Judged {
        claim: Claim {
            node: "n".into(),
            cidr: cidr.parse().unwrap(),
            gateway: None,
            vtep: None,
            held_since: None,
        },
        verdict,
    };
    let address = "10.100.0.3".parse().unwrap();
    let node =
        Node { name: "node2".into(), addresses: vec![address], pod_cidrs: vec![], vteps: None };
    let claims = [
        judged("10.0.1.0/24", ClaimVerdict::Own),
        judged("10.0.2.0/24", ClaimVerdict::Route { gateway: address, link: 1 }),
        judged("10.0.3.0/24", ClaimVerdict::OffLink { gateway: address }),
        judged("10.0.4.0/24", ClaimVerdict::Refused(Refusal::NoGateway("IPv4"))),
        judged("0.0.0.0/0", ClaimVerdict::Refused(Refusal::DefaultRoute)),
        judged("0.0.0.0/1", ClaimVerdict::Refused(Refusal::TooWide(8))),
    ];
    let scope = Scope::new(&["10.0.0.0/14".parse().unwrap()], &claims, &[&node]);
    assert_eq!(scope.own, networks(&["10.0.1.0/24"]));
    let exempt = ["10.0.0.0/14", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "10.0.4.0/24"];
    assert_eq!(scope.exempt, &networks(&exempt) | &networks(&["10.100.0.3/32"]));
}
