#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;

fn fixture() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(&dir.path().join("networks"), "mynet");
    (dir, store)
}

/// The reservations under the lock, as the next call finds them.
fn ledger(store: &Store) -> Ledger {
    store.lock().unwrap().ledger(OfEarlierBoots::Keep).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every file of the network's directory with its mode and content, by relative path.
fn files(store: &Store) -> BTreeMap<String, (u32, String)> {
    fn walk(root: &Path, at: &Path, files: &mut BTreeMap<String, (u32, String)>) {
        for entry in at.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
                continue;
            }
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let name = path.strip_prefix(root).unwrap().display().to_string();
            files.insert(name, (mode, std::fs::read_to_string(&path).unwrap()));
        }
    }
    let mut found = BTreeMap::new();
    walk(&store.data_dir, &store.directory(), &mut found);
    found
}

/// The names in the network's directory.
fn names(store: &Store) -> Vec<String> {
    let files = files(store).into_keys();
    files.filter_map(|name| name.strip_prefix("mynet/").map(str::to_owned)).collect()
}

#[test]
fn the_format_is_that_of_the_reference() {
    let (_dir, store) = fixture();
    let mut ledger = ledger(&store);
    let holder = Holder::new("dummy", "eth0");
    assert!(ledger.reserve(address("10.1.2.2"), &holder).unwrap());
    ledger.set_last_reserved(0, address("10.1.2.2")).unwrap();
    assert!(ledger.reserve(address("2001:DB8:1:0:0::2"), &holder).unwrap());
    ledger.set_last_reserved(1, address("2001:DB8:1:0:0::2")).unwrap();

    let file = |name: &str, mode, content: &str| (format!("mynet/{name}"), (mode, content.into()));
    let expected: BTreeMap<String, (u32, String)> = [
        file("lock", 0o750, ""),
        file("10.1.2.2", 0o600, "dummy\r\neth0"),
        file("2001:db8:1::2", 0o600, "dummy\r\neth0"),
        file("last_reserved_ip.0", 0o600, "10.1.2.2"),
        file("last_reserved_ip.1", 0o600, "2001:db8:1::2"),
    ]
    .into();
    assert_eq!(files(&store), expected);
    let mode = store.directory().metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
    assert_eq!(ledger.last_reserved(0), Some(address("10.1.2.2")));
    assert_eq!(ledger.last_reserved(1), Some(address("2001:db8:1::2")));
    assert_eq!(ledger.last_reserved(2), None);
}

#[test]
fn an_address_is_given_once() {
    let (_dir, store) = fixture();
    let mut ledger = ledger(&store);
    assert!(ledger.reserve(address("10.1.2.2"), &Holder::new("a", "eth0")).unwrap());
    assert!(!ledger.reserve(address("10.1.2.2"), &Holder::new("b", "eth0")).unwrap());
    assert_eq!(files(&store)["mynet/10.1.2.2"].1, "a\r\neth0");
}

#[test]
fn an_empty_reservation_is_free_and_replaced() {
    let (_dir, store) = fixture();
    drop(store.lock().unwrap());
    std::fs::write(store.directory().join("10.1.2.2"), "").unwrap();
    let (mut ledger, only) = (ledger(&store), address("10.1.2.2"));
    assert_eq!(ledger.next_free(only, only).unwrap(), Some(only));
    assert!(ledger.reserve(only, &Holder::new("a", "eth0")).unwrap());
    assert_eq!(files(&store)["mynet/10.1.2.2"], (0o600, "a\r\neth0".into()));
    assert_eq!(ledger.next_free(only, only).unwrap(), None);
}

