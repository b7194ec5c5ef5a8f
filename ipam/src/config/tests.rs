#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cni_conf::error::Code;

use super::*;

/// A configuration of the given version with the given keys beside name and type.
fn conf(version: &str, keys: &str) -> NetConf {
    let text =
        format!(r#"{{"cniVersion": "{version}", "name": "mynet", "type": "bridge", {keys}}}"#);
    NetConf::parse(text.as_bytes()).unwrap()
}

fn parse(keys: &str) -> Result<Config, CniError> {
    Config::parse(&conf("1.0.0", keys), "")
}

fn with_ipam(ipam: &str) -> Result<Config, CniError> {
    parse(&format!(r#""ipam": {{"type": "host-local", {ipam}}}"#))
}

fn sets(config: &Config) -> Vec<String> {
    config.sets.iter().map(ToString::to_string).collect()
}

/// Code and message of a refused `ipam`.
fn refusal(ipam: &str) -> (Code, String) {
    let error = with_ipam(ipam).unwrap_err();
    (error.code, error.msg)
}

fn invalid(msg: &str) -> (Code, String) {
    (Code::InvalidConfig, msg.to_owned())
}

#[test]
fn the_old_form_is_one_set() {
    let config = with_ipam(
        r#""subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.20",
           "gateway": "10.1.2.30", "resolvConf": "/etc/resolv.conf", "dataDir": "/tmp/x""#,
    )
    .unwrap();
    assert_eq!(sets(&config), ["10.1.2.9-10.1.2.20"]);
    assert_eq!(config.sets[0].ranges()[0].gateway().to_string(), "10.1.2.30");
    assert_eq!(config.resolv_conf.as_deref(), Some(Path::new("/etc/resolv.conf")));
    assert_eq!(config.store, Store::new(Path::new("/tmp/x"), "mynet"));
}

#[test]
fn the_forms_are_joined_in_the_order_of_the_reference() {
    let config = parse(
        r#""ipam": {"type": "host-local", "subnet": "10.1.2.0/24",
                    "ranges": [[{"subnet": "10.1.3.0/24"}, {"subnet": "10.1.4.0/24"}],
                               [{"SubNet": "2001:db8::/64", "rangeEnd": "2001:db8::9"}]]},
           "runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/30"}]]}"#,
    )
    .unwrap();
    assert_eq!(
        sets(&config),
        [
            "10.9.0.1-10.9.0.2",
            "10.1.2.1-10.1.2.254",
            "10.1.3.1-10.1.3.254,10.1.4.1-10.1.4.254",
            "2001:db8::1-2001:db8::9",
        ]
    );
}

#[test]
fn empty_texts_and_nulls_are_absent() {
    let config = with_ipam(
        r#""subnet": "10.1.2.0/24", "rangeStart": "", "rangeEnd": null, "gateway": "",
           "dataDir": "", "resolvConf": "", "routes": null, "ranges": null"#,
    )
    .unwrap();
    assert_eq!(sets(&config), ["10.1.2.1-10.1.2.254"]);
    assert_eq!(config.store, Store::new(Path::new("/var/lib/cni/networks"), "mynet"));
    assert_eq!(config.resolv_conf, None);
}

#[test]
fn routes_are_taken_as_they_are() {
    let config = with_ipam(
        r#""subnet": "10.1.2.0/24", "routes": [
            {"dst": "0.0.0.0/0"},
            {"dst": "192.168.0.0/16", "gw": "10.1.2.7", "mtu": 1400, "priority": 5, "scope": 253}]"#,
    )
    .unwrap();
    let route = Route::new("192.168.0.0/16".parse().unwrap(), Some("10.1.2.7".parse().unwrap()));
    let expected = [
        Route::new("0.0.0.0/0".parse().unwrap(), None),
        Route { mtu: Some(1400), priority: Some(5), scope: Some(253), ..route },
    ];
    assert_eq!(config.routes, expected);
}

