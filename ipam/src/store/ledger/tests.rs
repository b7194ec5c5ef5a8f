#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::store::Store;

struct Node {
    dir: TempDir,
    store: Store,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "net");
        drop(store.lock().unwrap());
        Self { store, dir }
    }

    fn open(&self) -> Ledger {
        self.store.lock().unwrap().ledger(OfEarlierBoots::Keep).unwrap()
    }

    /// As [`Node::open`], when nobody else has touched the directory.
    fn open_by_index(&self) -> Ledger {
        let ledger = self.open();
        assert!(ledger.scanned.is_none(), "the directory was read");
        ledger
    }

    fn reserve(&self, host: u32, container_id: &str) {
        let mut ledger = self.open();
        assert!(ledger.reserve(address(host), &holder(container_id)).unwrap());
        ledger.close();
    }

    fn path(&self, host: u32) -> PathBuf {
        self.store.directory().join(address(host).to_string())
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join(".net.index")
    }
}

const NONE: [IpAddr; 0] = [];

fn address(host: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + host).into()
}

fn holder(container_id: &str) -> Holder {
    Holder::new(container_id, "eth0")
}

fn next_free(ledger: &mut Ledger) -> IpAddr {
    ledger.next_free(address(2), address(10_000)).unwrap().unwrap()
}

#[test]
fn the_next_call_need_not_read_the_directory() {
    let node = Node::new();
    node.reserve(2, "a");
    node.reserve(3, "b");
    let mut ledger = node.open_by_index();
    assert_eq!(ledger.addresses_of(&holder("b")).unwrap(), [address(3)]);
    assert_eq!(ledger.addresses_of(&holder("c")).unwrap(), NONE);
    assert_eq!(next_free(&mut ledger), address(4));
    assert_eq!(ledger.release(&holder("a")).unwrap(), 1);
    ledger.close();
    assert!(!node.path(2).exists());
    assert_eq!(next_free(&mut node.open_by_index()), address(2));
    // What changes nothing, leaves the index as it was.
    assert_eq!(node.open_by_index().release(&holder("a")).unwrap(), 0);
    drop(node.open_by_index());
}

#[test]
fn whoever_else_changes_the_directory_is_noticed() {
    let node = Node::new();
    node.reserve(2, "a");
    fs::write(node.path(3), holder("b").contents()).unwrap();
    let mut ledger = node.open();
    assert_eq!(ledger.addresses_of(&holder("b")).unwrap(), [address(3)]);
    assert_eq!(next_free(&mut ledger), address(4));
    ledger.close();
    fs::remove_file(node.path(2)).unwrap();
    let mut ledger = node.open();
    assert_eq!(ledger.addresses_of(&holder("a")).unwrap(), NONE);
    assert_eq!(next_free(&mut ledger), address(2));
}

#[test]
fn a_hit_is_verified() {
    let node = Node::new();
    node.reserve(2, "a");
    // In place: the directory does not tell.
    fs::write(node.path(2), holder("b").contents()).unwrap();
    let mut ledger = node.open_by_index();
    assert_eq!(ledger.addresses_of(&holder("a")).unwrap(), NONE);
    assert_eq!(ledger.addresses_of(&holder("b")).unwrap(), [address(2)], "it was read then");
    assert_eq!(ledger.release(&holder("a")).unwrap(), 0);
    assert!(node.path(2).exists());
    drop(ledger);
    let mut ledger = node.open();
    assert_eq!(ledger.addresses_of(&holder("b")).unwrap(), [address(2)], "whoever asks next, too");
}

#[test]
fn a_call_that_ends_early_leaves_no_index_to_believe() {
    let node = Node::new();
    node.reserve(2, "a");
    let mut ledger = node.open_by_index();
    assert!(ledger.reserve(address(3), &holder("b")).unwrap());
    drop(ledger);
    let mut ledger = node.open();
    assert!(ledger.scanned.is_some());
    assert_eq!(ledger.addresses_of(&holder("b")).unwrap(), [address(3)]);
    assert_eq!(next_free(&mut ledger), address(4));
}

#[test]
fn an_index_grows_and_nothing_is_lost() {
    let node = Node::new();
    for host in 2..700 {
        node.reserve(host, &format!("container{host}"));
    }
    let mut ledger = node.open_by_index();
    for host in 2..700 {
        let found = ledger.addresses_of(&holder(&format!("container{host}"))).unwrap();
        assert_eq!(found, [address(host)]);
    }
    assert_eq!(next_free(&mut ledger), address(700));
}

