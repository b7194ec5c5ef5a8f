use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::error::Code;
use crate::json::{cidr, ip};
use crate::version::SpecVersion;

/// A dual-stack Pod with every field of 1.1.0.
fn full() -> CniResult {
    CniResult {
        interfaces: vec![
            Interface {
                name: "cbr0".to_owned(),
                mac: "0a:58:0a:00:01:01".to_owned(),
                ..Interface::default()
            },
            Interface {
                name: "eth0".to_owned(),
                mac: "0a:58:0a:00:01:05".to_owned(),
                mtu: Some(1450),
                sandbox: "/run/netns/pod".to_owned(),
                socket_path: "/run/vhost.sock".to_owned(),
                pci_id: "0000:00:1f.6".to_owned(),
            },
        ],
        ips: vec![
            address("10.0.1.5/24", Some("10.0.1.1")),
            address("2001:db8:1::5/64", Some("2001:db8:1::1")),
            address("10.0.9.5/24", None),
        ],
        routes: vec![
            Route::new(cidr("0.0.0.0/0").unwrap(), Some(ip("10.0.1.1").unwrap())),
            Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(100),
                table: Some(254),
                scope: Some(253),
                ..Route::new(cidr("2001:db8::/32").unwrap(), None)
            },
        ],
        dns: Dns {
            nameservers: vec!["10.0.0.10".to_owned()],
            domain: "cluster.local".to_owned(),
            search: vec!["svc.cluster.local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        },
    }
}

fn address(address: &str, gateway: Option<&str>) -> IpConfig {
    IpConfig {
        interface: Some(1),
        address: cidr(address).unwrap(),
        gateway: gateway.map(|gateway| ip(gateway).unwrap()),
    }
}

/// The rendered text as a value, since the order of keys means nothing.
fn rendered(result: &CniResult, version: SpecVersion) -> serde_json::Value {
    serde_json::from_str(&result.render(version).unwrap()).unwrap()
}

#[test]
fn v1_1_has_every_field() {
    assert_eq!(
        rendered(&full(), SpecVersion::V1_1_0),
        serde_json::json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cbr0", "mac": "0a:58:0a:00:01:01"},
                {
                    "name": "eth0", "mac": "0a:58:0a:00:01:05", "mtu": 1450,
                    "sandbox": "/run/netns/pod", "socketPath": "/run/vhost.sock",
                    "pciID": "0000:00:1f.6",
                },
            ],
            "ips": [
                {"interface": 1, "address": "10.0.1.5/24", "gateway": "10.0.1.1"},
                {"interface": 1, "address": "2001:db8:1::5/64", "gateway": "2001:db8:1::1"},
                {"interface": 1, "address": "10.0.9.5/24"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.0.1.1"},
                {
                    "dst": "2001:db8::/32", "mtu": 1400, "advmss": 1360, "priority": 100,
                    "table": 254, "scope": 253,
                },
            ],
            "dns": {
                "nameservers": ["10.0.0.10"], "domain": "cluster.local",
                "search": ["svc.cluster.local"], "options": ["ndots:5"],
            },
        })
    );
}

#[test]
fn v1_0_has_none_of_the_fields_of_v1_1() {
    let old = rendered(&full(), SpecVersion::V1_0_0);
    assert_eq!(
        old["interfaces"][1],
        serde_json::json!({
            "name": "eth0", "mac": "0a:58:0a:00:01:05", "sandbox": "/run/netns/pod",
        })
    );
    assert_eq!(old["routes"][1], serde_json::json!({"dst": "2001:db8::/32"}));
    assert!(old["ips"][0].get("version").is_none());
}

#[test]
fn v0_3_and_v0_4_tell_the_family_of_an_address() {
    for version in [SpecVersion::V0_3_0, SpecVersion::V0_3_1, SpecVersion::V0_4_0] {
        let old = rendered(&full(), version);
        assert_eq!(old["cniVersion"], version.as_str());
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["ips"][1]["version"], "6");
        assert_eq!(old["routes"][1], serde_json::json!({"dst": "2001:db8::/32"}));
        assert!(old["interfaces"][1].get("mtu").is_none());
    }
}

