//! Rules of several owners in one chain: the reference names its iptables chains by network and
//! container alone, without a mark between the two.

use std::fs;

use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::{LabError, Outcome};

use crate::fixture::{Backend, Scene, assert_same, interface};

const SUBNET: &str = "10.1.0.0/24";

#[test]
fn another_interface_of_the_container_is_masqueraded_until_its_own_del() -> Outcome {
    for backend in Backend::ALL {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let network = scene.network("net", &[SUBNET]);
        // Only one interface of a Pod can have the default route.
        let second = scene.network_with(
            "net",
            &[SUBNET],
            &serde_json::json!({"isDefaultGateway": false, "isGateway": true}),
        );
        scene.warm_up(&network)?;
        let before = scene.rules()?;
        let pod = Pod::create("pod")?;
        scene.theirs().add(&network, &interface(&pod, "eth0"))?;
        let with_one = scene.rules()?;
        let result = scene.theirs().add(&second, &interface(&pod, "eth1"))?;
        assert_eq!(addresses(&result)?.len(), 1);

        let mut ours = scene.ours()?;
        ours.del(&network, &interface(&pod, "eth1"))?;
        assert_same(&with_one, &scene.rules()?, &format!("DEL of eth1, {backend:?}"));
        ours.del(&network, &interface(&pod, "eth1"))?;
        assert_same(&with_one, &scene.rules()?, &format!("DEL of eth1 again, {backend:?}"));
        scene.assert_masqueraded(&pod, 1)?;
        ours.del(&network, &interface(&pod, "eth0"))?;
        assert_same(&before, &scene.rules()?, &format!("DEL of eth0, {backend:?}"));
    }
    Ok(())
}

#[test]
fn two_containers_whose_chain_has_one_name_are_told_apart() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let short = scene.network("net", &[SUBNET]);
        let long = scene.network("net2", &["10.2.0.0/24"]);
        scene.warm_up(&short)?;
        scene.warm_up(&long)?;
        let stays = scene.reference_pod(&long, "pod")?;
        let before = scene.rules()?;

        let goes = scene.reference_pod(&short, "2pod")?;
        scene.ours()?.del(&short, &goes.attachment())?;
        assert_same(&before, &scene.rules()?, &format!("DEL, {backend:?}"));
        scene.assert_masqueraded(&stays, 1)?;
    }
    Ok(())
}

#[test]
fn a_rule_that_somebody_led_to_the_chain_stays_with_the_empty_chain() -> Outcome {
    for (backend, iptables) in
        [(Backend::IptablesNft, "iptables-nft"), (Backend::IptablesLegacy, "iptables-legacy")]
    {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let network = scene.network("net", &[SUBNET]);
        scene.warm_up(&network)?;
        let pod = scene.reference_pod(&network, "pod")?;
        let listing = scene.iptables(iptables, &["-t", "nat", "-S"])?;
        let chain = listing.lines().find_map(|line| line.strip_prefix("-N CNI-")).unwrap();
        let foreign = format!("-A POSTROUTING -o lo -j CNI-{chain}");
        let words = foreign.split(' ');
        scene.iptables(iptables, &["-t", "nat"].into_iter().chain(words).collect::<Vec<_>>())?;

        scene.ours()?.del(&network, &pod.attachment())?;
        let listing = scene.iptables(iptables, &["-t", "nat", "-S"])?;
        let left: Vec<_> = listing.lines().filter(|line| line.contains(chain)).collect();
        assert_eq!(left, [format!("-N CNI-{chain}"), foreign], "{backend:?}");
    }
    Ok(())
}

#[test]
fn without_the_legacy_program_only_a_removal_that_needs_it_fails_and_only_once() -> Outcome {
    let Some(scene) = Scene::new(Backend::IptablesLegacy)? else { return Ok(()) };
    let network = scene.network("net", &[SUBNET]);
    scene.warm_up(&network)?;
    let theirs = scene.reference_pod(&network, "theirs")?;
    let own = Pod::create("own")?;
    let mut ours = scene.ours()?;
    ours.path = Some("/nowhere".to_owned());
    ours.add(&network, &own.attachment())?;
    ours.del(&network, &own.attachment())?;

    match ours.del(&network, &theirs.attachment()) {
        Err(LabError::Plugin(failure)) => {
            let text = failure.error.to_string();
            assert!(text.contains("iptables-legacy: No such file"), "{text}");
            assert!(text.contains("the program must be in PATH"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // The address was released all the same, and a runtime that tries again is done with it.
    let reservation = scene.node().data_dir().join("net/10.1.0.3");
    assert!(!fs::exists(&reservation).unwrap(), "{}", reservation.display());
    ours.del(&network, &theirs.attachment())?;
    Ok(())
}