#[test]
fn what_is_no_regular_file_is_taken_and_stays() {
    let (_dir, store) = fixture();
    drop(store.lock().unwrap());
    let at = |name: &str| store.directory().join(name);
    std::fs::create_dir(at("10.1.2.2")).unwrap();
    std::os::unix::fs::symlink("/nowhere", at("10.1.2.3")).unwrap();
    nix::unistd::mkfifo(&at("10.1.2.4"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(at("10.1.2.5"), [0xff, 0xfe]).unwrap();
    std::fs::write(at("10.1.2.6"), "x".repeat(1 << 18)).unwrap();

    let holder = Holder::new("a", "eth0");
    let mut ledger = ledger(&store);
    for host in 2..=6 {
        let address = address(&format!("10.1.2.{host}"));
        assert_eq!(ledger.next_free(address, address).unwrap(), None, "{address}");
        assert!(!ledger.reserve(address, &holder).unwrap(), "{address}");
    }
    assert_eq!(ledger.release(&holder).unwrap(), 0);
    assert_eq!(ledger.retain(&HashSet::new()).unwrap(), 0);
    assert_eq!(store.directory().read_dir().unwrap().count(), 6);
}

#[test]
fn release_takes_the_holders_files_and_no_other() {
    let (_dir, store) = fixture();
    drop(store.lock().unwrap());
    let at = |name: &str| store.directory().join(name);
    std::fs::create_dir(at("deep")).unwrap();
    for (name, content) in [
        ("10.1.2.2", "a\r\neth0"),
        ("2001:db8::2", " a\r\neth0\n"),
        ("deep/10.1.2.9", "a\r\neth0"),
        ("10.1.2.3", "a\r\neth1"),
        ("10.1.2.4", "ab\r\neth0"),
        ("10.1.2.5", "a"),
        ("last_reserved_ip.0", "a"),
    ] {
        std::fs::write(at(name), content).unwrap();
    }
    let holder = Holder::new("a", "eth0");
    let mut addresses = ledger(&store).addresses_of(&holder).unwrap();
    addresses.sort();
    let expected = ["10.1.2.2", "10.1.2.5", "10.1.2.9", "2001:db8::2"].map(address);
    assert_eq!(addresses, expected, "the old form counts too: it may be the holder's");

    assert_eq!(ledger(&store).release(&holder).unwrap(), 3);
    let left = ["10.1.2.3", "10.1.2.4", "10.1.2.5", "last_reserved_ip.0", "lock"];
    assert_eq!(names(&store), left);

    // Only now that nothing has the full form, the old one is the holder's.
    assert_eq!(ledger(&store).release(&holder).unwrap(), 1);
    assert!(!at("10.1.2.5").exists());
    assert!(at("last_reserved_ip.0").exists(), "a container called like its content");
    assert_eq!(ledger(&store).release(&holder).unwrap(), 0);
}

#[test]
fn retain_removes_what_no_valid_attachment_owns() {
    let (_dir, store) = fixture();
    let scratch = store.lock().unwrap().scratch.clone();
    let foreign = ("notes", "gone\r\neth0");
    for (name, content) in [
        ("10.1.2.2", "living\r\neth0"),
        ("10.1.2.3", "living\r\neth1"),
        ("10.1.2.4", "gone\r\neth0"),
        ("10.1.2.5", "living"),
        ("10.1.2.6", "gone"),
        ("10.1.2.7", ""),
        ("10.1.2.8", "some text of somebody"),
        foreign,
    ] {
        std::fs::write(store.directory().join(name), content).unwrap();
    }
    std::fs::write(&scratch, "half").unwrap();

    let valid = HashSet::from([Holder::new("living", "eth0")]);
    assert_eq!(ledger(&store).retain(&valid).unwrap(), 4);
    let left = ["10.1.2.2", "10.1.2.5", "10.1.2.8", "lock", "notes"];
    assert_eq!(names(&store), left);
}

#[test]
fn del_removes_the_scratch_of_a_killed_process() {
    let (_dir, store) = fixture();
    let scratch = store.lock().unwrap().scratch.clone();
    std::fs::write(&scratch, "half").unwrap();
    assert_eq!(ledger(&store).release(&Holder::new("anybody", "eth0")).unwrap(), 0);
    assert!(!scratch.exists());
}

#[test]
fn a_network_without_directory_is_not_given_one() {
    let (dir, store) = fixture();
    assert!(store.lock_existing().unwrap().is_none());
    store.probe().unwrap();
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    drop(store.lock().unwrap());
    assert!(store.lock_existing().unwrap().is_some());
}

#[test]
fn errors_name_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let store = Store::new(&file, "mynet");
    let path = file.join("mynet");
    for error in [store.lock().unwrap_err(), store.lock_existing().unwrap_err()] {
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert!(store.probe().unwrap_err().to_string().contains(file.to_str().unwrap()));
}

#[test]
fn a_last_address_that_is_none_is_none() {
    let (_dir, store) = fixture();
    let locked = store.lock().unwrap();
    for content in [&b""[..], b"10.1.2", b"\xff"] {
        std::fs::write(store.directory().join("last_reserved_ip.0"), content).unwrap();
        assert_eq!(locked.last_reserved(0), None, "{content:?}");
    }
    // What is left by one who was killed between writing a shorter address and cutting the file.
    std::fs::write(store.directory().join("last_reserved_ip.0"), "10.1.2.3\n\n").unwrap();
    assert_eq!(locked.last_reserved(0), Some(address("10.1.2.3")));
}

/// Eight threads and the lock: whoever holds it is alone, and nobody ever sees an empty file.
#[test]
fn the_lock_excludes_and_files_are_whole() {
    let (_dir, store) = fixture();
    drop(store.lock().unwrap());
    let inside = Mutex::new(());
    std::thread::scope(|scope| {
        let writers = [0u8, 1, 2, 3, 4, 5, 6, 7].map(|thread| {
            let (store, inside) = (&store, &inside);
            scope.spawn(move || {
                let holder = Holder::new(&format!("container{thread}"), "eth0");
                for round in 0..50u8 {
                    let mut ledger = ledger(store);
                    let alone = inside.try_lock().expect("two holders of the lock");
                    let address = IpAddr::from([10, 0, thread, round]);
                    assert!(ledger.reserve(address, &holder).unwrap());
                    ledger.set_last_reserved(0, address).unwrap();
                    drop(alone);
                    ledger.close();
                }
            })
        });
        // A reader that does not take the lock, as a script or a metrics agent would be.
        while writers.iter().any(|writer| !writer.is_finished()) {
            for entry in store.directory().read_dir().unwrap() {
                let path = entry.unwrap().path();
                let is_lock = path.ends_with(LOCK);
                assert!(is_lock || !std::fs::read(&path).unwrap().is_empty(), "{path:?}");
            }
        }
    });
    assert_eq!(store.lock().unwrap().scan().unwrap().reservations().count(), 8 * 50);
}

/// The network's directory may be a link to another filesystem (a tmpfs, say, so that a reboot
/// clears it).
#[test]
fn the_directory_may_lie_on_another_filesystem() {
    use std::os::unix::fs::MetadataExt;
    let (dir, store) = fixture();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        return eprintln!("SKIP the_directory_may_lie_on_another_filesystem: no /dev/shm");
    };
    if elsewhere.path().metadata().unwrap().dev() == dir.path().metadata().unwrap().dev() {
        return eprintln!("SKIP the_directory_may_lie_on_another_filesystem: one filesystem");
    }
    std::fs::create_dir(&store.data_dir).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), store.directory()).unwrap();
    let mut ledger = ledger(&store);
    assert!(ledger.reserve(address("10.1.2.2"), &Holder::new("a", "eth0")).unwrap());
    for last in ["10.1.2.200", "10.1.2.2"] {
        ledger.set_last_reserved(0, address(last)).unwrap();
        assert_eq!(ledger.last_reserved(0), Some(address(last)));
    }
    drop(ledger);
    assert!(!store.lock().unwrap().scratch.exists());
}
