//! `tap`: an interface whose other end is a file.

use cbr0_tests::Outcome;
use cbr0_tests::sample::TAP;
use kernel::link::Bridge;
use kernel::{MacAddress, Rtnl};
use serde_json::json;

use crate::fixture::{assert_error, link, refused, scene, with};

#[test]
fn the_tap_is_as_wished_and_stays() -> Outcome {
    let Some(scene) = scene(&TAP)? else { return Ok(()) };
    let network = with(&scene.network, &json!({"mtu": 1400, "mac": "0a:00:00:00:00:07"}));
    let mut runtime = scene.runtime()?;
    let result = runtime.add(&network, &scene.pod.attachment())?;
    let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
    assert_eq!((eth0.kind.as_str(), eth0.mtu, eth0.alias.as_str()), ("tun", 1400, "net/pod/eth0"));
    assert_eq!(eth0.mac.unwrap().to_string(), "0a:00:00:00:00:07");
    assert_eq!(result["interfaces"][0]["mac"], json!("0a:00:00:00:00:07"));
    runtime.check(&network, &scene.pod.attachment())?;
    runtime.del(&network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("a tap")?)
}

#[test]
fn the_tap_becomes_a_port_of_a_bridge_of_the_container() -> Outcome {
    let Some(scene) = scene(&TAP)? else { return Ok(()) };
    let network = with(&scene.network, &json!({"bridge": "br0", "ipam": {}}));
    let mut runtime = scene.runtime()?;
    let error = refused(runtime.add(&network, &scene.pod.attachment()));
    assert_error(&error, 7, "bridge \"br0\"");
    scene.assert_nothing_left("without the bridge")?;

    let bridge = Bridge { name: "br0", mac: MacAddress([2, 0, 0, 0, 0, 9]), mtu: None };
    Rtnl::open_in(scene.pod.netns())?.request(&bridge.create())?;
    runtime.add(&network, &scene.pod.attachment())?;
    let bridge = link(scene.pod.netns(), "br0")?.unwrap();
    assert_eq!(link(scene.pod.netns(), "eth0")?.unwrap().master, Some(bridge.index));
    Ok(runtime.check(&network, &scene.pod.attachment())?)
}

#[test]
fn a_label_is_refused_rather_than_ignored() -> Outcome {
    let Some(scene) = scene(&TAP)? else { return Ok(()) };
    let network = with(&scene.network, &json!({"selinuxContext": "u:r:t"}));
    let error = refused(scene.runtime()?.add(&network, &scene.pod.attachment()));
    assert_error(&error, 2, "selinuxContext");
    Ok(())
}
