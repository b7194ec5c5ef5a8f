//! The IPAM plugin `static`: called as a runtime's delegate would be, and behind the bridge.

use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::Strace;
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use cni_conf::version::SpecVersion;
use serde_json::{Value, json};

fn dual_stack() -> Value {
    json!({
        "type": "static",
        "addresses": [
            {"address": "10.10.0.7/24", "gateway": "10.10.0.254"},
            {"address": "2001:db8:10::7/64", "gateway": "2001:db8:10::fe"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.99.0.0/16", "gw": "10.10.0.9"}],
        "dns": {"nameservers": ["10.10.0.53"], "domain": "example.com"},
    })
}

/// A host and a container for calls of the plugin itself.
struct Scene {
    host: Node,
    pod: Pod,
}

impl Scene {
    fn new() -> Result<Self> {
        Ok(Scene { host: Node::create("host")?, pod: Pod::create("c1")? })
    }

    /// A call as the bridge would make it; `keys` stand beside `ipam`.
    fn call(&self, verb: &str, version: SpecVersion, ipam: &Value, keys: &Value) -> Result<Call> {
        let mut conf = keys.clone();
        for (key, value) in [
            ("cniVersion", json!(version.as_str())),
            ("name", json!("net")),
            ("type", json!("bridge")),
            ("ipam", ipam.clone()),
        ] {
            conf[key] = value;
        }
        let call = Call::new(bins::plugin("static")?, verb)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_NETNS", self.pod.netns().path().to_string_lossy())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", bins::plugin_dir()?.to_string_lossy());
        Ok(call.stdin_json(&conf))
    }
}

fn succeeded(answer: Answer) -> Result<Answer> {
    match answer.code {
        Some(0) => Ok(answer),
        _ => Err(LabError::Wrong(format!("the call failed: {answer:?}"))),
    }
}

/// The result as it is in this version; keys that say nothing may be there or not.
fn expected(version: SpecVersion) -> Value {
    let dns = json!({"nameservers": ["10.10.0.53"], "domain": "example.com"});
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "10.99.0.0/16", "gw": "10.10.0.9"}]);
    if version < SpecVersion::V0_3_0 {
        return json!({
            "cniVersion": version.as_str(),
            "ip4": {"ip": "10.10.0.7/24", "gateway": "10.10.0.254", "routes": routes},
            "ip6": {"ip": "2001:db8:10::7/64", "gateway": "2001:db8:10::fe"},
            "dns": dns,
        });
    }
    let mut ips = json!([
        {"address": "10.10.0.7/24", "gateway": "10.10.0.254"},
        {"address": "2001:db8:10::7/64", "gateway": "2001:db8:10::fe"},
    ]);
    if version < SpecVersion::V1_0_0 {
        ips[0]["version"] = json!("4");
        ips[1]["version"] = json!("6");
    }
    json!({"cniVersion": version.as_str(), "ips": ips, "routes": routes, "dns": dns})
}

#[test]
fn the_answer_in_every_version() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let before = Snapshot::take(&scene.host)?;
    for version in SpecVersion::ALL {
        let call = |verb, keys: &Value| scene.call(verb, version, &dual_stack(), keys);
        let added = succeeded(call("ADD", &json!({}))?.run(&scene.host)?)?.json()?;
        assert_eq!(added, expected(version), "{version}");
        if version >= SpecVersion::V0_4_0 {
            let told = json!({"prevResult": added});
            succeeded(call("CHECK", &told)?.run(&scene.host)?)?;
        }
        if version >= SpecVersion::V1_1_0 {
            for verb in ["STATUS", "GC"] {
                succeeded(
                    call(verb, &json!({"cni.dev/valid-attachments": []}))?.run(&scene.host)?,
                )?;
            }
        }
        for _twice in 0..2 {
            let deleted =
                succeeded(call("DEL", &json!({}))?.env("CNI_NETNS", "").run(&scene.host)?)?;
            assert_eq!(deleted.stdout, "", "{version}");
        }
    }
    let after = Snapshot::take(&scene.host)?;
    assert_eq!(before.difference(&after, &Shared::after_warm_up()), None);
    Ok(())
}

#[test]
fn what_the_runtime_names_adds_or_replaces() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let ipam = json!({"type": "static", "addresses": [{"address": "10.10.0.7/24"}]});
    let args = json!({"args": {"cni": {"ips": ["10.11.0.1/24"]}}});
    let both = json!({
        "args": {"cni": {"ips": ["10.11.0.1/24"]}}, "runtimeConfig": {"ips": ["10.12.0.1/24"]},
    });
    let of_cni_args = json!({"address": "10.13.0.1/24", "gateway": "10.13.0.254"});
    for (keys, ips) in [
        (json!({}), json!([{"address": "10.10.0.7/24"}, of_cni_args])),
        (args, json!([{"address": "10.11.0.1/24"}])),
        (both, json!([{"address": "10.12.0.1/24"}])),
    ] {
        let call = scene
            .call("ADD", SpecVersion::V1_0_0, &ipam, &keys)?
            .env("CNI_ARGS", "IP=10.13.0.1/24;GATEWAY=10.13.0.254");
        assert_eq!(succeeded(call.run(&scene.host)?)?.json()?["ips"], ips, "{keys}");
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_with_the_texts_of_the_reference() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let one = json!([{"address": "10.10.0.7/24"}]);
    let v1 = SpecVersion::V1_0_0;
    let plain = "10.10.0.7";
    for (version, addresses, keys, args, code, text) in [
        (
            v1,
            json!([{"address": plain}]),
            json!({}),
            "",
            7,
            "the 'address' field is expected to be in CIDR notation, got: '10.10.0.7'",
        ),
        (
            v1,
            one.clone(),
            json!({"args": {"cni": {"ips": [plain]}}}),
            "",
            7,
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.0.7'",
        ),
        (
            v1,
            one.clone(),
            json!({"runtimeConfig": {"ips": [plain]}}),
            "",
            7,
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.0.7'",
        ),
        (
            v1,
            one.clone(),
            json!({}),
            "IP=10.10.0.7",
            4,
            "the 'ip' field is expected to be in CIDR notation, got: '10.10.0.7'",
        ),
        (v1, one.clone(), json!({}), "IP=10.10.0.7/24;GATEWAY=x", 4, "invalid gateway address: x"),
        (
            SpecVersion::V0_2_0,
            one,
            json!({}),
            "IP=10.10.0.8/24",
            7,
            "CNI version 0.2.0 does not support more than 1 address per family",
        ),
        (v1, json!([]), json!({}), "", 7, "no IP addresses configured"),
    ] {
        let ipam = json!({"type": "static", "addresses": addresses});
        let answer =
            scene.call("ADD", version, &ipam, &keys)?.env("CNI_ARGS", args).run(&scene.host)?;
        let error = answer.failure().map(|error| (error.code, error.msg));
        assert_eq!(error, Some((code, text.to_owned())), "{answer:?}");
    }
    Ok(())
}

