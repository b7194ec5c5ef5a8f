//! `dummy`: an interface that leads nowhere.

use cbr0_tests::Outcome;
use cbr0_tests::sample::DUMMY;
use serde_json::json;

use crate::fixture::{assert_error, link, refused, scene, with};

#[test]
fn the_interface_is_up_with_a_mac_by_its_address() -> Outcome {
    let Some(scene) = scene(&DUMMY)? else { return Ok(()) };
    scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
    let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
    assert_eq!((eth0.kind.as_str(), eth0.is_up()), ("dummy", true));
    assert_eq!(eth0.mac.unwrap().to_string(), "0a:58:0a:00:01:02");
    Ok(())
}

#[test]
fn addresses_are_demanded() -> Outcome {
    let Some(scene) = scene(&DUMMY)? else { return Ok(()) };
    let network = with(&scene.network, &json!({"ipam": {}}));
    let error = refused(scene.runtime()?.add(&network, &scene.pod.attachment()));
    assert_error(&error, 7, "ipam");
    Ok(())
}
