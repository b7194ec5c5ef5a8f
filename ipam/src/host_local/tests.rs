#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::{IpConfig, Route};
use tempfile::TempDir;

use super::*;

/// A node with an empty data directory.
struct Node {
    dir: TempDir,
    version: &'static str,
}

impl Node {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), version: "1.1.0" }
    }

    /// `keys` go into `ipam`, `more` beside it.
    fn conf(&self, keys: &str, more: &str) -> NetConf {
        let comma = if more.is_empty() { "" } else { "," };
        let text = format!(
            r#"{{"cniVersion": "{}", "name": "mynet", "type": "bridge",
                "ipam": {{"type": "host-local", "dataDir": "{}", {keys}}}{comma} {more}}}"#,
            self.version,
            self.dir.path().display(),
        );
        NetConf::parse(text.as_bytes()).unwrap()
    }

    fn call(&self, container_id: &str, keys: &str, more: &str) -> Call {
        Call {
            env: Env::default(),
            conf: self.conf(keys, more),
            attachment: Attachment::new("mynet", container_id, "eth0").unwrap(),
        }
    }

    /// The addresses given, or the error.
    fn add(&self, container_id: &str, keys: &str, more: &str) -> Result<Vec<String>, CniError> {
        let result = HostLocal.add(&self.call(container_id, keys, more), Path::new("/x"))?;
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn upkeep(&self, keys: &str, more: &str) -> Upkeep {
        Upkeep { env: Env::default(), conf: self.conf(keys, more) }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.dir.path().join("mynet")).unwrap();
        std::fs::write(self.dir.path().join("mynet").join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("mynet").join(name)).unwrap()
    }

    /// The names of the reservations.
    fn reserved(&self) -> BTreeSet<String> {
        let files = self.dir.path().join("mynet").read_dir().unwrap();
        files
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }
}

const ONE: &str = r#""subnet": "10.1.2.0/24""#;
const DUAL: &str = r#""ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.2.2.0/24"}],
                                 [{"subnet": "2001:db8:1::/64"}]]"#;
/// Two sets, and no address left in the second one once it has been given.
const SECOND_SET_OF_ONE: &str =
    r#""ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.9.0.0/30"}]]"#;

fn outcome(result: Result<Vec<String>, CniError>) -> (Code, String) {
    let error = result.unwrap_err();
    assert!(!error.details.is_empty(), "no remedy: {error}");
    (error.code, error.msg)
}

#[test]
fn add_gives_one_address_of_each_set() {
    let node = Node::new();
    let resolv_conf = node.dir.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 192.0.2.3\n").unwrap();
    let keys = format!(
        r#"{DUAL}, "routes": [{{"dst": "0.0.0.0/0"}}], "resolvConf": "{}""#,
        resolv_conf.display()
    );
    let result = HostLocal.add(&node.call("dummy", &keys, ""), Path::new("/x")).unwrap();
    let ip = |address: &str, gateway: &str| IpConfig {
        interface: None,
        address: address.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
    };
    let expected = CniResult {
        interfaces: vec![],
        ips: vec![ip("10.1.2.2/24", "10.1.2.1"), ip("2001:db8:1::2/64", "2001:db8:1::1")],
        routes: vec![Route::new("0.0.0.0/0".parse().unwrap(), None)],
        dns: Dns { nameservers: vec!["192.0.2.3".into()], ..Dns::default() },
    };
    assert_eq!(result, expected);
    assert_eq!(node.read("10.1.2.2"), "dummy\r\neth0");
    assert_eq!(node.read("2001:db8:1::2"), "dummy\r\neth0");
    assert_eq!(node.read("last_reserved_ip.0"), "10.1.2.2");
    assert_eq!(node.read("last_reserved_ip.1"), "2001:db8:1::2");
}

#[test]
fn an_address_given_back_rests_for_a_round() {
    let node = Node::new();
    let small = r#""subnet": "10.1.2.0/29""#;
    for expected in ["10.1.2.2/29", "10.1.2.3/29", "10.1.2.4/29", "10.1.2.5/29", "10.1.2.6/29"] {
        assert_eq!(node.add("a", small, "").unwrap(), [expected]);
        HostLocal.del(&node.call("a", small, ""), None).unwrap();
    }
    assert_eq!(node.add("a", small, "").unwrap(), ["10.1.2.2/29"]);
}

#[test]
fn a_full_range_says_so_and_keeps_nothing() {
    let node = Node::new();
    assert_eq!(node.add("a", SECOND_SET_OF_ONE, "").unwrap(), ["10.1.2.2/24", "10.9.0.2/30"]);
    assert_eq!(
        outcome(node.add("b", SECOND_SET_OF_ONE, "")),
        (
            Code::TryAgainLater,
            "failed to allocate for range 1: no IP addresses available in range set: \
             10.9.0.1-10.9.0.2"
                .into()
        )
    );
    assert_eq!(node.reserved(), BTreeSet::from(["10.1.2.2".into(), "10.9.0.2".into()]));
}

