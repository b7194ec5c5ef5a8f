//! Every verb of every plugin, in every version of the specification.

use cbr0_tests::pod::Pod;
use cbr0_tests::sample::{self, Sample, Scene};
use cbr0_tests::{Outcome, Result};
use cni_conf::version::SpecVersion;
use serde_json::{Value, json};

use crate::fixture::{assert_error, refused, with};

/// The tests of each plugin.
macro_rules! verbs {
    ($($plugin:ident: $sample:expr;)*) => {$(
        mod $plugin {
            use super::*;

            #[test]
            fn add_check_and_del_twice_in_every_version() -> Outcome {
                every_version(&$sample)
            }

            #[test]
            fn del_needs_no_living_namespace() -> Outcome {
                dead_namespaces(&$sample)
            }

            #[test]
            fn gc_keeps_the_valid_and_status_is_well() -> Outcome {
                upkeep(&$sample)
            }

            #[test]
            fn what_cannot_be_is_refused_and_leaves_nothing() -> Outcome {
                refusals(&$sample)
            }
        }
    )*};
}

verbs! {
    bridge: sample::BRIDGE;
    ptp: sample::PTP;
    dummy: sample::DUMMY;
    host_device: sample::HOST_DEVICE;
    ipvlan: sample::IPVLAN;
    macvlan: sample::MACVLAN;
    tap: sample::TAP;
    vlan: sample::VLAN;
}

fn every_version(sample: &Sample) -> Outcome {
    if !sample.can_run()? {
        return Ok(());
    }
    for version in SpecVersion::ALL {
        let scene = Scene::new(sample, version.as_str())?;
        let (network, attachment) = (&scene.network, scene.pod.attachment());
        let mut runtime = scene.runtime()?;
        let result = runtime.add(network, &attachment)?;
        assert_shape(&result, version, &scene.pod);
        if version >= SpecVersion::V0_4_0 {
            runtime.check(network, &attachment)?;
        }
        if version >= SpecVersion::V1_1_0 {
            runtime.status(network)?;
        }
        runtime.del(network, &attachment)?;
        scene.assert_nothing_left(&format!("DEL in {version}"))?;
        runtime.del(network, &attachment)?;
        scene.assert_nothing_left(&format!("DEL in {version}, again"))?;
    }
    Ok(())
}

fn assert_shape(result: &Value, version: SpecVersion, pod: &Pod) {
    assert_eq!(result["cniVersion"], json!(version.as_str()));
    if version < SpecVersion::V0_3_0 {
        assert_eq!(result["ip4"]["ip"], json!("10.0.1.2/24"), "{result}");
        assert_eq!(result["ip6"]["ip"], json!("fd00:0:0:1::2/64"), "{result}");
        return;
    }
    let addresses: Vec<_> =
        result["ips"].as_array().unwrap().iter().map(|ip| &ip["address"]).collect();
    assert_eq!(addresses, [&json!("10.0.1.2/24"), &json!("fd00:0:0:1::2/64")], "{result}");
    for ip in result["ips"].as_array().unwrap() {
        let index = usize::try_from(ip["interface"].as_u64().unwrap()).unwrap();
        let interface = &result["interfaces"][index];
        assert_eq!(interface["name"], json!("eth0"), "{result}");
        assert_eq!(interface["sandbox"], json!(pod.netns().path()), "{result}");
        assert_eq!(interface["mac"].as_str().unwrap().len(), 17, "{result}");
        let mtu = (version >= SpecVersion::V1_1_0).then_some(1500);
        assert_eq!(interface.get("mtu").and_then(Value::as_u64), mtu, "{result}");
    }
    assert!(result["routes"].as_array().unwrap().iter().any(|route| route["dst"] == "10.9.0.0/16"));
}

fn dead_namespaces(sample: &Sample) -> Outcome {
    if sample.lends() || !sample.can_run()? {
        return Ok(());
    }
    let scene = Scene::new(sample, "1.1.0")?;
    let mut runtime = scene.runtime()?;
    for dies in [false, true] {
        let pod = Pod::create("short")?;
        let attachment = pod.attachment();
        runtime.add(&scene.network, &attachment)?;
        if dies {
            drop(pod);
            runtime.del(&scene.network, &attachment)?;
        } else {
            runtime.del(&scene.network, &attachment.without_netns())?;
            drop(pod);
        }
        runtime.del(&scene.network, &attachment.without_netns())?;
        scene.assert_host_as_before(&format!("DEL (dead: {dies})"))?;
    }
    Ok(())
}

fn upkeep(sample: &Sample) -> Outcome {
    if !sample.can_run()? {
        return Ok(());
    }
    let scene = Scene::new(sample, "1.1.0")?;
    let (network, kept) = (&scene.network, scene.pod.attachment());
    let mut runtime = scene.runtime()?;
    runtime.status(network)?;
    runtime.add(network, &kept)?;
    if !sample.lends() {
        let lost = Pod::create("lost")?;
        runtime.add(&scene.network_of_second(), &lost.attachment())?;
    }
    runtime.gc(network, &[&kept])?;
    runtime.check(network, &kept)?;
    let reservations = || reservations(&scene);
    assert_eq!(reservations(), ["10.0.1.2", "fd00:0:0:1::2"]);
    let mut other = network.clone();
    other.name = "other".into();
    runtime.gc(&other, &[])?;
    runtime.check(network, &kept)?;
    runtime.status(network)?;
    runtime.del(network, &kept)?;
    scene.assert_nothing_left("GC, then DEL")?;
    if !sample.lends() {
        assert_error(&refused(runtime.status(&with(network, &json!({"mtu": 1})))), 50, "mtu 1");
    }
    Ok(())
}

/// The addresses that are taken in the scene's network.
fn reservations(scene: &Scene) -> Vec<String> {
    let folder = scene.host.data_dir().join("net");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "lock" && !name.starts_with("last_reserved_ip."));
    names.sort();
    names
}

fn refusals(sample: &Sample) -> Outcome {
    if !sample.can_run()? {
        return Ok(());
    }
    let scene = Scene::new(sample, "1.1.0")?;
    let mut runtime = scene.runtime()?;
    let attachment = scene.pod.attachment();
    let mut refused_with = |keys: &Value, code: u64, words: &str| -> Result<()> {
        let network = with(&scene.network, keys);
        assert_error(&refused(runtime.add(&network, &attachment)), code, words);
        scene.assert_nothing_left(words)
    };
    if !sample.lends() {
        refused_with(&json!({"mtu": 67}), 7, "mtu 67")?;
    }
    let nothing = json!({"type": "host-local", "ranges": [[{"subnet": "10.0.1.0/30"}, {"subnet": "10.0.1.0/30"}]]});
    refused_with(&json!({"ipam": nothing}), 7, "overlap")?;

    let mut gone = scene.pod.attachment();
    gone.netns = "/no/netns".into();
    assert_error(&refused(scene.runtime()?.add(&scene.network, &gone)), 8, "/no/netns");
    let mut taken = scene.pod.attachment();
    taken.ifname = "lo".into();
    assert_error(&refused(scene.runtime()?.add(&scene.network, &taken)), 101, "already exists");
    Ok(scene.assert_nothing_left("refusals")?)
}
