//! `ipvlan`: addresses behind the hardware address of the uplink.

use cbr0_tests::Outcome;
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::sample::IPVLAN;
use serde_json::json;

use crate::fixture::{assert_error, link, refused, scene, with};

#[test]
fn pods_reach_each_other_and_share_the_hardware_address() -> Outcome {
    let Some(scene) = scene(&IPVLAN)? else { return Ok(()) };
    let second = Pod::create("second")?;
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    let result = runtime.add(&scene.network, &second.attachment())?;
    let uplink = link(scene.host.netns(), "up0")?.unwrap();
    assert_eq!(link(scene.pod.netns(), "eth0")?.unwrap().mac, uplink.mac);
    let _serving = Endpoint::serve(second.netns())?;
    for address in addresses(&result)? {
        let source = call(scene.pod.netns(), address)?;
        assert_eq!(source.own, source.seen);
    }
    let other = with(&scene.network, &json!({"mode": "l3"}));
    assert_error(&refused(runtime.check(&other, &scene.pod.attachment())), 102, "mode L3");
    Ok(())
}
