//! `host-local` for people: the built binary with arguments, on data directories of its own.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A node: a data directory, and a folder of configurations.
struct Node {
    dir: TempDir,
}

/// What a call left: exit code, standard output and standard error.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("stdout is JSON")
    }
}

impl Node {
    fn new() -> Self {
        Self { dir: TempDir::new().expect("a directory") }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("networks")
    }

    /// Puts a file into a network's directory, as of 2024, with a lock beside it.
    fn write(&self, network: &str, name: &str, content: &str) {
        let directory = self.data_dir().join(network);
        fs::create_dir_all(&directory).expect("the directory can be made");
        File::create(directory.join("lock")).expect("the lock can be made");
        fs::write(directory.join(name), content).expect("the file can be written");
        let written = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        let file = File::options().write(true).open(directory.join(name)).expect("it opens");
        file.set_modified(written).expect("the time can be set");
    }

    fn configure(&self, file: &str, content: &Value) {
        self.configure_text(file, &content.to_string());
    }

    fn configure_text(&self, file: &str, content: &str) {
        let folder = self.dir.path().join("net.d");
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join(file), content).expect("the file can be written");
    }

    /// A list with one network of `host-local` on this node's data directory.
    fn network(&self, name: &str, keys: Value) -> Value {
        let mut ipam = keys;
        ipam["type"] = json!("host-local");
        ipam["dataDir"] = json!(self.data_dir());
        json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "portmap"},
            {"type": "bridge", "ipam": ipam}]})
    }

    /// Calls the binary; `DATA` and `CONF` in the line are this node's places.
    fn call(&self, line: &str) -> Answer {
        let place = |word: &str| match word {
            "DATA" => self.data_dir(),
            "CONF" => self.dir.path().join("net.d"),
            word => word.into(),
        };
        run(Command::new(binary()).env_clear().args(line.split_whitespace().map(place)))
    }

    /// Every file of the data directory.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        let mut folders = vec![self.data_dir()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("the directory is readable") {
                let path = entry.expect("the directory is readable").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path);
                }
            }
        }
        files
    }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_host-local"))
}

