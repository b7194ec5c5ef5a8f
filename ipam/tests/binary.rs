//! The built binary as a runtime calls it: environment, stdin, stdout, exit code, files.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// Calls the binary as a runtime does.
fn call(verb: &str, container_id: &str, ifname: &str, conf: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_host-local"))
        .env_clear()
        .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", container_id), ("CNI_IFNAME", ifname)])
        .envs([("CNI_NETNS", "/no/netns"), ("CNI_PATH", "/no/folder"), ("CNI_ARGS", "")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(conf.as_bytes())
        .expect("the binary reads its configuration");
    child.wait_with_output().expect("the binary ends")
}

fn conf(version: &str, data_dir: &Path, ipam: &str) -> String {
    format!(
        r#"{{"cniVersion": "{version}", "name": "mynet", "type": "bridge",
            "ipam": {{"type": "host-local", "dataDir": "{}", {ipam}}}}}"#,
        data_dir.display()
    )
}

/// Names and contents of the network's directory.
fn files(data_dir: &Path) -> BTreeMap<String, String> {
    let files = data_dir.join("mynet").read_dir().expect("the directory is there");
    files
        .map(|entry| {
            let entry = entry.expect("the directory is readable");
            let content = std::fs::read_to_string(entry.path()).expect("the file is readable");
            (entry.file_name().to_string_lossy().into_owned(), content)
        })
        .collect()
}

fn map<'a>(files: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> BTreeMap<String, String> {
    files.into_iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

/// How many files name this container, in a directory that others change meanwhile.
fn files_of(data_dir: &Path, container_id: &str) -> usize {
    let files = data_dir.join("mynet").read_dir().expect("the directory is there");
    files
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter(|content| *content == format!("{container_id}\r\neth0"))
        .count()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("stdout is text")
}

const DUAL: &str = r#""ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "1.1.1.1"}]"#;

#[test]
fn add_and_del_in_every_version() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let dir = TempDir::new().expect("a directory");
        let conf = conf(version, dir.path(), DUAL);
        let added = call("ADD", "dummy", "eth0", &conf);
        assert!(added.status.success(), "{version}: {added:?}");
        assert!(stdout(&added).contains(&format!("\"cniVersion\": \"{version}\"")), "{added:?}");
        for part in ["10.1.2.2/24", "2001:db8:1::2/64", "192.168.0.0/16", "1.1.1.1"] {
            assert!(stdout(&added).contains(part), "{version}: {added:?}");
        }
        let rest = [
            ("last_reserved_ip.0", "10.1.2.2"),
            ("last_reserved_ip.1", "2001:db8:1::2"),
            ("lock", ""),
        ];
        let reserved = [("10.1.2.2", "dummy\r\neth0"), ("2001:db8:1::2", "dummy\r\neth0")];
        assert_eq!(files(dir.path()), map(reserved.iter().chain(&rest)), "{version}");

        for _twice in 0..2 {
            let deleted = call("DEL", "dummy", "eth0", &conf);
            assert!(deleted.status.success() && deleted.stdout.is_empty(), "{deleted:?}");
            assert_eq!(files(dir.path()), map(&rest), "{version}");
        }
    }
}

#[test]
fn interfaces_of_a_container_are_independent() {
    let dir = TempDir::new().expect("a directory");
    let conf = conf("1.0.0", dir.path(), r#""subnet": "10.1.2.0/24""#);
    assert!(call("ADD", "dummy", "eth0", &conf).status.success());
    assert!(call("ADD", "dummy", "eth1", &conf).status.success());
    assert!(call("DEL", "dummy", "eth0", &conf).status.success());
    let files = files(dir.path());
    assert_eq!(files.get("10.1.2.2"), None);
    assert_eq!(files["10.1.2.3"], "dummy\r\neth1");
}

#[test]
fn an_error_has_code_text_and_remedy() {
    let dir = TempDir::new().expect("a directory");
    let conf = conf("1.1.0", dir.path(), r#""subnet": "10.1.2.0/30""#);
    assert!(call("ADD", "first", "eth0", &conf).status.success());
    let full = call("ADD", "second", "eth0", &conf);
    assert_eq!(full.status.code(), Some(1));
    for part in [
        "\"cniVersion\": \"1.1.0\"",
        "\"code\": 11",
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.2",
        "\"details\": \"wait until",
    ] {
        assert!(stdout(&full).contains(part), "{part} is not in {}", stdout(&full));
    }
}

#[test]
fn the_binary_is_known_as_ours() {
    let binary = Path::new(env!("CARGO_BIN_EXE_host-local"));
    assert!(kernel::elf_note::is_ours(binary).expect("the binary is readable"));
}

/// Processes that all want an address at once: each address is given once, every one of them is
/// given, and whoever comes after that is told so.
#[test]
fn a_range_is_handed_out_exactly_once() {
    const THREADS: usize = 8;
    /// A /26 without network, broadcast and gateway.
    const ADDRESSES: usize = 61;
    let dir = TempDir::new().expect("a directory");
    let conf = conf("1.0.0", dir.path(), r#""subnet": "10.1.2.0/26""#);
    let next = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= ADDRESSES + THREADS {
                        break;
                    }
                    let added = call("ADD", &format!("container{number}"), "eth0", &conf);
                    if !added.status.success() {
                        assert!(stdout(&added).contains("no IP addresses available in range set"));
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(refused.into_inner(), THREADS, "refused exactly when the range is exhausted");
    let files = files(dir.path());
    let reserved = files.iter().filter(|(name, _)| name.parse::<IpAddr>().is_ok());
    let holders: BTreeSet<&String> = reserved.map(|(_, holder)| holder).collect();
    assert_eq!(holders.len(), ADDRESSES);
}

/// DELs and ADDs of many processes at once, over a range with less room than there are processes:
/// an ADD that says yes has its reservation until its own DEL, and in the end nothing is left.
#[test]
fn coming_and_going_leaves_nothing() {
    let dir = TempDir::new().expect("a directory");
    let conf = conf("1.0.0", dir.path(), r#""subnet": "10.1.2.0/29""#);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (conf, dir) = (&conf, dir.path());
            scope.spawn(move || {
                for round in 0..12 {
                    let container = format!("container{thread}-{round}");
                    let added = call("ADD", &container, "eth0", conf);
                    let held = files_of(dir, &container);
                    assert_eq!(held, usize::from(added.status.success()), "{added:?}");
                    assert!(call("DEL", &container, "eth0", conf).status.success());
                    assert_eq!(files_of(dir, &container), 0);
                }
            });
        }
    });
    let left: Vec<String> = files(dir.path()).into_keys().collect();
    assert_eq!(left, ["last_reserved_ip.0", "lock"]);
}
