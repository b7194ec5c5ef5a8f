//! What the reference masquerades, in each of its ways, ends with our DEL or GC.

use cbr0_tests::pod::Pod;
use cbr0_tests::{LabError, Outcome, bins};
use serde_json::json;

use crate::fixture::{Backend, Scene, assert_same};

const V4: &str = "10.1.0.0/24";
const V6: &str = "fd00:1::/64";

/// A second Pod of the reference stands beside it all the time.
fn del_removes_what_the_reference_added(backend: Backend, subnets: &[&str]) -> Outcome {
    let Some(scene) = Scene::new(backend)? else { return Ok(()) };
    let network = scene.network("net", subnets);
    scene.warm_up(&network)?;
    let stays = scene.reference_pod(&network, "stays")?;
    let before = scene.rules()?;

    let goes = scene.reference_pod(&network, "goes")?;
    assert_ne!(scene.rules()?, before);
    let mut ours = scene.ours()?;
    ours.del(&network, &goes.attachment())?;
    assert_same(&before, &scene.rules()?, &format!("DEL, {backend:?} {subnets:?}"));
    assert_eq!(goes_links(&goes)?, ["lo"]);
    ours.del(&network, &goes.attachment())?;
    assert_same(&before, &scene.rules()?, "a second DEL");

    let goes = scene.reference_pod(&network, "gone")?;
    ours.del(&network, &goes.attachment().without_netns())?;
    assert_same(&before, &scene.rules()?, "DEL without a namespace");
    Ok(scene.assert_masqueraded(&stays, subnets.len())?)
}

/// A runtime keeps its results when its plugins are replaced.
fn check_sees_what_the_reference_added(backend: Backend) -> Outcome {
    for plugin in ["bridge", "ptp"] {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let network = scene.network_with("net", &[V4, V6], &json!({"type": plugin}));
        let pod = Pod::create("pod")?;
        let mut runtime = scene.theirs();
        runtime.add(&network, &pod.attachment())?;
        runtime.cni_path = vec![bins::plugin_dir()?];
        runtime.check(&network, &pod.attachment())?;
        scene.flush()?;
        match runtime.check(&network, &pod.attachment()) {
            Err(LabError::Plugin(failure)) => {
                assert_eq!(failure.error.code, 102, "{plugin}: {failure}");
                assert!(failure.error.msg.contains("not masqueraded"), "{plugin}: {failure}");
            }
            other => panic!("{plugin}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn check_sees_iptables_nft() -> Outcome {
    check_sees_what_the_reference_added(Backend::IptablesNft)
}

#[test]
fn check_sees_iptables_legacy() -> Outcome {
    check_sees_what_the_reference_added(Backend::IptablesLegacy)
}

#[test]
fn check_sees_nftables() -> Outcome {
    check_sees_what_the_reference_added(Backend::Nftables)
}

fn goes_links(pod: &Pod) -> cbr0_tests::Result<Vec<String>> {
    let links = kernel::Rtnl::open_in(pod.netns())?.links()?;
    Ok(links.into_iter().map(|link| link.name).collect())
}

#[test]
fn iptables_nft_of_ipv4() -> Outcome {
    del_removes_what_the_reference_added(Backend::IptablesNft, &[V4])
}

#[test]
fn iptables_nft_of_ipv6() -> Outcome {
    del_removes_what_the_reference_added(Backend::IptablesNft, &[V6])
}

#[test]
fn iptables_nft_of_both() -> Outcome {
    del_removes_what_the_reference_added(Backend::IptablesNft, &[V4, V6])
}

#[test]
fn iptables_legacy_of_ipv4() -> Outcome {
    del_removes_what_the_reference_added(Backend::IptablesLegacy, &[V4])
}

#[test]
fn iptables_legacy_of_ipv6() -> Outcome {
    del_removes_what_the_reference_added(Backend::IptablesLegacy, &[V6])
}

#[test]
fn iptables_legacy_of_both() -> Outcome {
    del_removes_what_the_reference_added(Backend::IptablesLegacy, &[V4, V6])
}

#[test]
fn nftables_of_ipv4() -> Outcome {
    del_removes_what_the_reference_added(Backend::Nftables, &[V4])
}

#[test]
fn nftables_of_ipv6() -> Outcome {
    del_removes_what_the_reference_added(Backend::Nftables, &[V6])
}

#[test]
fn nftables_of_both() -> Outcome {
    del_removes_what_the_reference_added(Backend::Nftables, &[V4, V6])
}

#[test]
fn gc_removes_what_is_not_valid_and_of_this_network_only() -> Outcome {
    for backend in Backend::ALL {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let network = scene.network("net", &[V4, V6]);
        // Its name begins with the other's.
        let other = scene.network("net2", &["10.2.0.0/24"]);
        scene.warm_up(&network)?;
        scene.warm_up(&other)?;
        let valid = scene.reference_pod(&network, "valid")?;
        let foreign = scene.reference_pod(&other, "foreign")?;
        let before = scene.rules()?;

        let _stale = scene.reference_pod(&network, "stale")?;
        scene.ours()?.gc(&network, &[&valid.attachment()])?;
        assert_same(&before, &scene.rules()?, &format!("GC, {backend:?}"));
        scene.assert_masqueraded(&valid, 2)?;
        scene.assert_masqueraded(&foreign, 1)?;
    }
    Ok(())
}

/// Debian's is release 1.1.1.
#[test]
fn an_older_ptp_is_followed_by_ours() -> Outcome {
    let Some(scene) = Scene::new(Backend::IptablesNft)? else { return Ok(()) };
    let Some(mut theirs) = scene.theirs_of_debian()? else { return Ok(()) };
    let mut network = scene.network_with("net", &[V4, V6], &json!({"type": "ptp"}));
    network.version = "1.0.0".to_owned();
    let mut ours = scene.ours()?;
    let (stays, goes, stale) = (Pod::create("stays")?, Pod::create("goes")?, Pod::create("stale")?);
    theirs.add(&network, &goes.attachment())?;
    ours.del(&network, &goes.attachment())?;
    theirs.add(&network, &stays.attachment())?;
    let before = scene.rules()?;

    theirs.add(&network, &goes.attachment())?;
    ours.del(&network, &goes.attachment())?;
    assert_same(&before, &scene.rules()?, "DEL");
    theirs.add(&network, &stale.attachment())?;
    assert_ne!(scene.rules()?, before);
    network.version = "1.1.0".to_owned();
    ours.gc(&network, &[&stays.attachment()])?;
    assert_same(&before, &scene.rules()?, "GC");
    Ok(())
}
