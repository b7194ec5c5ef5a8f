//! `vlan`: the tagged frames of the uplink.

use cbr0_tests::Outcome;
use cbr0_tests::pod::Pod;
use cbr0_tests::sample::VLAN;
use kernel::link::Kind;
use serde_json::json;

use crate::fixture::{assert_error, link, refused, scene, with};

#[test]
fn the_interface_has_the_tag_and_the_address_of_its_master() -> Outcome {
    let Some(scene) = scene(&VLAN)? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
    let uplink = link(scene.host.netns(), "up0")?.unwrap();
    assert_eq!(eth0.made_as, Some(Kind::Vlan { id: 100 }));
    assert_eq!((eth0.mac, eth0.peer), (uplink.mac, Some(uplink.index)));
    let other = with(&scene.network, &json!({"vlanId": 101}));
    let error = refused(runtime.check(&other, &scene.pod.attachment()));
    assert_error(&error, 102, "VLAN ID 101");
    Ok(())
}

#[test]
fn a_tag_that_another_container_has_is_refused() -> Outcome {
    let Some(scene) = scene(&VLAN)? else { return Ok(()) };
    let second = Pod::create("second")?;
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &second.attachment())?;
    let error = refused(runtime.add(&scene.network, &scene.pod.attachment()));
    assert_error(&error, 101, "VLAN ID 100 of \"up0\" is taken");
    assert_error(&error, 101, "choose another \"vlanId\"");
    scene.assert_pod_as_before("a tag that is taken")?;
    runtime.check(&scene.network, &second.attachment())?;
    runtime.add(&scene.network_of_second(), &scene.pod.attachment())?;
    runtime.del(&scene.network, &second.attachment())?;
    runtime.del(&scene.network_of_second(), &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("two tags")?)
}