#[test]
fn check_fails_when_an_address_is_not_in_the_result() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let version = SpecVersion::V1_1_0;
    let mut told = expected(version);
    told["ips"] = json!([told["ips"][0]]);
    for keys in [json!({"prevResult": told}), json!({})] {
        let answer = scene.call("CHECK", version, &dual_stack(), &keys)?.run(&scene.host)?;
        assert_eq!(answer.failure().map(|error| error.code), Some(102), "{answer:?}");
    }
    Ok(())
}

fn bridged(version: SpecVersion, ipam: &Value) -> Result<Network> {
    Network::from_value(&json!({"cniVersion": version.as_str(), "name": "net", "plugins": [{
        "type": "bridge", "bridge": "cbr0", "isGateway": true,
        "capabilities": {"ips": true}, "ipam": ipam,
    }]}))
}

/// The addresses inside the Pod that are global.
fn inside(pod: &Pod) -> Result<Vec<String>> {
    let mut rtnl = kernel::Rtnl::open_in(pod.netns())?;
    let eth0 = rtnl.link_by_name("eth0")?;
    let eth0 = eth0.ok_or_else(|| LabError::Wrong("the Pod has no eth0".into()))?;
    let addresses = rtnl.addresses(eth0.index)?;
    let mut texts: Vec<String> = addresses.iter().map(|a| a.address.to_string()).collect();
    texts.retain(|text| !text.starts_with("fe80:"));
    texts.sort();
    Ok(texts)
}

#[test]
fn a_bridge_gives_a_pod_the_addresses() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    for version in SpecVersion::ALL {
        let host = Node::create("host")?;
        let before = Snapshot::take(&host)?;
        let network = bridged(version, &dual_stack())?;
        let pod = Pod::create("pod")?;
        let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
        let result = runtime.add(&network, &pod.attachment())?;
        assert_eq!(inside(&pod)?, ["10.10.0.7/24", "2001:db8:10::7/64"], "{version}: {result}");
        if version >= SpecVersion::V0_4_0 {
            runtime.check(&network, &pod.attachment())?;
        }
        if version >= SpecVersion::V1_1_0 {
            runtime.status(&network)?;
            runtime.gc(&network, &[&pod.attachment()])?;
            runtime.check(&network, &pod.attachment())?;
        }
        runtime.del(&network, &pod.attachment())?;
        let after = Snapshot::take(&host)?;
        assert_eq!(before.difference(&after, &Shared::with_bridge("cbr0")), None, "{version}");
    }
    Ok(())
}

#[test]
fn a_bridge_passes_on_what_the_runtime_names_and_what_static_refuses() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let host = Node::create("host")?;
    let network = bridged(SpecVersion::V1_1_0, &json!({"type": "static"}))?;
    let pod = Pod::create("pod")?;
    let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
    let before = [Snapshot::take(&host)?, Snapshot::of(pod.netns())?];
    match runtime.add(&network, &pod.attachment()) {
        Err(LabError::Plugin(failure)) => {
            assert_eq!(failure.error.code, 7, "{failure}");
            assert_eq!(failure.error.msg, "no IP addresses configured");
        }
        other => Err(LabError::Wrong(format!("the ADD was not refused by the plugin: {other:?}")))?,
    }
    for (before, after) in before.iter().zip([Snapshot::take(&host)?, Snapshot::of(pod.netns())?]) {
        assert_eq!(before.difference(&after, &Shared::after_warm_up()), None);
    }
    let mut named = pod.attachment();
    named.capability_args.insert("ips".into(), json!(["10.20.0.5/16"]));
    runtime.add(&network, &named)?;
    assert_eq!(inside(&pod)?, ["10.20.0.5/16"]);
    runtime.check(&network, &named)?;
    Ok(runtime.del(&network, &named)?)
}

#[test]
fn ours_is_called_without_a_process_of_its_own() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let host = Node::create("host")?;
    let pod = Pod::create("pod")?;
    let attachment: Attachment = pod.attachment();
    let runtime = Runtime::new(&host, bins::plugin_dir()?);
    let network = bridged(SpecVersion::V1_1_0, &dual_stack())?;
    for verb in ["ADD", "STATUS", "GC", "DEL"] {
        let attached = ["ADD", "DEL"].contains(&verb).then_some(&attachment);
        let call = runtime.call(&network, 0, verb, attached)?;
        let (answer, programs) = strace.programs(call, &host)?;
        succeeded(answer)?;
        assert_eq!(programs, [bins::plugin("bridge")?], "{verb}");
    }
    Ok(())
}