#[test]
fn v0_2_has_one_address_a_family_and_its_routes() {
    let mut result = full();
    result
        .routes
        .push(Route::new(cidr("2001:db8:f::/48").unwrap(), Some(ip("2001:db8:1::2").unwrap())));
    for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
        assert_eq!(
            rendered(&result, version),
            serde_json::json!({
                "cniVersion": version.as_str(),
                "ip4": {
                    "ip": "10.0.1.5/24", "gateway": "10.0.1.1",
                    "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.1.1"}],
                },
                "ip6": {
                    "ip": "2001:db8:1::5/64", "gateway": "2001:db8:1::1",
                    "routes": [
                        {"dst": "2001:db8::/32"},
                        {"dst": "2001:db8:f::/48", "gw": "2001:db8:1::2"},
                    ],
                },
                "dns": {
                    "nameservers": ["10.0.0.10"], "domain": "cluster.local",
                    "search": ["svc.cluster.local"], "options": ["ndots:5"],
                },
            })
        );
    }
}

#[test]
fn v0_2_drops_routes_of_a_family_without_address() {
    let result = CniResult { ips: vec![address("10.0.1.5/24", None)], ..full() };
    let old = rendered(&result, SpecVersion::V0_2_0);
    assert_eq!(old["ip4"]["routes"].as_array().unwrap().len(), 1);
    assert!(old.get("ip6").is_none());
}

#[test]
fn v0_2_needs_an_address() {
    for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
        let error = CniResult::default().render(version).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert!(error.msg.starts_with("cannot convert: no valid IP addresses"), "{error}");
        assert!(error.msg.contains(version.as_str()) && error.msg.contains("0.3.0"), "{error}");
    }
}

#[test]
fn empty_dns_is_there_until_0_4_and_gone_since_1_0() {
    let result = CniResult { dns: Dns::default(), ..full() };
    for version in SpecVersion::ALL {
        let has_dns = rendered(&result, version).get("dns").is_some();
        assert_eq!(has_dns, version <= SpecVersion::V0_4_0, "{version}");
    }
}

#[test]
fn the_layout_is_that_of_the_reference() {
    let result = CniResult { ips: vec![address("10.0.1.5/24", None)], ..CniResult::default() };
    assert_eq!(
        result.render(SpecVersion::V0_4_0).unwrap(),
        r#"{
    "cniVersion": "0.4.0",
    "ips": [
        {
            "version": "4",
            "interface": 1,
            "address": "10.0.1.5/24"
        }
    ],
    "dns": {}
}"#
    );
}

#[test]
fn a_result_of_v0_2_becomes_lists() {
    let text = r#"{
        "ip4": {"ip": "10.0.1.5/24", "gateway": "10.0.1.1", "routes": [{"dst": "0.0.0.0/0"}]},
        "ip6": {"ip": "2001:db8::5/64", "routes": [{"dst": "::/0", "gw": "2001:db8::1"}]},
        "dns": {"search": ["x"]}
    }"#;
    let result = CniResult::parse(text, SpecVersion::V0_2_0).unwrap();
    let addresses: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.1.5/24", "2001:db8::5/64"]);
    assert_eq!(result.ips[0].interface, None);
    assert_eq!(result.routes[0], Route::new(cidr("0.0.0.0/0").unwrap(), None));
    assert_eq!(
        result.routes[1],
        Route::new(cidr("::/0").unwrap(), Some(ip("2001:db8::1").unwrap()))
    );
    assert_eq!(result.dns.search, ["x"]);
}

#[test]
fn a_result_is_in_the_version_it_names() {
    let text = r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.1.5/24"}}"#;
    assert_eq!(CniResult::parse(text, SpecVersion::V1_0_0).unwrap().ips.len(), 1);
    let error = CniResult::parse(r#"{"cniVersion": "9.0.0"}"#, SpecVersion::V1_0_0).unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
    assert!(error.msg.contains("cniVersion") && error.msg.contains("9.0.0"), "{error}");
}

#[test]
fn the_habits_of_go_hold_for_results_too() {
    let text = r#"{
        "IPs": [{"Address": "10.0.1.5/24", "gateway": "", "version": "4", "interface": null}],
        "routes": null, "unknown": 1
    }"#;
    let result = CniResult::parse(text, SpecVersion::V0_4_0).unwrap();
    assert_eq!(result.ips, [IpConfig { interface: None, ..address("10.0.1.5/24", None) }]);
    // the reference writes fields of 1.1.0 into results of 1.0.0, and honours them
    let text = r#"{"routes": [{"dst": "10.0.0.0/8", "priority": 7}]}"#;
    let result = CniResult::parse(text, SpecVersion::V1_0_0).unwrap();
    assert_eq!(result.routes[0].priority, Some(7));
}