fn run(command: &mut Command) -> Answer {
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    Answer { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Two networks: one with every kind of file.
fn populated() -> Node {
    let node = Node::new();
    for (network, name, content) in [
        ("cbr0", "10.0.1.10", "c10\r\neth0"),
        ("cbr0", "10.0.1.9", "c9\r\nnet1"),
        ("cbr0", "10.0.1.11", "old"),
        ("cbr0", "10.0.1.12", ""),
        ("cbr0", "10.0.1.13", "two words"),
        ("cbr0", "2001:db8::5", "c9\r\nnet1"),
        ("cbr0", "last_reserved_ip.0", "10.0.1.10"),
        ("other", "10.0.1.9", "c1\r\neth0"),
    ] {
        node.write(network, name, content);
    }
    node
}

#[test]
fn ls_lists_every_network_in_order() {
    let node = populated();
    let before = node.files();
    let listed = node.call("ls --data-dir DATA");
    let expected = "\
NETWORK  ADDRESS      CONTAINER  INTERFACE  SINCE                 NOTE
cbr0     10.0.1.9     c9         net1       2024-02-29T12:34:56Z  -
cbr0     10.0.1.10    c10        eth0       2024-02-29T12:34:56Z  -
cbr0     10.0.1.11    old        -          2024-02-29T12:34:56Z  legacy: no interface noted
cbr0     10.0.1.12    -          -          2024-02-29T12:34:56Z  empty: counts as free
cbr0     10.0.1.13    -          -          2024-02-29T12:34:56Z  foreign: no reservation, but in the way
cbr0     2001:db8::5  c9         net1       2024-02-29T12:34:56Z  -
other    10.0.1.9     c1         eth0       2024-02-29T12:34:56Z  -
";
    assert_eq!((listed.code, &*listed.stderr, &*listed.stdout), (Some(0), "", expected));
    assert_eq!(node.files(), before);
}

#[test]
fn ls_of_one_network_as_json() {
    let node = populated();
    let listed = node.call("ls --json --network other --data-dir DATA");
    let since = "2024-02-29T12:34:56Z";
    let expected = json!([{"network": "other", "address": "10.0.1.9", "containerID": "c1",
        "ifname": "eth0", "since": since, "state": "held"}]);
    assert_eq!((listed.code, listed.json()), (Some(0), expected), "{listed:?}");
    let all = node.call("ls --json --data-dir DATA").json();
    let legacy = json!({"network": "cbr0", "address": "10.0.1.11", "containerID": "old",
        "since": since, "state": "legacy"});
    assert_eq!(all[2], legacy);
    assert_eq!(all[3]["state"], json!("empty"));
    assert_eq!(all[4]["state"], json!("foreign"));
}

/// Looking makes nothing, least of all in folders that are not the plugin's.
#[test]
fn ls_touches_no_folder_that_is_not_a_networks() {
    let node = populated();
    let foreign = node.data_dir().join("foreign");
    fs::create_dir(&foreign).expect("a folder");
    fs::write(foreign.join("10.0.1.9"), "x\r\neth0").expect("a file");
    let before = node.files();
    for line in [
        "ls --data-dir DATA",
        "ls --data-dir DATA --network foreign",
        "free 10.0.1.99 --data-dir DATA --network foreign",
    ] {
        let answer = node.call(line);
        assert!(!answer.stdout.contains("foreign  "), "{line}: {answer:?}");
        assert_eq!(node.files(), before, "{line}");
    }
}

#[test]
fn a_node_without_reservations_is_told_so() {
    let node = Node::new();
    let listed = node.call("ls --json --data-dir DATA");
    assert_eq!((listed.code, listed.json()), (Some(0), json!([])));
    assert!(listed.stderr.contains("has no reservations"), "{listed:?}");
    assert!(!node.data_dir().exists());
}

#[test]
fn stats_count_each_range_set() {
    let node = populated();
    node.write("cbr0", "10.0.2.4", "since\r\nearlier");
    let ranges = json!({"ranges": [
        [{"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.1", "rangeEnd": "10.0.1.20"},
         {"subnet": "10.0.2.0/29", "exclude": ["10.0.2.4/31"]}],
        [{"subnet": "2001:db8::/64"}],
    ]});
    node.configure("10-cbr0.conflist", &node.network("cbr0", ranges));
    let single = json!({"name": "single", "type": "bridge", "ipam": {"type": "host-local",
        "dataDir": node.data_dir(), "subnet": "10.7.0.0/24"}});
    node.configure("20-single.conf", &single);
    node.configure("30-static.conf", &json!({"name": "x", "ipam": {"type": "static"}}));
    node.configure_text("notes.txt", "not JSON");
    let before = node.files();

    let told = node.call("stats --conf-dir CONF");
    let expected = "\
NETWORK  SET  RANGE                                        TOTAL                 USED  FREE                  LAST
cbr0     0    10.0.1.1-10.0.1.20,10.0.2.1-10.0.2.6         22                    4     18                    10.0.1.10
cbr0     1    2001:db8::1-2001:db8::ffff:ffff:ffff:ffff    18446744073709551614  1     18446744073709551613  -
single   0    10.7.0.1-10.7.0.254                          253                   0     253                   -
";
    let words = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
    };
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    assert_eq!(words(&told.stdout), words(expected), "{}", told.stdout);

    let told = node.call("stats --json --conf-dir CONF").json();
    assert_eq!(told[0]["lastReserved"], json!("10.0.1.10"));
    assert_eq!(told[1]["total"], json!(18_446_744_073_709_551_614_u64));
    assert_eq!(told[2]["file"], json!(node.dir.path().join("net.d/20-single.conf")));
    assert_eq!(node.files(), before, "no folder is made for a network that was never used");
}

#[test]
fn stats_skip_what_cannot_be_read_and_say_so() {
    let node = populated();
    node.configure_text("10-broken.conflist", "{");
    node.configure("20-bad.conflist", &node.network("bad", json!({"subnet": "10.0.0.1/24"})));
    let none = node.call("stats --conf-dir CONF");
    assert_eq!(none.code, Some(1), "{none:?}");
    node.configure("30-cbr0.conflist", &node.network("cbr0", json!({"subnet": "10.0.1.0/24"})));
    let told = node.call("stats --json --conf-dir CONF");
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(told.json().as_array().map(Vec::len), Some(1), "{told:?}");
    let problems: Vec<&str> = told.stderr.lines().collect();
    assert!(problems[0].contains("10-broken.conflist is no JSON object"), "{told:?}");
    assert!(
        problems[1].contains("Network has host bits set") && problems[1].contains("10.0.0.0/24")
    );
    assert_eq!(problems.len(), 2, "{told:?}");

    let missing = node.call("stats --conf-dir /nonexistent");
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("/nonexistent") && missing.stderr.contains("--conf-dir"));
}

#[test]
fn stats_mention_ranges_that_only_the_runtime_knows() {
    let node = populated();
    let mut list = node.network("cbr0", json!({}));
    list["plugins"][1]["capabilities"] = json!({"ipRanges": true});
    node.configure("10-cbr0.conflist", &list);
    let told = node.call("stats --json --conf-dir CONF");
    assert_eq!((told.code, told.json()), (Some(0), json!([])), "{told:?}");
    assert!(told.stderr.contains("network cbr0") && told.stderr.contains("ipRanges"), "{told:?}");
}

