//! `macvlan`: a hardware address of the Pod's own on the uplink.

use cbr0_tests::Outcome;
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::sample::MACVLAN;
use kernel::link::{self as links, Kind, MacvlanMode};
use serde_json::json;

use crate::fixture::{assert_error, change, link, refused, scene, with};

#[test]
fn pods_on_one_uplink_reach_each_other_at_once() -> Outcome {
    let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
    let second = Pod::create("second")?;
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    let result = runtime.add(&scene.network, &second.attachment())?;
    let _serving = Endpoint::serve(second.netns())?;
    for address in addresses(&result)? {
        let source = call(scene.pod.netns(), address)?;
        assert_eq!(source.own, source.seen);
    }
    Ok(())
}

#[test]
fn the_mac_follows_the_address_unless_somebody_wishes() -> Outcome {
    let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
    let wished = json!({"mac": "0a:00:00:00:00:01", "args": {"cni": {"mac": "0a:00:00:00:00:02"}}});
    for (keys, mac) in [
        (json!({}), "0a:58:0a:00:01:02"),
        (json!({"mac": "0a:00:00:00:00:01"}), "0a:00:00:00:00:01"),
        (wished, "0a:00:00:00:00:02"),
    ] {
        let network = with(&scene.network, &keys);
        let mut runtime = scene.runtime()?;
        let result = runtime.add(&network, &scene.pod.attachment())?;
        let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
        runtime.del(&network, &scene.pod.attachment())?;
        scene.assert_nothing_left(mac)?;
        assert_eq!(eth0.alias, "net/pod/eth0");
        assert_eq!(result["interfaces"][0]["mac"], json!(eth0.mac.unwrap().to_string()));
        assert_eq!(eth0.mac.unwrap().to_string(), mac, "{keys}");
    }
    Ok(())
}

#[test]
fn every_mode_is_made_and_checked() -> Outcome {
    for (name, mode) in [
        ("bridge", MacvlanMode::Bridge),
        ("private", MacvlanMode::Private),
        ("vepa", MacvlanMode::Vepa),
        ("passthru", MacvlanMode::Passthru),
    ] {
        let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
        let network = with(&scene.network, &json!({"mode": name, "master": "dev0", "mtu": 1400}));
        let mut runtime = scene.runtime()?;
        let result = runtime.add(&network, &scene.pod.attachment())?;
        let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
        assert_eq!(eth0.made_as, Some(Kind::Macvlan { mode, broadcast_queue: Some(500) }));
        assert_eq!((eth0.mtu, &result["interfaces"][0]["mtu"]), (1400, &json!(1400)));
        runtime.check(&network, &scene.pod.attachment())?;
        let other =
            with(&network, &json!({"mode": if name == "vepa" { "bridge" } else { "vepa" }}));
        assert_error(&refused(runtime.check(&other, &scene.pod.attachment())), 102, "mode");
        let moved = with(&network, &json!({"master": "up0"}));
        assert_error(
            &refused(runtime.check(&moved, &scene.pod.attachment())),
            102,
            "not on top of \"up0\"",
        );
        runtime.del(&network, &scene.pod.attachment())?;
        scene.assert_nothing_left(name)?;
    }
    Ok(())
}

#[test]
fn the_master_is_that_of_the_default_route_and_may_be_in_the_container() -> Outcome {
    let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    let uplink = link(scene.host.netns(), "up0")?.unwrap();
    let unnamed = with(&scene.network, &json!({"master": ""}));
    runtime.add(&unnamed, &scene.pod.attachment())?;
    assert_eq!(link(scene.pod.netns(), "eth0")?.unwrap().peer, Some(uplink.index));
    runtime.check(&unnamed, &scene.pod.attachment())?;

    let inside = with(&scene.network, &json!({"master": "eth0", "linkInContainer": true}));
    let mut second = scene.pod.attachment();
    second.ifname = "eth1".into();
    runtime.add(&inside, &second)?;
    assert!(link(scene.pod.netns(), "eth1")?.is_some());
    runtime.check(&inside, &second)?;
    runtime.del(&inside, &second)?;
    runtime.del(&unnamed, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("two interfaces")?)
}

#[test]
fn a_network_without_addresses_is_just_a_link() -> Outcome {
    let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
    let network = with(&scene.network, &json!({"ipam": {}}));
    let mut runtime = scene.runtime()?;
    let result = runtime.add(&network, &scene.pod.attachment())?;
    assert_eq!(result.get("ips"), None, "{result}");
    assert!(link(scene.pod.netns(), "eth0")?.unwrap().is_up());
    runtime.check(&network, &scene.pod.attachment())?;
    runtime.del(&network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("without addresses")?)
}

#[test]
fn what_cannot_be_is_refused() -> Outcome {
    let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
    for (keys, code, words) in [
        (json!({"master": "nosuch"}), 7, "failed to lookup master"),
        (json!({"mtu": 1501}), 7, "at most 1500 bytes"),
        (json!({"mode": "fast"}), 7, "mode \"fast\""),
        (json!({"mac": "01:00:5e:00:00:01"}), 7, "mac \"01:00:5e:00:00:01\""),
    ] {
        let network = with(&scene.network, &keys);
        assert_error(
            &refused(scene.runtime()?.add(&network, &scene.pod.attachment())),
            code,
            words,
        );
        assert_error(&refused(scene.runtime()?.status(&network)), 50, words);
        scene.assert_nothing_left(words)?;
    }
    Ok(())
}

#[test]
fn del_leaves_what_another_attachment_or_nobody_of_ours_made() -> Outcome {
    let Some(scene) = scene(&MACVLAN)? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    let mut other = scene.network.clone();
    other.name = "other".into();
    runtime.del(&other, &scene.pod.attachment())?;
    runtime.check(&scene.network, &scene.pod.attachment())?;
    // Killed before the alias, or made by the reference plugin.
    change(scene.pod.netns(), "eth0", |index| links::set_alias(index, ""))?;
    runtime.del(&scene.network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("without an alias")?)
}
