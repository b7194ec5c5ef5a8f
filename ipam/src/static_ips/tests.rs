#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::{Dns, Route};

use super::*;

/// A configuration with these keys in `ipam`, and more beside it.
fn conf(version: &str, keys: &str, more: &str) -> NetConf {
    let text = format!(
        r#"{{"cniVersion": "{version}", "name": "mynet", "type": "bridge",
            "ipam": {{"type": "static" {keys}}} {more}}}"#
    );
    NetConf::parse(text.as_bytes()).unwrap()
}

fn call(conf: NetConf, args: &str) -> Call {
    Call {
        env: Env { args: args.into(), ..Env::default() },
        conf,
        attachment: Attachment::new("mynet", "c1", "eth0").unwrap(),
    }
}

fn add(keys: &str, more: &str, args: &str) -> Result<CniResult, CniError> {
    Static.add(&call(conf("1.0.0", keys, more), args), Path::new("/x"))
}

/// The addresses, each with its gateway.
fn addresses(keys: &str, more: &str, args: &str) -> String {
    let result = add(keys, more, args).unwrap();
    let texts = result.ips.iter().map(|ip| match ip.gateway {
        Some(gateway) => format!("{} via {gateway}", ip.address),
        None => ip.address.to_string(),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Code and message of a refused ADD; the details must say what to do.
fn refusal(keys: &str, more: &str, args: &str) -> (Code, String) {
    let error = add(keys, more, args).unwrap_err();
    assert!(!error.details.is_empty(), "{error}");
    (error.code, error.msg)
}

const ONE: &str = r#", "addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0.254"}]"#;

#[test]
fn the_configuration_is_the_result() {
    let keys = r#", "Addresses": [
            {"address": "10.10.0.1/24", "gateway": "10.10.0.254"},
            {"address": "3ffe:ffff:0:01ff::1/64", "gateway": ""}],
        "routes": [
            {"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": "10.10.5.1"},
            {"dst": "3ffe:ffff:0:1ff::1/64"}],
        "dns": {"nameservers": ["10.1.1.1"], "domain": "example.com", "search": ["a", "b"],
                "options": ["ndots:5"]}"#;
    assert_eq!(addresses(keys, "", ""), "10.10.0.1/24 via 10.10.0.254, 3ffe:ffff:0:1ff::1/64");
    let result = add(keys, "", "").unwrap();
    let route = |dst: &str, gw: Option<&str>| {
        Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
    };
    let expected = [
        route("0.0.0.0/0", None),
        route("0.0.0.0/0", Some("10.10.5.1")),
        route("3ffe:ffff:0:1ff::1/64", None),
    ];
    assert_eq!(result.routes, expected, "two default routes stay two");
    let dns = Dns {
        nameservers: vec!["10.1.1.1".into()],
        domain: "example.com".into(),
        search: vec!["a".into(), "b".into()],
        options: vec!["ndots:5".into()],
    };
    assert_eq!(result.dns, dns);
    assert!(result.interfaces.is_empty() && result.ips.iter().all(|ip| ip.interface.is_none()));
}

#[test]
fn cni_args_add_to_the_configuration() {
    assert_eq!(
        addresses(ONE, "", "IP=10.10.0.7/24, 11.11.0.1/24 ,2001:db8::1/64;GATEWAY=11.11.0.254"),
        "10.10.0.1/24 via 10.10.0.254, 10.10.0.7/24, 11.11.0.1/24 via 11.11.0.254, 2001:db8::1/64"
    );
    assert_eq!(
        addresses(ONE, "", "IP=10.10.0.7/24;GATEWAY=10.10.0.99,10.10.0.98"),
        "10.10.0.1/24 via 10.10.0.254, 10.10.0.7/24 via 10.10.0.98",
        "a gateway is for the addresses it came with, and the last one wins"
    );
    let same = "10.10.0.1/24 via 10.10.0.254";
    assert_eq!(addresses(ONE, "", "IgnoreUnknown=1;K8S_POD=a;IP=;GATEWAY="), same);
}

#[test]
fn lists_of_the_runtime_replace_all_others() {
    let args = r#", "args": {"cni": {"ips": ["10.11.0.1/24", "2001:db8::2/64"]}}"#;
    let both = format!(r#"{args}, "RuntimeConfig": {{"ips": ["10.12.0.1/24"]}}"#);
    let of_cni_args = "IP=10.13.0.1/24;GATEWAY=10.11.0.254";
    assert_eq!(addresses(ONE, args, of_cni_args), "10.11.0.1/24, 2001:db8::2/64");
    assert_eq!(addresses(ONE, &both, of_cni_args), "10.12.0.1/24");
    let empty = r#", "args": {"cni": {"ips": []}}, "runtimeConfig": {"ips": null}"#;
    assert_eq!(addresses(ONE, empty, ""), "10.10.0.1/24 via 10.10.0.254");
    let broken = r#", "addresses": [{"address": "nonsense"}]"#;
    assert_eq!(addresses(broken, &both, ""), "10.12.0.1/24", "what is replaced is not read");
}

#[test]
fn errors_have_the_texts_of_the_reference() {
    let invalid = |msg: &str| (Code::InvalidConfig, msg.to_owned());
    for wrong in ["10.10.0.1", "10.10.0.01/24", "10.10.0.1/33", "::ffff:10.0.0.1/120", ""] {
        let keys = format!(r#", "addresses": [{{"address": "{wrong}"}}]"#);
        let text =
            format!("the 'address' field is expected to be in CIDR notation, got: '{wrong}'");
        assert_eq!(refusal(&keys, "", ""), invalid(&text));
    }
    let text = "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.0.1'";
    for more in
        [r#""args": {"cni": {"ips": ["10.10.0.1"]}}"#, r#""runtimeConfig": {"ips": ["10.10.0.1"]}"#]
    {
        assert_eq!(refusal(ONE, &format!(", {more}"), ""), invalid(text));
    }
    for (args, text) in [
        ("IP=10.10.0.1", "the 'ip' field is expected to be in CIDR notation, got: '10.10.0.1'"),
        ("IP=10.1.0.1/8,", "the 'ip' field is expected to be in CIDR notation, got: ''"),
        ("IP=10.1.0.1/8;GATEWAY=10.1.0", "invalid gateway address: 10.1.0"),
    ] {
        assert_eq!(refusal(ONE, "", args), (Code::InvalidEnvironment, text.to_owned()));
    }
    let unknown = add(ONE, "", "POD=a").unwrap_err();
    assert_eq!(unknown.code, Code::InvalidEnvironment);
    let gateway = r#", "addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0"}]"#;
    let error = add(gateway, "", "").unwrap_err();
    let text = r#"key "ipam.addresses[0].gateway": invalid IP address: 10.10.0"#;
    assert!(error.code == Code::InvalidConfig && error.msg.starts_with(text), "{error}");
    for keys in
        [r#", "addresses": [7]"#, r#", "addresses": {}"#, r#", "routes": 7"#, r#", "dns": 7"#]
    {
        assert_eq!(add(keys, "", "").unwrap_err().code, Code::Decode, "{keys}");
    }

    let bare = NetConf::parse(br#"{"cniVersion": "1.0.0", "name": "n"}"#).unwrap();
    let error = Static.add(&call(bare, ""), Path::new("/x")).unwrap_err();
    assert_eq!((error.code, error.msg), invalid("IPAM config missing 'ipam' key"));
}

#[test]
fn no_address_at_all_is_refused() {
    for keys in ["", r#", "addresses": []"#, r#", "addresses": null"#] {
        assert_eq!(
            refusal(keys, "", ""),
            (Code::InvalidConfig, "no IP addresses configured".into())
        );
    }
}

#[test]
fn old_versions_have_one_address_a_family() {
    let two = r#", "addresses": [{"address": "10.10.0.1/24"}, {"address": "10.11.0.1/24"}]"#;
    let dual = r#", "addresses": [{"address": "10.10.0.1/24"}, {"address": "2001:db8::1/64"}]"#;
    let add = |version, keys, args: &str| {
        Static.add(&call(conf(version, keys, ""), args), Path::new("/x"))
    };
    for version in ["0.1.0", "0.2.0"] {
        let text = format!("CNI version {version} does not support more than 1 address per family");
        let error = add(version, two, "").unwrap_err();
        assert_eq!((error.code, &error.msg), (Code::InvalidConfig, &text));
        assert_eq!(add(version, dual, "IP=2001:db8::2/64").unwrap_err().msg, text);
        assert_eq!(add(version, dual, "").unwrap().ips.len(), 2);
    }
    assert_eq!(add("0.3.0", two, "").unwrap().ips.len(), 2);
}

#[test]
fn check_wants_every_address_in_the_previous_result() {
    let check = |ips: &str| {
        let told = format!(r#", "prevResult": {{"cniVersion": "1.0.0", "ips": [{ips}]}}"#);
        Static.check(&call(conf("1.0.0", ONE, &told), ""), Path::new("/x"))
    };
    let ours = r#"{"address": "10.10.0.1/24", "gateway": "10.10.0.254"}"#;
    let other = r#"{"address": "10.99.0.1/24"}"#;
    assert_eq!(check(ours), Ok(()));
    assert_eq!(check(&format!("{other}, {ours}")), Ok(()));
    for (ips, words) in [
        ("", "prevResult does not have 10.10.0.1/24"),
        (other, "prevResult does not have 10.10.0.1/24"),
        (r#"{"address": "10.10.0.1/16", "gateway": "10.10.0.254"}"#, "prevResult does not have"),
        (
            r#"{"address": "10.10.0.1/24", "gateway": "10.10.0.253"}"#,
            "is 10.10.0.253 in prevResult",
        ),
        (r#"{"address": "10.10.0.1/24"}"#, "is none in prevResult"),
    ] {
        let error = check(ips).unwrap_err();
        assert_eq!(error.msg, "static: Failed to match addr 10.10.0.1 on interface eth0");
        assert!(error.code == Code::CheckFailed && error.details.contains(words), "{error}");
    }
    let error = Static.check(&call(conf("1.0.0", ONE, ""), ""), Path::new("/x")).unwrap_err();
    assert_eq!((error.code, &*error.msg), (Code::CheckFailed, "required prevResult missing"));
    assert!(!error.details.is_empty());
}

#[test]
fn a_gateway_that_the_bridge_chose_is_no_difference() {
    let keys = r#", "addresses": [{"address": "10.10.0.7/24"}]"#;
    let told = r#", "prevResult": {"ips": [{"address": "10.10.0.7/24", "gateway": "10.10.0.1"}]}"#;
    assert_eq!(Static.check(&call(conf("1.0.0", keys, told), ""), Path::new("/x")), Ok(()));
}

#[test]
fn del_and_gc_have_nothing_to_do_with_any_configuration() {
    let broken =
        conf("1.1.0", r#", "addresses": 7, "dns": 7"#, r#", "cni.dev/valid-attachments": 7"#);
    assert_eq!(Static.del(&call(broken.clone(), "nonsense"), None), Ok(()));
    assert_eq!(Static.gc(&Upkeep { env: Env::default(), conf: broken }), Ok(()));
}

#[test]
fn status_is_about_the_configuration() {
    let status =
        |keys| Static.status(&Upkeep { env: Env::default(), conf: conf("1.1.0", keys, "") });
    assert_eq!(status(ONE), Ok(()));
    assert_eq!(status(""), Ok(()), "addresses may come with each ADD");
    let error = status(r#", "addresses": [{"address": "10.10.0.1"}]"#).unwrap_err();
    assert_eq!(error.code, Code::NotAvailable);
    assert!(error.msg.starts_with("the 'address' field is expected"), "{error}");
}