#[test]
fn errors_have_the_texts_of_the_reference() {
    assert_eq!(
        refusal(r#""ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.2.3/24"}]]"#),
        invalid(
            "invalid range set 1: Network has host bits set. For a subnet mask of length 24 the \
             network address is 10.1.2.0"
        )
    );
    assert_eq!(refusal(r#""ranges": [[]]"#), invalid("invalid range set 0: empty range set"));
    assert_eq!(
        refusal(r#""ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "2001:db8::/64"}]]"#),
        invalid("invalid range set 0: mixed address families")
    );
    assert_eq!(
        refusal(
            r#""subnet": "10.9.0.0/24",
               "ranges": [[{"subnet": "10.0.0.0/16"}], [{"subnet": "10.0.3.0/24"}]]"#
        ),
        invalid("range set 1 overlaps with 2")
    );
    for (ipam, text) in [
        (r#""subnet": "10.1.2.0""#, "invalid CIDR address: 10.1.2.0"),
        (r#""subnet": "10.01.2.0/24""#, "invalid CIDR address: 10.01.2.0/24"),
        (r#""subnet": "10.1.2.0/24", "gateway": "10.1.2""#, "invalid IP address: 10.1.2"),
        (r#""ranges": [[{"gateway": "10.1.2.1"}]]"#, r#"key "ipam.ranges[0][0].subnet""#),
        (r#""ranges": [[{"subnet": "x"}]]"#, r#"key "ipam.ranges[0][0].subnet""#),
    ] {
        let (code, msg) = refusal(ipam);
        assert_eq!(code, Code::InvalidConfig, "{msg}");
        assert!(msg.contains(text), "{msg}");
    }
    assert_eq!(refusal(r#""subnet": 7"#).0, Code::Decode);

    let error = parse(r#""ipam": {}"#).unwrap_err();
    assert_eq!((error.code, error.msg), invalid("IPAM config missing 'ipam' key"));
    let error = with_ipam(r#""rangeStart": "10.1.2.3""#).unwrap().require_ranges().unwrap_err();
    assert_eq!(error.to_string(), "no IP ranges specified");
    assert!(!CniError::from(error).details.is_empty());
}

#[test]
fn old_versions_have_one_address_a_family() {
    let two = r#""ipam": {"type": "host-local",
        "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.1.0/24"}]]}"#;
    let error = Config::parse(&conf("0.2.0", two), "").unwrap_err();
    let text = "CNI version 0.2.0 does not support more than 1 address per family";
    assert_eq!((error.code, error.msg), invalid(text));
    Config::parse(&conf("0.3.0", two), "").unwrap();

    let dual = r#""ipam": {"type": "host-local",
        "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "2001:db8::/64"}]]}"#;
    Config::parse(&conf("0.2.0", dual), "").unwrap();
}

#[test]
fn requests_come_from_three_places() {
    let keys = r#""ipam": {"type": "host-local", "subnet": "10.1.2.0/24"},
        "args": {"cni": {"ips": ["10.1.2.88/16", "2001:db8::1"]}},
        "runtimeConfig": {"ips": ["10.1.2.99"]}"#;
    let requested = |args: &str| {
        Config::parse(&conf("1.0.0", keys), args).map(|config| {
            config.requested.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        })
    };
    let text = |args: &str| requested(args).unwrap();
    assert_eq!(text(""), "10.1.2.88 2001:db8::1 10.1.2.99");
    assert_eq!(text("IP=10.1.2.77/24"), "10.1.2.77 10.1.2.88 2001:db8::1 10.1.2.99");
    assert_eq!(text("IgnoreUnknown=1;K8S_POD=a;IP="), "10.1.2.88 2001:db8::1 10.1.2.99");

    let error = requested("IP=10.1.2.7,10.1.2.8").unwrap_err();
    assert_eq!(error.code, Code::InvalidEnvironment);
    assert!(error.msg.contains("invalid IP address: 10.1.2.7,10.1.2.8"), "{error}");
    assert_eq!(requested("POD=a").unwrap_err().code, Code::InvalidEnvironment);

    let wrong = r#""ipam": {"type": "host-local", "subnet": "10.1.2.0/24"},
        "runtimeConfig": {"ips": [""]}"#;
    let error = Config::parse(&conf("1.0.0", wrong), "").unwrap_err();
    assert_eq!(error.code, Code::InvalidConfig);
    assert!(error.msg.starts_with(r#"key "runtimeConfig.ips": invalid IP address: "#), "{error}");
}

#[test]
fn the_store_needs_nothing_else_of_the_configuration() {
    let broken = conf(
        "0.1.0",
        r#""ipam": {"type": "host-local", "dataDir": "/tmp/x", "subnet": 7, "ranges": "all"}"#,
    );
    assert_eq!(store(&broken).unwrap(), Store::new(Path::new("/tmp/x"), "mynet"));
    assert!(Config::parse(&broken, "").is_err());
}

#[test]
fn ranges_may_come_with_each_add() {
    let declared = |keys: &str| ranges_come_with_add(&conf("1.1.0", keys)).unwrap();
    assert!(declared(r#""capabilities": {"ipRanges": true}"#));
    assert!(!declared(r#""capabilities": {"ipRanges": false, "ips": true}"#));
    assert!(!declared(r#""capabilities": null"#));
}