#[test]
fn free_removes_what_it_names_and_nothing_else() {
    let node = populated();
    let before = node.files();
    let dry = node.call("free 10.0.1.10 2001:db8::5 --dry-run --data-dir DATA");
    let line = "would free 10.0.1.10 in network cbr0: it is of container c10, interface eth0\n";
    assert!(dry.code == Some(0) && dry.stdout.starts_with(line), "{dry:?}");
    assert_eq!(node.files(), before);

    let freed = node.call("free 10.0.1.10 2001:0db8::5 10.0.1.10 --data-dir DATA");
    let expected = "freed 10.0.1.10 in network cbr0: it was of container c10, interface eth0\n\
                    freed 2001:db8::5 in network cbr0: it was of container c9, interface net1\n";
    assert_eq!((freed.code, &*freed.stderr, &*freed.stdout), (Some(0), "", expected));
    let gone: Vec<PathBuf> = before.difference(&node.files()).cloned().collect();
    let directory = node.data_dir().join("cbr0");
    assert_eq!(gone, [directory.join("10.0.1.10"), directory.join("2001:db8::5")]);

    let again = node.call("free 10.0.1.10 10.0.1.11 --json --data-dir DATA");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("10.0.1.10 is not reserved in"), "{again:?}");
    assert_eq!(again.json()[0]["containerID"], json!("old"));
    assert_eq!(again.json()[0]["freed"], json!(true));
}

#[test]
fn free_refuses_to_guess_and_then_frees_nothing() {
    let node = populated();
    let before = node.files();
    let ambiguous = node.call("free 10.0.1.10 10.0.1.9 --data-dir DATA");
    assert_eq!(ambiguous.code, Some(1), "{ambiguous:?}");
    for words in ["10.0.1.9", "cbr0, other", "--network"] {
        assert!(ambiguous.stderr.contains(words), "{ambiguous:?}");
    }
    let foreign = node.call("free 10.0.1.10 10.0.1.13 --data-dir DATA");
    assert!(foreign.code == Some(1) && foreign.stderr.contains("cbr0/10.0.1.13"), "{foreign:?}");
    assert_eq!(node.files(), before);
    let freed = node.call("free 10.0.1.9 --network other --data-dir DATA");
    assert!(freed.code == Some(0) && freed.stdout.contains("container c1"), "{freed:?}");
    assert_eq!(before.difference(&node.files()).count(), 1);
}

#[test]
fn no_name_leads_out_of_the_data_directory() {
    let node = populated();
    let outside = node.dir.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    for name in ["lock", "10.0.1.5"] {
        fs::write(outside.join(name), "c\r\neth0").expect("a file");
    }
    for name in ["../outside", "..", ".", "/etc", "a/b", ".hidden"] {
        let answer = node.call(&format!("free 10.0.1.5 --data-dir DATA --network {name}"));
        assert_eq!((answer.code, &*answer.stdout), (Some(2), ""), "{answer:?}");
        assert!(answer.stderr.contains(name) && answer.stderr.lines().count() == 1, "{answer:?}");
    }
    assert!(outside.join("10.0.1.5").exists());
}

/// `free` waits for the plugin: nothing is freed while another holds the lock.
#[test]
fn free_takes_the_lock() {
    let node = populated();
    let directory = node.data_dir().join("cbr0");
    let lock = File::open(directory.join("lock")).expect("the lock");
    lock.lock().expect("the lock is free");
    let mut child = Command::new(binary())
        .args(["free", "10.0.1.10", "--data-dir"])
        .arg(node.data_dir())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    wait_until_blocked(child.id());
    assert!(directory.join("10.0.1.10").exists());
    lock.unlock().expect("the lock can be left");
    assert!(child.wait().expect("it ends").success());
    assert!(!directory.join("10.0.1.10").exists());
}

/// Until the kernel lists the process as waiting for a lock.
fn wait_until_blocked(pid: u32) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let waits = |locks: &str| {
        locks.lines().any(|line| line.contains("->") && line.contains(&format!(" {pid} ")))
    };
    while !waits(&fs::read_to_string("/proc/locks").expect("/proc/locks")) {
        assert!(std::time::Instant::now() < deadline, "it never waited for the lock");
        std::thread::yield_now();
    }
}

#[test]
fn help_and_version_are_no_errors_and_misuse_is() {
    let node = Node::new();
    let help = node.call("--help");
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    for command in ["host-local ls", "host-local stats", "host-local free"] {
        assert!(help.stdout.contains(command), "{help:?}");
    }
    let version = node.call("--version");
    assert_eq!((version.code, &*version.stdout), (Some(0), ""));
    assert!(version.stderr.contains("CNI plugin host-local version"), "{version:?}");
    for line in ["list", "ls more", "free", "free x", "ls --conf y"] {
        let misuse = node.call(line);
        assert_eq!((misuse.code, &*misuse.stdout), (Some(2), ""), "{misuse:?}");
        assert_eq!(misuse.stderr.lines().count(), 1, "{misuse:?}");
        assert!(misuse.stderr.contains("--help"), "{misuse:?}");
    }
}
