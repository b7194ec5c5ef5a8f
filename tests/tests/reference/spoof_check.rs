//! What the reference's `macspoofchk` made ends with our DEL.

use cbr0_tests::Outcome;
use serde_json::json;

use crate::fixture::{Backend, Scene, assert_same};

#[test]
fn the_chains_of_an_attachment_go_and_another_s_stay() -> Outcome {
    let Some(scene) = Scene::new(Backend::Nftables)? else { return Ok(()) };
    let network = scene.network_with("net", &["10.1.0.0/24"], &json!({"macspoofchk": true}));
    scene.warm_up(&network)?;
    let stays = scene.reference_pod(&network, "stays")?;
    let before = scene.rules()?;
    assert!(before.iter().any(|line| line.contains("cni-br-iface-stays-eth0-mac")));

    let goes = scene.reference_pod(&network, "goes")?;
    let mut ours = scene.ours()?;
    ours.del(&network, &goes.attachment())?;
    assert_same(&before, &scene.rules()?, "DEL");

    let gone = scene.reference_pod(&network, "gone")?;
    ours.del(&network, &gone.attachment().without_netns())?;
    assert_same(&before, &scene.rules()?, "DEL without a namespace");
    Ok(scene.assert_masqueraded(&stays, 1)?)
}