#[test]
fn errors_name_the_place_and_the_value() {
    for (text, place, value) in [
        (r#"{"ips": [{"address": "10.0.1.5"}]}"#, "ips[0].address", "10.0.1.5"),
        (r#"{"ips": [{}]}"#, "ips[0].address", "absent"),
        (r#"{"ips": [{"address": "10.0.1.5/24", "interface": -1}]}"#, "ips[0].interface", "-1"),
        (r#"{"routes": [{"dst": "::/0", "gw": "x"}]}"#, "routes[0].gw", "\"x\""),
        (r#"{"interfaces": {}}"#, "interfaces", "{}"),
    ] {
        let error = CniResult::parse(text, SpecVersion::V1_1_0).unwrap_err();
        assert_eq!(error.code, Code::Decode, "{text}");
        assert!(error.msg.contains(&format!("{place:?}")), "{error}");
        assert!(error.msg.contains(value), "{error}");
    }
    let error = CniResult::parse("oops", SpecVersion::V1_1_0).unwrap_err();
    assert!(error.details.contains("oops"), "{error}");
}

/// What is left of a result after a version that cannot say everything.
fn as_said_in(mut result: CniResult, version: SpecVersion) -> CniResult {
    if version < SpecVersion::V1_1_0 {
        for interface in &mut result.interfaces {
            *interface = Interface {
                name: interface.name.clone(),
                mac: interface.mac.clone(),
                sandbox: interface.sandbox.clone(),
                ..Interface::default()
            };
        }
        for route in &mut result.routes {
            *route = Route::new(route.dst, route.gw);
        }
    }
    if version < SpecVersion::V0_3_0 {
        let first = |v4| result.ips.iter().find(|ip| ip.address.is_ipv4() == v4).cloned();
        let (ip4, ip6) = (first(true), first(false));
        let routes = |v4: bool, has_address: bool| {
            let of_family: Vec<Route> =
                result.routes.iter().filter(|r| r.dst.is_ipv4() == v4).cloned().collect();
            if has_address { of_family } else { vec![] }
        };
        result.routes = [routes(true, ip4.is_some()), routes(false, ip6.is_some())].concat();
        result.ips =
            ip4.into_iter().chain(ip6).map(|ip| IpConfig { interface: None, ..ip }).collect();
        result.interfaces = vec![];
    }
    result
}

fn any_ip() -> impl Strategy<Value = std::net::IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(Into::into),
        any::<Ipv6Addr>()
            .prop_filter("written as IPv6", |v6| v6.to_ipv4_mapped().is_none())
            .prop_map(Into::into),
    ]
}

fn any_cidr() -> impl Strategy<Value = IpNetwork> {
    (any_ip(), 0..=128u8).prop_map(|(ip, prefix)| {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        IpNetwork::new(ip, prefix.min(longest)).unwrap()
    })
}

fn any_result() -> impl Strategy<Value = CniResult> {
    let interface = (any::<[String; 5]>(), any::<Option<u32>>()).prop_map(
        |([name, mac, sandbox, socket_path, pci_id], mtu)| Interface {
            name,
            mac,
            mtu,
            sandbox,
            socket_path,
            pci_id,
        },
    );
    let ip = (any::<Option<usize>>(), any_cidr(), prop::option::of(any_ip()))
        .prop_map(|(interface, address, gateway)| IpConfig { interface, address, gateway });
    let route =
        (any_cidr(), prop::option::of(any_ip()), any::<[Option<u32>; 4]>(), any::<Option<u8>>())
            .prop_map(|(dst, gw, [mtu, advmss, priority, table], scope)| Route {
                dst,
                gw,
                mtu,
                advmss,
                priority,
                table,
                scope,
            });
    let texts = || prop::collection::vec(any::<String>(), 0..3);
    let dns = (texts(), any::<String>(), texts(), texts()).prop_map(
        |(nameservers, domain, search, options)| Dns { nameservers, domain, search, options },
    );
    (
        prop::collection::vec(interface, 0..3),
        prop::collection::vec(ip, 0..4),
        prop::collection::vec(route, 0..4),
        dns,
    )
        .prop_map(|(interfaces, ips, routes, dns)| CniResult { interfaces, ips, routes, dns })
}

proptest! {
    #[test]
    fn a_result_reads_back_but_for_what_its_version_cannot_say(
        result in any_result(),
        version in prop::sample::select(SpecVersion::ALL.to_vec()),
    ) {
        match result.render(version) {
            Ok(text) => {
                let read = CniResult::parse(&text, SpecVersion::LATEST).unwrap();
                prop_assert_eq!(read, as_said_in(result, version));
            }
            Err(_) => prop_assert!(version < SpecVersion::V0_3_0 && result.ips.is_empty()),
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = CniResult::parse(&text, SpecVersion::LATEST);
    }
}
