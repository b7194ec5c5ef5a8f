//! Every verb of `vrf`, in every version of the specification.

use cbr0_tests::pod::Pod;
use cbr0_tests::require;
use cbr0_tests::runtime::{Attachment, Network};
use cbr0_tests::sample::{BRIDGE, Scene};
use cbr0_tests::{Outcome, Result};
use cni_conf::version::SpecVersion;
use serde_json::json;

use super::{alone, behind, routes};
use crate::fixture::{assert_error, link, refused};

/// A bridge's network of a version with `vrf` behind it; `None` where the kernel has no VRFs.
fn scene(version: SpecVersion) -> Result<Option<Scene>> {
    if !BRIDGE.can_run()? || !require::link_kind("vrf")? {
        return Ok(None);
    }
    let mut scene = Scene::new(&BRIDGE, version.as_str())?;
    scene.network = behind(&scene.network, &json!({"table": 7}));
    Ok(Some(scene))
}

/// The network with `vrf` alone.
fn last(network: &Network) -> Network {
    let mut network = network.clone();
    network.plugins.remove(0);
    network
}

/// The name of the VRF that the Pod's interface is in.
fn vrf_of(pod: &Pod) -> Result<Option<String>> {
    let Some(index) = link(pod.netns(), "eth0")?.unwrap().master else { return Ok(None) };
    let found = kernel::Rtnl::open_in(pod.netns())?.link_by_index(index)?;
    Ok(found.map(|vrf| vrf.name))
}

/// Calls DEL of `vrf` alone, as a runtime calls it first of the list.
fn del_last(scene: &Scene, attachment: &Attachment) -> Result<()> {
    scene.runtime()?.del(&last(&scene.network), attachment)
}

#[test]
fn add_check_status_and_del_twice_in_every_version() -> Outcome {
    for version in SpecVersion::ALL {
        let Some(scene) = scene(version)? else { return Ok(()) };
        let (network, attachment) = (&scene.network, scene.pod.attachment());
        let mut runtime = scene.runtime()?;
        let result = runtime.add(network, &attachment)?;
        assert_eq!(result["cniVersion"], json!(version.as_str()));
        assert_eq!(vrf_of(&scene.pod)?.as_deref(), Some("blue"), "{version}");
        if version >= SpecVersion::V0_4_0 {
            runtime.check(network, &attachment)?;
        }
        if version >= SpecVersion::V1_1_0 {
            runtime.status(network)?;
            runtime.gc(network, &[&attachment])?;
            runtime.check(network, &attachment)?;
        }
        let in_vrf = routes(&scene.pod, "eth0", 7)?;
        for case in ["DEL", "DEL again"] {
            del_last(&scene, &attachment)?;
            assert_eq!(vrf_of(&scene.pod)?, None, "{case} in {version}");
            assert!(link(scene.pod.netns(), "blue")?.is_none(), "{case} in {version}");
        }
        assert!(in_vrf.iter().any(|route| route.starts_with("10.9.0.0/16")), "{in_vrf:?}");
        runtime.del(network, &attachment)?;
        scene.assert_nothing_left(&format!("DEL in {version}"))?;
        runtime.del(network, &attachment)?;
        scene.assert_nothing_left(&format!("DEL in {version}, again"))?;
    }
    Ok(())
}

#[test]
fn del_without_a_namespace_or_with_a_dead_one_in_every_version() -> Outcome {
    for version in SpecVersion::ALL {
        let Some(scene) = scene(version)? else { return Ok(()) };
        let mut runtime = scene.runtime()?;
        for dies in [false, true] {
            let pod = Pod::create("short")?;
            let attachment = pod.attachment();
            runtime.add(&scene.network, &attachment)?;
            if dies {
                drop(pod);
                del_last(&scene, &attachment)?;
            } else {
                del_last(&scene, &attachment.without_netns())?;
                assert_eq!(vrf_of(&pod)?.as_deref(), Some("blue"), "{version}");
                drop(pod);
            }
            runtime.del(&alone(&scene), &attachment.without_netns())?;
            scene.assert_host_as_before(&format!("DEL in {version} (dead: {dies})"))?;
        }
    }
    Ok(())
}

#[test]
fn gc_leaves_the_valid_and_status_reads_the_configuration() -> Outcome {
    let Some(scene) = scene(SpecVersion::V1_1_0)? else { return Ok(()) };
    let (network, kept) = (&scene.network, scene.pod.attachment());
    let mut runtime = scene.runtime()?;
    runtime.status(network)?;
    runtime.add(network, &kept)?;
    let lost = Pod::create("lost")?;
    runtime.add(network, &lost.attachment())?;
    drop(lost);
    runtime.gc(network, &[&kept])?;
    runtime.check(network, &kept)?;
    for (keys, words) in
        [(json!({"vrfname": "a/b"}), "valid vrf name"), (json!({"table": -1}), "table")]
    {
        let wrong = last(&behind(network, &keys));
        assert_error(&refused(runtime.status(&wrong)), 50, words);
    }
    runtime.del(network, &kept)?;
    Ok(scene.assert_nothing_left("GC, then DEL")?)
}