#[test]
fn old_versions_reservations_are_known_too() {
    let node = Node::new();
    fs::write(node.path(2), "old\n").unwrap();
    node.open().close();
    let mut ledger = node.open_by_index();
    assert_eq!(ledger.addresses_of(&holder("old")).unwrap(), [address(2)]);
    assert_eq!(ledger.release(&holder("old")).unwrap(), 1);
    assert!(!node.path(2).exists());
}

#[test]
fn freed_addresses_are_remembered_for_a_time() {
    let node = Node::new();
    for (host, container_id) in [(2, "a"), (3, "b"), (4, "c")] {
        node.reserve(host, container_id);
    }
    for container_id in ["b", "a"] {
        let mut ledger = node.open_by_index();
        ledger.release(&holder(container_id)).unwrap();
        ledger.close();
    }
    let ledger = node.open_by_index();
    assert_eq!(ledger.freed_within(Duration::from_secs(3600)), [address(3), address(2)]);
    assert_eq!(ledger.freed_within(Duration::ZERO), NONE);
}

#[test]
fn a_file_that_no_address_tells_makes_every_call_read_the_directory() {
    let node = Node::new();
    node.reserve(2, "a");
    fs::create_dir(node.store.directory().join("deep")).unwrap();
    node.open().close();
    fs::write(node.store.directory().join("deep/note"), holder("b").contents()).unwrap();
    let mut ledger = node.open();
    assert_eq!(ledger.release(&holder("b")).unwrap(), 1);
}

#[test]
fn an_index_that_cannot_be_is_done_without() {
    let node = Node::new();
    fs::create_dir(node.index()).unwrap();
    for (host, container_id) in [(2, "a"), (3, "b")] {
        node.reserve(host, container_id);
    }
    let mut ledger = node.open();
    assert!(ledger.scanned.is_some());
    assert_eq!(next_free(&mut ledger), address(4));
    assert_eq!(ledger.release(&holder("a")).unwrap(), 1);
    let beside = node.dir.path().read_dir().unwrap().count();
    assert_eq!(beside, 2, "the directory, and what stands in the index's place");
}

#[test]
fn a_cut_off_index_is_done_without() {
    let node = Node::new();
    node.reserve(2, "a");
    let file = fs::OpenOptions::new().write(true).open(node.index()).unwrap();
    file.set_len(600).unwrap();
    let mut ledger = node.open_by_index();
    assert_eq!(next_free(&mut ledger), address(3));
    assert!(ledger.reserve(address(3), &holder("b")).unwrap());
    ledger.close();
    assert_eq!(node.open().addresses_of(&holder("b")).unwrap(), [address(3)]);
}

#[test]
fn retain_keeps_the_index() {
    let node = Node::new();
    for (host, container_id) in [(2, "a"), (3, "b"), (4, "c")] {
        node.reserve(host, container_id);
    }
    let mut ledger = node.open_by_index();
    assert_eq!(ledger.retain(&HashSet::from([holder("b")])).unwrap(), 2);
    ledger.close();
    let mut ledger = node.open_by_index();
    assert_eq!(next_free(&mut ledger), address(2));
    assert_eq!(ledger.addresses_of(&holder("b")).unwrap(), [address(3)]);
    assert_eq!(ledger.addresses_of(&holder("c")).unwrap(), NONE);
}

#[test]
fn what_is_older_than_the_boot_goes_once_if_asked_for() {
    let node = Node::new();
    for (host, container_id) in [(2, "old"), (3, "new")] {
        fs::write(node.path(host), holder(container_id).contents()).unwrap();
    }
    let age = |host| {
        let before = boot::instant().unwrap() - Duration::from_secs(60);
        fs::File::open(node.path(host)).unwrap().set_modified(before).unwrap();
    };
    age(2);
    let open = |earlier| node.store.lock().unwrap().ledger(earlier).unwrap();
    assert_eq!(open(OfEarlierBoots::Keep).addresses_of(&holder("old")).unwrap(), [address(2)]);
    let mut ledger = open(OfEarlierBoots::Reclaim);
    assert_eq!(ledger.addresses_of(&holder("old")).unwrap(), NONE);
    assert_eq!(ledger.addresses_of(&holder("new")).unwrap(), [address(3)]);
    ledger.close();
    assert!(!node.path(2).exists());
    // Once in a boot: the clock may be set later, and what is new look old.
    age(3);
    fs::write(node.path(4), holder("newer").contents()).unwrap();
    open(OfEarlierBoots::Reclaim).close();
    assert!(node.path(3).exists());
    assert!(node.path(3).metadata().unwrap().modified().unwrap() < SystemTime::now());
}
