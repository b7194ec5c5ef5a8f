#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn stamp_of(path: &Path) -> Stamp {
    Stamp::of(&File::open(path).unwrap()).unwrap()
}

#[test]
fn addresses_survive_the_way_to_bits_and_back() {
    for text in ["0.0.0.0", "10.0.1.5", "255.255.255.255", "::", "2001:db8::1", "ffff::ffff"] {
        assert_eq!(from_bits(to_bits(address(text))), address(text));
        assert_eq!(to_address(to_bytes(address(text))), address(text));
    }
}

#[test]
fn the_next_free_address_is_found_across_leaves_and_families() {
    let taken: Vec<IpAddr> = (0..1000u32)
        .map(|host| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host)))
        .chain([address("2001:db8::1"), address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")])
        .collect();
    let index = Index::build(&[], &taken).unwrap();
    let next = |from: &str, to: &str| index.next_free(address(from), address(to)).unwrap();
    assert_eq!(next("10.0.0.0", "10.0.255.255"), Some(address("10.0.3.232")));
    assert_eq!(next("10.0.0.7", "10.0.3.231"), None);
    assert_eq!(next("10.0.3.240", "10.0.3.240"), Some(address("10.0.3.240")));
    assert_eq!(next("2001:db8::1", "2001:db8::ffff"), Some(address("2001:db8::2")));
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(next(last, last), None, "no overflow at the end");
}

#[test]
fn only_an_index_sealed_for_the_directory_as_it_is_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let network = dir.path().join("net");
    std::fs::create_dir(&network).unwrap();
    let (path, scratch) = (dir.path().join(".net.index"), dir.path().join(".net.new"));
    let directory = File::open(&network).unwrap();
    let open = || Index::open(&path, &stamp_of(&network)).unwrap();
    assert!(open().is_none(), "there is none");

    let index = Index::build(&[(7, address("10.0.0.2"))], &[address("10.0.0.2")]).unwrap();
    let mut index = index.write(&path, &scratch).unwrap();
    assert!(open().is_none(), "it was not sealed");
    assert!(!is_of_this_boot(&path, &stamp_of(&network)));
    index.seal(&Stamp::set(&directory).unwrap()).unwrap();
    assert_eq!(open().unwrap().held_by(7).unwrap(), [address("10.0.0.2")]);
    assert!(is_of_this_boot(&path, &stamp_of(&network)));

    std::fs::write(network.join("10.0.0.3"), "").unwrap();
    assert!(open().is_none(), "the directory has changed");
    assert!(is_of_this_boot(&path, &stamp_of(&network)));
    index.seal(&Stamp::set(&directory).unwrap()).unwrap();
    assert!(open().is_some());
    for (offset, bytes) in [(0, &b"x"[..]), (32, &[0xff; 16])] {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).unwrap();
        assert!(open().is_none(), "garbage at {offset}");
    }
    std::fs::write(&path, "short").unwrap();
    assert!(open().is_none(), "garbage");
}

/// What a plain list of reservations would say.
#[derive(Debug, Default)]
struct Model {
    held: BTreeMap<IpAddr, Key>,
    freed: Vec<IpAddr>,
}

proptest! {
    /// Few keys, so that a holder has several addresses, and addresses near and far.
    #[test]
    fn it_says_what_a_plain_list_says(
        changes in prop::collection::vec((0u64..12, 0u32..40, any::<bool>()), 1..300),
    ) {
        let mut index = Index::build(&[], &[]).unwrap();
        let mut model = Model::default();
        for (key, number, take) in changes {
            if index.is_full() {
                index = index.grown().unwrap();
            }
            let spread = number % 7 * 100 + number / 7;
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + spread));
            match model.held.get(&address).copied() {
                None if take => {
                    index.take(address).unwrap();
                    index.hold(key, address).unwrap();
                    model.held.insert(address, key);
                }
                Some(key) if !take => {
                    index.free(address).unwrap();
                    index.drop_holder(key, address).unwrap();
                    index.note_freed(address, Duration::from_secs(1)).unwrap();
                    model.held.remove(&address);
                    model.freed.push(address);
                }
                _ => {}
            }
        }
        for key in 0..12 {
            let held: BTreeSet<_> = index.held_by(key).unwrap().into_iter().collect();
            let of_key = model.held.iter().filter(|(_, of)| **of == key);
            prop_assert_eq!(held, of_key.map(|(address, _)| *address).collect());
        }
        let (first, last) = (address("10.0.0.0"), address("10.0.255.255"));
        let all = (0x0a00_0000u32..).map(|bits| IpAddr::from(std::net::Ipv4Addr::from_bits(bits)));
        let free = { all }.find(|address| !model.held.contains_key(address));
        prop_assert_eq!(index.next_free(first, last).unwrap(), free);
        prop_assert_eq!(index.freed_after(Duration::ZERO).unwrap(), model.freed);
    }
}
