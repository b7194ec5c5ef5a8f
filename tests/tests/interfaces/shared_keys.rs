//! Keys that all plugins of a Pod's interface have.

use cbr0_tests::Outcome;
use cbr0_tests::sample::{self, Sample};
use serde_json::{Value, json};

use crate::fixture::{link, scene, with};

/// A lent link stays as it is.
fn mtu_and_name_servers(sample: &Sample) -> Outcome {
    let Some(scene) = scene(sample)? else { return Ok(()) };
    let dns = json!({
        "nameservers": ["10.0.1.1"], "domain": "pods.example", "search": ["example"],
        "options": ["ndots:2"],
    });
    let network = with(&scene.network, &json!({"mtu": 1400, "dns": dns}));
    let mut runtime = scene.runtime()?;
    let result = runtime.add(&network, &scene.pod.attachment())?;
    assert_eq!(result["dns"], dns);
    let mtu = if sample.lends() { 1500 } else { 1400 };
    let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
    let is_own = |interface: &&Value| interface["name"] == "eth0";
    let told = result["interfaces"].as_array().unwrap().iter().find(is_own).unwrap();
    assert_eq!((eth0.mtu, &told["mtu"]), (mtu, &json!(mtu)));
    runtime.check(&network, &scene.pod.attachment())?;
    runtime.del(&network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("mtu and dns")?)
}

#[test]
fn mtu_and_name_servers_are_as_asked() -> Outcome {
    [
        sample::BRIDGE,
        sample::PTP,
        sample::DUMMY,
        sample::MACVLAN,
        sample::IPVLAN,
        sample::VLAN,
        sample::TAP,
        sample::HOST_DEVICE,
    ]
    .iter()
    .try_for_each(mtu_and_name_servers)
}