#[test]
fn a_write_that_fails_takes_back_what_was_reserved() {
    let node = Node::new();
    // A directory in the place of the file to write.
    std::fs::create_dir_all(node.dir.path().join("mynet/last_reserved_ip.1")).unwrap();
    assert_eq!(outcome(node.add("a", DUAL, "")).0, Code::Io);
    assert_eq!(node.reserved(), BTreeSet::new());
}

#[test]
fn an_empty_reservation_is_free_and_a_foreign_one_is_not() {
    let node = Node::new();
    node.write("10.1.2.2", "");
    node.write("10.1.2.3", "what is this");
    assert_eq!(node.add("a", ONE, "").unwrap(), ["10.1.2.2/24"]);
    assert_eq!(node.read("10.1.2.2"), "a\r\neth0");
    assert_eq!(node.add("b", ONE, "").unwrap(), ["10.1.2.4/24"]);
}

#[test]
fn a_second_add_is_refused_and_the_first_stays() {
    let node = Node::new();
    node.add("a", r#""subnet": "10.9.0.0/24""#, "").unwrap();
    // The range that has the address is now the second: whatever the first set gave is taken back,
    // and only that.
    let two = r#""ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.9.0.0/24"}]]"#;
    let refused = (
        Code::Conflict,
        "failed to allocate for range 1: 10.9.0.2 has been allocated to a, duplicate allocation \
         is not allowed"
            .to_owned(),
    );
    assert_eq!(outcome(node.add("a", two, "")), refused);
    let request = r#""args": {"cni": {"ips": ["10.9.0.88"]}}"#;
    assert_eq!(outcome(node.add("a", two, request)), refused, "requests are no way round it");
    assert_eq!(node.reserved(), BTreeSet::from(["10.9.0.2".into()]));

    node.write("10.9.0.9", "legacy");
    assert_eq!(outcome(node.add("legacy", two, "")).0, Code::Conflict);
}

#[test]
fn requested_addresses_are_given() {
    let node = Node::new();
    let request = r#""args": {"cni": {"ips": ["2001:db8:1::88", "10.2.2.77"]}}"#;
    assert_eq!(node.add("a", DUAL, request).unwrap(), ["10.2.2.77/24", "2001:db8:1::88/64"]);
    assert_eq!(node.read("last_reserved_ip.0"), "10.2.2.77");

    let mut call = node.call("b", ONE, "");
    call.env.args = "IP=10.1.2.99".into();
    let result = HostLocal.add(&call, Path::new("/x")).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.2.99/24");
}

#[test]
fn requested_addresses_that_cannot_be_given_are_refused() {
    let node = Node::new();
    let add = |container: &str, address: &str| {
        let request = format!(r#""runtimeConfig": {{"ips": {address}}}"#);
        node.add(container, ONE, &request)
    };
    add("a", r#"["10.1.2.88"]"#).unwrap();
    assert_eq!(
        outcome(add("b", r#"["10.1.2.88"]"#)),
        (
            Code::Conflict,
            "failed to allocate for range 0: requested IP address 10.1.2.88 is not available in \
             range set 10.1.2.1-10.1.2.254"
                .into()
        )
    );
    assert_eq!(
        outcome(add("b", r#"["10.1.2.88", "10.1.2.77"]"#)),
        (Code::InvalidConfig, "failed to allocate all requested IPs: 10.1.2.77".into())
    );
    assert_eq!(
        outcome(add("b", r#"["10.1.2.1"]"#)),
        (
            Code::InvalidConfig,
            "failed to allocate for range 0: requested ip 10.1.2.1 is subnet's gateway".into()
        )
    );
    assert_eq!(node.reserved(), BTreeSet::from(["10.1.2.88".into()]));
}

#[test]
fn what_is_refused_is_refused_before_the_first_change() {
    let node = Node::new();
    for (keys, more, code) in [
        (r#""subnet": "10.1.2.3/24""#, "", Code::InvalidConfig),
        (r#""ranges": []"#, "", Code::InvalidConfig),
        (ONE, r#""runtimeConfig": {"ips": ["10.9.9.9"]}"#, Code::InvalidConfig),
        (r#""subnet": "10.1.2.0/24", "resolvConf": "/no/such/file""#, "", Code::Io),
    ] {
        assert_eq!(outcome(node.add("a", keys, more)).0, code, "{keys} {more}");
    }
    assert_eq!(node.dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn del_needs_only_the_triple() {
    let node = Node::new();
    node.add("a", DUAL, "").unwrap();
    node.add("b", DUAL, "").unwrap();
    let broken = node.call("a", r#""ranges": [[{"subnet": "10.1.2.3/24"}], 7], "routes": 1"#, "");
    for _twice in 0..2 {
        HostLocal.del(&broken, None).unwrap();
        assert_eq!(node.reserved(), BTreeSet::from(["10.1.2.3".into(), "2001:db8:1::3".into()]));
    }
}

#[test]
fn del_removes_what_an_old_version_wrote() {
    let node = Node::new();
    node.write("10.1.2.7", "old\n");
    HostLocal.del(&node.call("old", ONE, ""), None).unwrap();
    assert_eq!(node.reserved(), BTreeSet::new());
}

#[test]
fn del_check_and_gc_make_no_directory() {
    let node = Node::new();
    HostLocal.del(&node.call("a", ONE, ""), None).unwrap();
    HostLocal.check(&node.call("a", ONE, ""), Path::new("/x")).unwrap_err();
    HostLocal.gc(&node.upkeep(ONE, r#""cni.dev/valid-attachments": []"#)).unwrap();
    HostLocal.status(&node.upkeep(ONE, "")).unwrap();
    assert_eq!(node.dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn check_compares_the_reservation_with_the_previous_result() {
    let node = Node::new();
    node.add("a", DUAL, "").unwrap();
    node.add("b", DUAL, "").unwrap();
    let check = |container: &str, ips: &[&str]| {
        let ips: Vec<String> = ips.iter().map(|ip| format!(r#"{{"address": "{ip}"}}"#)).collect();
        let previous = format!(r#""prevResult": {{"ips": [{}]}}"#, ips.join(","));
        HostLocal.check(&node.call(container, DUAL, &previous), Path::new("/x"))
    };
    check("a", &["10.1.2.2/24", "2001:db8:1::2/64"]).unwrap();
    check("a", &["10.1.2.2/24", "192.0.2.9/32"]).unwrap(); // another plugin's
    check("a", &[]).unwrap();
    HostLocal.check(&node.call("a", DUAL, ""), Path::new("/x")).unwrap();

    for (container, ips) in [
        ("c", &[][..]),
        ("a", &["10.1.2.3/24"]),
        ("a", &["10.1.2.2/24", "10.2.2.9/24"]),
        ("a", &["192.0.2.9/32"]),
    ] {
        let error = check(container, ips).unwrap_err();
        assert_eq!(error.code, Code::CheckFailed);
        let text = format!("host-local: Failed to find address added by container {container}");
        assert_eq!(error.msg, text);
        assert!(!error.details.is_empty());
    }
}

#[test]
fn gc_keeps_what_is_valid_and_does_nothing_unasked() {
    let node = Node::new();
    for container in ["a", "b"] {
        node.add(container, ONE, "").unwrap();
    }
    node.write("10.1.2.50", "a");
    node.write("10.1.2.51", "b");
    let gc = |more: &str| {
        HostLocal.gc(&node.upkeep(r#""subnet": "broken""#, more)).unwrap();
        node.reserved().into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(gc(""), "10.1.2.2 10.1.2.3 10.1.2.50 10.1.2.51", "key absent");
    let valid = r#"[{"containerID": "a", "ifname": "eth0"}]"#;
    assert_eq!(gc(&format!(r#""cni.dev/valid-attachments": {valid}"#)), "10.1.2.2 10.1.2.50");
    assert_eq!(gc(r#""cni.dev/valid-attachments": null"#), "");
}

#[test]
fn gc_leaves_other_networks_alone() {
    let node = Node::new();
    node.add("a", ONE, "").unwrap();
    let other = node.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("10.1.2.2"), "b\r\neth0").unwrap();
    HostLocal.gc(&node.upkeep(ONE, r#""cni.dev/valid-attachments": []"#)).unwrap();
    assert!(other.join("10.1.2.2").exists());
}

#[test]
fn status_says_whether_the_next_add_would_work() {
    let node = Node::new();
    let status = |keys: &str, more: &str| {
        HostLocal.status(&node.upkeep(keys, more)).map_err(|error| error.code)
    };
    assert_eq!(status(ONE, ""), Ok(()));
    node.add("a", r#""subnet": "10.1.2.0/30""#, "").unwrap();
    assert_eq!(status(r#""subnet": "10.1.2.0/30""#, ""), Ok(()), "full is not broken");

    assert_eq!(status(r#""subnet": "10.1.2.3/30""#, ""), Err(Code::InvalidConfig));
    assert_eq!(status(r#""ranges": []"#, ""), Err(Code::InvalidConfig));
    let ranges_later = r#""capabilities": {"ipRanges": true}"#;
    assert_eq!(status(r#""ranges": []"#, ranges_later), Ok(()), "they come with each ADD");
    let resolv_conf = r#""subnet": "10.1.2.0/24", "resolvConf": "/no/such/file""#;
    assert_eq!(status(resolv_conf, ""), Err(Code::NotAvailable));
    let data_dir = r#""subnet": "10.1.2.0/24", "dataDir": "/proc/self/mounts/x""#;
    assert_eq!(status(data_dir, ""), Err(Code::NotAvailable));
}

#[test]
fn excluded_addresses_are_never_given() {
    let node = Node::new();
    let keys = r#""ranges": [[{"subnet": "10.1.2.0/29", "exclude": ["10.1.2.2", "10.1.2.5/31"]}]]"#;
    assert_eq!(node.add("a", keys, "").unwrap(), ["10.1.2.3/29"]);
    let wish = r#""runtimeConfig": {"ips": ["10.1.2.5"]}"#;
    let text = "failed to allocate for range 0: requested IP address 10.1.2.5 is excluded";
    assert_eq!(outcome(node.add("b", keys, wish)), (Code::InvalidConfig, text.into()));
    assert_eq!(node.add("b", keys, "").unwrap(), ["10.1.2.6/29"]);
    assert_eq!(outcome(node.add("c", keys, "")).0, Code::TryAgainLater);
    for (exclude, code) in [(r#"["10.1.3.0/24"]"#, 7), (r#"["10.1.2"]"#, 7), ("7", 6)] {
        let keys = format!(r#""subnet": "10.1.2.0/24", "exclude": {exclude}"#);
        assert_eq!(node.add("d", &keys, "").unwrap_err().code.number(), code, "{exclude}");
    }
}

#[test]
fn a_freed_address_rests_while_there_is_another() {
    let node = Node::new();
    let keys = r#""subnet": "10.1.2.0/29""#;
    let add = |container: &str| node.add(container, keys, "").unwrap().join(" ");
    let del = |container: &str| HostLocal.del(&node.call(container, keys, ""), None).unwrap();
    let all: Vec<String> = ["a", "b", "c", "d"].map(add).into();
    assert_eq!(all, ["10.1.2.2/29", "10.1.2.3/29", "10.1.2.4/29", "10.1.2.5/29"]);
    del("a");
    del("c");
    assert_eq!(add("e"), "10.1.2.6/29");
    del("e");
    assert_eq!(add("f"), "10.1.2.2/29", "only resting ones are left: the one freed first");
    let restless = format!(r#"{keys}, "restTime": 0"#);
    assert_eq!(node.add("g", &restless, "").unwrap(), ["10.1.2.4/29"]);
    node.write("last_reserved_ip.0", "10.1.2.5");
    assert_eq!(node.add("h", &restless, "").unwrap(), ["10.1.2.6/29"]);
    assert_eq!(outcome(node.add("i", keys, "")).0, Code::TryAgainLater, "full, not resting");
}

#[test]
fn a_repeated_add_may_give_the_same_again() {
    let node = Node::new();
    let keys = format!(r#"{DUAL}, "idempotentAdd": true"#);
    let first = node.add("a", &keys, "").unwrap();
    assert_eq!(node.add("a", &keys, "").unwrap(), first);
    let same = r#""runtimeConfig": {"ips": ["10.1.2.2"]}"#;
    assert_eq!(node.add("a", &keys, same).unwrap(), first);
    let other = r#""runtimeConfig": {"ips": ["10.1.2.9"]}"#;
    assert_eq!(outcome(node.add("a", &keys, other)).0, Code::Conflict, "no second address");
    // A half that was lost is given anew.
    std::fs::remove_file(node.dir.path().join("mynet/2001:db8:1::2")).unwrap();
    assert_eq!(node.add("a", &keys, "").unwrap(), ["10.1.2.2/24", "2001:db8:1::3/64"]);
}

#[test]
fn status_tells_of_a_full_range_if_asked_to() {
    let node = Node::new();
    let keys = r#""subnet": "10.1.2.0/29", "exclude": ["10.1.2.4/31"], "statusWhenFull": true"#;
    let status = || HostLocal.status(&node.upkeep(keys, ""));
    assert_eq!(status(), Ok(()), "there is not even a directory");
    for container in ["a", "b", "c"] {
        assert_eq!(status(), Ok(()));
        node.add(container, keys, "").unwrap();
    }
    let error = status().unwrap_err();
    assert_eq!(error.code, Code::NotAvailable);
    let text = "no IP addresses available in range set: 10.1.2.1-10.1.2.6";
    assert!(error.msg.contains(text), "{error}");
    assert!(error.details.starts_with("free: 0, used: 3; "), "{error}");
}
