use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn conf(value: &Value) -> NetConf {
    NetConf::parse(value.to_string().as_bytes()).unwrap()
}

fn refused(stdin: &[u8]) -> CniError {
    NetConf::parse(stdin).unwrap_err()
}

#[test]
fn the_common_keys_are_read() {
    let stdin =
        br#"{"CNIVersion": "1.0.0", "Name": "cbr0", "type": "bridge", "mtu": 1400, "x": 1}"#;
    let conf = NetConf::parse(stdin).unwrap();
    assert_eq!(conf.version, SpecVersion::V1_0_0);
    assert_eq!(conf.name, "cbr0");
    assert_eq!(conf.plugin_type, "bridge");
    assert_eq!(conf.get::<u32>("MTU"), Ok(Some(1400)));
    assert_eq!(conf.raw(), stdin);
    assert_eq!(conf.object().keys().count(), 5);
}

#[test]
fn no_version_means_the_first() {
    for version in [Value::Null, json!("")] {
        assert_eq!(conf(&json!({"cniVersion": version, "name": "n"})).version, SpecVersion::V0_1_0);
    }
    assert_eq!(conf(&json!({"name": "n"})).version, SpecVersion::V0_1_0);
}

#[test]
fn what_is_no_object_is_refused_with_its_text() {
    let no_objects: [&[u8]; 8] =
        [b"", b"{", b"[]", b"null", b"\"x\"", b"{} {}", b"\xff\xfe", b"{\"name\": \"\xff\"}"];
    for stdin in no_objects {
        let error = refused(stdin);
        assert_eq!(error.code, Code::Decode, "{}", String::from_utf8_lossy(stdin));
        assert!(error.msg.contains("stdin is no valid JSON object"), "{error}");
    }
    assert!(refused(b"name: cbr0").details.contains("name: cbr0"));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let conf = NetConf::parse(format!(r#"{{"name": "n", "dns": {deep}}}"#).as_bytes()).unwrap();
    assert_eq!(conf.dns().unwrap_err().code, Code::Decode);
    assert_eq!(conf.get::<Vec<Object>>("dns").unwrap_err().code, Code::Decode);
    assert_eq!(refused(deep.as_bytes()).code, Code::Decode);
}

#[test]
fn a_wrong_type_names_key_and_value() {
    let error = refused(br#"{"name": 7}"#);
    assert_eq!(error.code, Code::Decode);
    assert!(error.msg.contains("\"name\"") && error.msg.contains("the value is 7"), "{error}");

    let error = conf(&json!({"name": "n", "mtu": "big"})).get::<u32>("mtu").unwrap_err();
    assert_eq!(error.code, Code::Decode);
    assert!(error.msg.contains("\"mtu\"") && error.msg.contains("\"big\""), "{error}");
}

#[test]
fn a_missing_or_bad_name_is_code_7() {
    for stdin in [r"{}", r#"{"name": ""}"#, r#"{"name": null}"#, r#"{"name": "a/b"}"#] {
        assert_eq!(refused(stdin.as_bytes()).code, Code::InvalidConfig, "{stdin}");
    }
    assert!(refused(b"{}").msg.starts_with("missing network name"));
    assert_eq!(refused(br#"{"name": "n", "type": "../x"}"#).code, Code::InvalidConfig);
}

#[test]
fn a_version_not_supported_is_reported_as_the_reference_does() {
    let supported = [SpecVersion::V0_4_0, SpecVersion::V1_0_0];
    let error =
        NetConf::parse_for(br#"{"cniVersion": "9.0.0", "name": "n"}"#, &supported).unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
    assert_eq!(error.msg, "incompatible CNI versions");
    assert_eq!(error.details, r#"config is "9.0.0", plugin supports ["0.4.0" "1.0.0"]"#);

    let error = NetConf::parse_for(br#"{"name": "n"}"#, &supported).unwrap_err();
    assert!(error.details.starts_with(r#"config is "0.1.0""#), "{error}");

    let error = refused(br#"{"cniVersion": "one", "name": "n"}"#);
    assert_eq!(error.code, Code::Decode, "the spec: failed to decode version info from string");
}

#[test]
fn the_name_is_looked_at_before_the_version() {
    assert_eq!(refused(br#"{"cniVersion": "9.0.0"}"#).code, Code::InvalidConfig);
}

#[test]
fn an_error_is_answered_in_the_configuration_s_version() {
    let answer = |stdin: &str| answer_version(stdin.as_bytes(), &SpecVersion::ALL[..6]);
    assert_eq!(answer(r#"{"cniVersion": "0.4.0"}"#), SpecVersion::V0_4_0);
    assert_eq!(answer(r"{}"), SpecVersion::V0_1_0);
    for unusable in ["", r#"{"cniVersion": "1.1.0"}"#, r#"{"cniVersion": 7}"#] {
        assert_eq!(answer(unusable), SpecVersion::V1_0_0, "{unusable}");
    }
}

#[test]
fn no_ipam_can_be_written_in_many_ways() {
    for ipam in [json!(null), json!({}), json!({"type": ""}), json!({"type": null, "x": null})] {
        let conf = conf(&json!({"name": "n", "ipam": ipam}));
        assert!(conf.ipam().unwrap().is_none());
        assert_eq!(conf.ipam_type(), Ok(None));
    }
    assert!(conf(&json!({"name": "n"})).ipam().unwrap().is_none());
}

#[test]
fn ipam_is_an_object_with_a_type() {
    let good = conf(&json!({"name": "n", "ipam": {"Type": "host-local", "subnet": "10.0.1.0/24"}}));
    assert_eq!(good.ipam_type(), Ok(Some("host-local".to_owned())));
    let ipam = good.ipam().unwrap().unwrap();
    assert_eq!(ipam.get::<String>("subnet"), Ok(Some("10.0.1.0/24".to_owned())));
    assert_eq!(ipam.path_of("subnet"), "ipam.subnet");

    let forgotten = conf(&json!({"name": "n", "ipam": {"subnet": "10.0.1.0/24", "routes": []}}));
    let error = forgotten.ipam().unwrap_err();
    assert_eq!(error.code, Code::InvalidConfig);
    for part in ["ipam", "subnet", "routes", "add a type"] {
        assert!(error.msg.contains(part), "{part} is not in {error}");
    }

    let ipam = |ipam: Value| conf(&json!({"name": "n", "ipam": ipam})).ipam().unwrap_err();
    assert_eq!(ipam(json!({"type": "/bin/sh"})).code, Code::InvalidConfig);
    assert_eq!(ipam(json!({"type": 7})).code, Code::Decode);
    assert_eq!(ipam(json!("host-local")).code, Code::Decode);
}

#[test]
fn dns_counts_when_it_says_anything_even_an_empty_list() {
    let dns = |dns: Value| conf(&json!({"name": "n", "dns": dns})).dns().unwrap();
    assert_eq!(dns(json!(null)), None);
    assert_eq!(dns(json!({})), None);
    assert_eq!(dns(json!({"domain": "", "search": null})), None);
    assert_eq!(dns(json!({"Search": []})), Some(Dns::default()));
    assert_eq!(
        dns(json!({"nameservers": ["10.0.0.10"], "domain": "x", "options": ["ndots:5"]})),
        Some(Dns {
            nameservers: vec!["10.0.0.10".to_owned()],
            domain: "x".to_owned(),
            search: vec![],
            options: vec!["ndots:5".to_owned()],
        })
    );
    assert!(conf(&json!({"name": "n", "dns": {"search": "x"}})).dns().is_err());
}

#[test]
fn what_the_runtime_inserts_is_empty_when_absent() {
    let bare = conf(&json!({"name": "n", "args": {}}));
    assert!(bare.runtime_config().unwrap().is_empty());
    assert!(bare.args_cni().unwrap().is_empty());
    assert_eq!(bare.prev_result(), Ok(None));

    let full = conf(&json!({
        "name": "n",
        "RuntimeConfig": {"mac": 7},
        "args": {"cni": {"ips": ["10.0.1.5"]}},
    }));
    let error = full.runtime_config().unwrap().get::<String>("mac").unwrap_err();
    assert_eq!(error.path, "runtimeConfig.mac");
    let ips = full.args_cni().unwrap().get::<Vec<String>>("ips");
    assert_eq!(ips, Ok(Some(vec!["10.0.1.5".to_owned()])));
}

#[test]
fn prev_result_is_read_as_the_configuration_s_version() {
    let old = conf(&json!({
        "cniVersion": "0.2.0", "name": "n",
        "prevResult": {"ip4": {"ip": "10.0.1.5/24"}},
    }));
    assert_eq!(old.prev_result().unwrap().unwrap().ips.len(), 1);

    let new = conf(&json!({
        "cniVersion": "1.0.0", "name": "n",
        "prevResult": {"ips": [{"address": "10.0.1.5/24"}, {"address": "10.0.1.6"}]},
    }));
    let error = new.prev_result().unwrap_err();
    assert_eq!(error.code, Code::Decode);
    assert!(error.msg.contains("prevResult.ips[1].address"), "{error}");
    assert!(error.msg.contains("10.0.1.6"), "{error}");

    let empty = conf(&json!({"cniVersion": "1.0.0", "name": "n", "prevResult": {}}));
    assert_eq!(empty.prev_result(), Ok(Some(CniResult::default())));
}

fn valid(key: &str, value: &Value) -> Result<ValidAttachments, CniError> {
    conf(&json!({"cniVersion": "1.1.0", "name": "n", key: value})).valid_attachments()
}

fn only(attachments: &[(&str, &str)]) -> ValidAttachments {
    let owned = |(id, ifname): &(&str, &str)| ((*id).to_owned(), (*ifname).to_owned());
    ValidAttachments::Only(attachments.iter().map(owned).collect())
}

#[test]
fn absent_attachments_mean_nothing_is_known() {
    assert_eq!(conf(&json!({"name": "n"})).valid_attachments(), Ok(ValidAttachments::NotGiven));
}

#[test]
fn null_and_empty_attachments_mean_that_none_is_left() {
    for key in [VALID_ATTACHMENTS, LEGACY_ATTACHMENTS] {
        assert_eq!(valid(key, &Value::Null), Ok(only(&[])));
        assert_eq!(valid(key, &json!([])), Ok(only(&[])));
        let one = json!([{"containerID": "c1", "ifname": "eth0"}]);
        assert_eq!(valid(key, &one), Ok(only(&[("c1", "eth0")])));
    }
}

#[test]
fn the_legacy_key_counts_only_when_the_new_one_is_absent() {
    let both = conf(&json!({
        "name": "n",
        LEGACY_ATTACHMENTS: [{"containerID": "old", "ifname": "eth0"}],
        VALID_ATTACHMENTS: [{"containerID": "new", "ifname": "eth0"}],
    }));
    assert_eq!(both.valid_attachments(), Ok(only(&[("new", "eth0")])));
}

#[test]
fn an_attachment_that_cannot_be_read_is_never_skipped() {
    for entry in [
        json!({"ifname": "eth0"}),
        json!({"containerID": "c1"}),
        json!({"containerID": "", "ifname": "eth0"}),
        json!({"containerID": 7, "ifname": "eth0"}),
        json!("c1"),
        json!(null),
    ] {
        let error = valid(VALID_ATTACHMENTS, &json!([entry])).unwrap_err();
        assert_eq!(error.code, Code::Decode, "{entry}");
        assert!(error.msg.contains(VALID_ATTACHMENTS), "{error}");
    }
    assert!(valid(VALID_ATTACHMENTS, &json!({})).is_err());
}

/// What libcni does before it starts a plugin of a list: name and version go in, and with 1.1.0
/// the newest version that both sides know is taken from `cniVersions`.
#[test]
fn the_conflists_people_copy_are_valid() {
    let cluster = include_str!("../../net.d/10-cbr0.conflist");
    let single = include_str!("../../net.d/10-cbr0-single.conflist");
    for (text, is_single) in [(cluster, false), (single, true)] {
        let list: Value = serde_json::from_str(text).unwrap();
        assert_eq!(list["cniVersion"], "1.0.0", "older runtimes cannot take more");
        assert_eq!(list["name"], "cbr0");
        let versions = list["cniVersions"].as_array().unwrap();
        assert_eq!(versions, &[json!("1.0.0"), json!("1.1.0")]);
        let plugins = list["plugins"].as_array().unwrap();
        // A cluster's Pods have ports of the host.
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        assert_eq!(plugins[1..], if is_single { vec![] } else { vec![portmap] });
        for version in versions {
            let mut plugin = plugins[0].clone();
            plugin["name"] = list["name"].clone();
            plugin["cniVersion"] = version.clone();
            let conf = conf(&plugin);
            assert_eq!(conf.plugin_type, "bridge");
            assert_eq!(json!(conf.version.as_str()), *version);
            assert_eq!(conf.get("bridge"), Ok(Some("cbr0".to_owned())));
            assert_eq!(conf.get("isDefaultGateway"), Ok(Some(true)));
            assert_eq!(conf.get("hairpinMode"), Ok(Some(true)));
            assert_eq!(conf.get("ipMasq"), Ok(is_single.then_some(true)));
            let status = (!is_single).then(|| crate::sync_status::DEFAULT_PATH.to_owned());
            assert_eq!(conf.get("syncStatus"), Ok(status));
            assert_eq!(conf.ipam_type(), Ok(Some("host-local".to_owned())));
        }
    }
}

/// JSON of any shape, made of the keys that are looked at, so that decoding gets far.
fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "cniVersion",
        "name",
        "type",
        "ipam",
        "dns",
        "runtimeConfig",
        "args",
        "cni",
        "prevResult",
        VALID_ATTACHMENTS,
        LEGACY_ATTACHMENTS,
        "containerID",
        "ifname",
        "interfaces",
        "ips",
        "routes",
        "address",
        "gateway",
        "dst",
        "ip4",
        "ip",
        "nameservers",
        "interface",
        "mtu",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9./:-]{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["cbr0", "1.0.0", "0.2.0", "10.0.1.5/24", "2001:db8::1/64"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, v)| (key.to_owned(), v)).collect())
            }),
        ]
    })
}

fn ask_for_everything(conf: &NetConf) {
    let _ = conf.ipam();
    let _ = conf.ipam_type();
    let _ = conf.dns();
    let _ = conf.runtime_config();
    let _ = conf.args_cni();
    let _ = conf.prev_result();
    let _ = conf.valid_attachments();
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(NetConf::parse(&bytes).is_err());
    }

    #[test]
    fn no_json_panics(value in any_json()) {
        if let Ok(conf) = NetConf::parse(value.to_string().as_bytes()) {
            ask_for_everything(&conf);
        }
    }

    #[test]
    fn no_valid_configuration_panics(mut value in any_json()) {
        if let Some(object) = value.as_object_mut() {
            object.insert("name".to_owned(), json!("cbr0"));
            object.insert("cniVersion".to_owned(), json!("1.1.0"));
            object.remove("type");
            ask_for_everything(&conf(&value));
        }
    }
}
