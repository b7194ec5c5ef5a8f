//! Ports of several owners in one chain: the reference's names for them tell the interface never, and
//! the network not always.

use cbr0_tests::Outcome;
use cbr0_tests::pod::Pod;
use serde_json::json;

use crate::fixture::{Backend, Scene, assert_same, interface};
use crate::host_ports::{Server, assert_reached, mapped, network, warm_up};

const SUBNETS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

#[test]
fn the_ports_of_another_interface_of_the_container_stay_until_its_own_del() -> Outcome {
    for backend in Backend::ALL {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let net = network(&scene, backend, "net", &SUBNETS);
        // Only one interface of a Pod can have the default route.
        let mut second = net.clone();
        second.plugins[0].insert("isDefaultGateway".into(), json!(false));
        second.plugins[0].insert("isGateway".into(), json!(true));
        warm_up(&scene, &net)?;
        let before = scene.rules()?;
        let server = Server::add(&scene, &net, "pod", 8000)?;
        let with_one = scene.rules()?;
        let eth1 = interface(&server.pod, "eth1");
        scene.theirs().add(&second, &mapped(eth1.clone(), 8100))?;
        assert_ne!(scene.rules()?, with_one);

        let mut ours = scene.ours()?;
        for turn in ["DEL", "a second DEL"] {
            ours.del(&second, &eth1)?;
            assert_same(&with_one, &scene.rules()?, &format!("{turn} of eth1, {backend:?}"));
        }
        assert_reached(&scene, 8000)?;
        ours.del(&net, &server.pod.attachment())?;
        assert_same(&before, &scene.rules()?, &format!("DEL of eth0, {backend:?}"));
    }
    Ok(())
}

#[test]
fn two_containers_whose_chain_has_one_name_are_told_apart() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let short = network(&scene, backend, "net", &SUBNETS);
        let long = network(&scene, backend, "net2", &["10.2.0.0/24", "fd00:2::/64"]);
        warm_up(&scene, &short)?;
        warm_up(&scene, &long)?;
        let _stays = Server::add(&scene, &long, "pod", 8000)?;
        let before = scene.rules()?;

        let goes = Pod::create("2pod")?;
        scene.theirs().add(&short, &mapped(goes.attachment(), 8100))?;
        assert_ne!(scene.rules()?, before);
        scene.ours()?.del(&short, &goes.attachment())?;
        assert_same(&before, &scene.rules()?, &format!("DEL, {backend:?}"));
        assert_reached(&scene, 8000)?;
    }
    Ok(())
}

#[test]
fn a_rule_that_somebody_led_to_the_chain_stays_with_the_empty_chain() -> Outcome {
    for (backend, iptables) in
        [(Backend::IptablesNft, "iptables-nft"), (Backend::IptablesLegacy, "iptables-legacy")]
    {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let net = network(&scene, backend, "net", &SUBNETS);
        let pod = Pod::create("pod")?;
        scene.theirs().add(&net, &mapped(pod.attachment(), 8000))?;
        let listing = scene.iptables(iptables, &["-t", "nat", "-S"])?;
        let chain = listing.lines().find_map(|line| line.strip_prefix("-N CNI-DN-")).unwrap();
        let foreign = format!("-A OUTPUT -o lo -j CNI-DN-{chain}");
        let words = ["-t", "nat"].into_iter().chain(foreign.split(' ')).collect::<Vec<_>>();
        scene.iptables(iptables, &words)?;

        scene.ours()?.del(&net, &pod.attachment())?;
        let listing = scene.iptables(iptables, &["-t", "nat", "-S"])?;
        let left: Vec<_> = listing.lines().filter(|line| line.contains(chain)).collect();
        assert_eq!(left, [format!("-N CNI-DN-{chain}"), foreign], "{backend:?}");
    }
    Ok(())
}

/// With the backend `nftables`, the reference's own DEL takes the ports of all of a container's
/// networks.
#[test]
fn two_networks_of_one_container_are_independent() -> Outcome {
    for backend in Backend::ALL {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let net = network(&scene, backend, "net", &SUBNETS);
        let mut other = network(&scene, backend, "other", &["10.2.0.0/24", "fd00:2::/64"]);
        other.plugins[0].insert("isDefaultGateway".into(), json!(false));
        other.plugins[0].insert("isGateway".into(), json!(true));
        warm_up(&scene, &net)?;
        warm_up(&scene, &other)?;
        let server = Server::add(&scene, &net, "pod", 8000)?;
        let with_one = scene.rules()?;
        let eth1 = interface(&server.pod, "eth1");
        scene.theirs().add(&other, &mapped(eth1.clone(), 8100))?;
        scene.ours()?.del(&other, &eth1)?;
        assert_same(&with_one, &scene.rules()?, &format!("DEL of eth1, {backend:?}"));
        assert_reached(&scene, 8000)?;
    }
    Ok(())
}
