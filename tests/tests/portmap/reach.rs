//! Who reaches a Pod by a port of its node, and as whom.

use std::net::IpAddr;

use cbr0_tests::probe::{Endpoint, PORT};
use cbr0_tests::topology::{node_addresses, outside_addresses};
use cbr0_tests::{Outcome, Result};
use kernel::NetNs;
use serde_json::json;

use crate::fixture::{Scene, Server, assert_closed, call, tcp, tcp_at, v4};

fn loopback() -> IpAddr {
    "127.0.0.1".parse().unwrap()
}

/// What only crosses a bridge passes the packet filters, or it does not: the kernel's default is the
/// former, once its module is loaded.
#[test]
fn everybody_reaches_a_mapped_port_until_del() -> Outcome {
    for filtered in ["1", "0"] {
        let Some(scene) = Scene::new()? else { return Ok(()) };
        for family in ["ip", "ip6"] {
            let key = format!("net/bridge/bridge-nf-call-{family}tables");
            let set = scene.node().netns().run(|| kernel::sysctl::set(&key, filtered))?;
            // Without the module nothing is filtered.
            assert!(set.is_ok() || filtered == "1", "{set:?}");
        }
        until_del(&scene)?;
    }
    Ok(())
}

fn until_del(scene: &Scene) -> Outcome {
    let (network, other) =
        (scene.network("net", 1, &json!({})), scene.network("other", 2, &json!({})));
    let server = Server::new("server", json!([tcp(8080)]))?;
    let (neighbour, stranger) =
        (Server::new("neighbour", json!([]))?, Server::new("stranger", json!([]))?);
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &neighbour.attachment)?;
    runtime.add(&other, &stranger.attachment)?;
    let (node, outside) = (scene.node().netns(), scene.topology.outside.netns());
    let callers: [(&str, &NetNs); 5] = [
        ("outside", outside),
        ("the node", node),
        ("a Pod beside it", neighbour.pod.netns()),
        ("a Pod of another network", stranger.pod.netns()),
        ("the Pod itself", server.pod.netns()),
    ];
    for address in node_addresses(1) {
        assert_closed(outside, address, 8080);
        assert_closed(node, address, 8080);
    }
    runtime.add(&network, &server.attachment)?;
    for address in node_addresses(1) {
        for (who, from) in callers {
            call(from, address, 8080)
                .map_err(|error| cbr0_tests::LabError::Wrong(format!("{who}: {error}")))?;
        }
    }
    call(node, loopback(), 8080)?;
    runtime.check(&network, &server.attachment)?;
    runtime.del(&network, &server.attachment)?;
    for address in node_addresses(1) {
        assert_closed(outside, address, 8080);
        assert_closed(neighbour.pod.netns(), address, 8080);
    }
    assert_closed(node, loopback(), 8080);
    Ok(())
}

#[test]
fn the_source_is_kept_unless_the_answer_would_not_come_back() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let server = Server::new("server", json!([tcp(8080)]))?;
    let neighbour = Server::new("neighbour", json!([]))?;
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &neighbour.attachment)?;
    runtime.add(&network, &server.attachment)?;
    for (number, address) in node_addresses(1).into_iter().enumerate() {
        let own = call(scene.node().netns(), address, 8080)?;
        assert_eq!(own.seen, address);
        let outside = call(scene.topology.outside.netns(), address, 8080)?;
        assert_eq!(outside.seen, outside_addresses()[number]);
        let gateway: IpAddr = ["10.1.0.1", "fd00:1::1"][number].parse().unwrap();
        assert_eq!(call(neighbour.pod.netns(), address, 8080)?.seen, gateway);
        assert_eq!(call(server.pod.netns(), address, 8080)?.seen, gateway);
    }
    assert_eq!(call(scene.node().netns(), loopback(), 8080)?.seen.to_string(), "10.1.0.1");
    Ok(())
}

#[test]
fn masquerading_all_hides_every_source() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({"masqAll": true}));
    let server = Server::new("server", json!([tcp(8080)]))?;
    scene.runtime()?.add(&network, &server.attachment)?;
    for (number, address) in node_addresses(1).into_iter().enumerate() {
        let gateway: IpAddr = ["10.1.0.1", "fd00:1::1"][number].parse().unwrap();
        assert_eq!(call(scene.topology.outside.netns(), address, 8080)?.seen, gateway);
    }
    Ok(())
}

#[test]
fn without_source_translation_the_loopback_leads_nowhere() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({"snat": false}));
    let server = Server::new("server", json!([tcp(8080)]))?;
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &server.attachment)?;
    call(scene.topology.outside.netns(), v4(), 8080)?;
    assert_closed(scene.node().netns(), loopback(), 8080);
    Ok(runtime.check(&network, &server.attachment)?)
}

/// `route_localnet` would let whoever is on the bridge speak to what listens on the loopback alone.
#[test]
fn the_loopback_of_the_node_stays_closed_to_pods() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let server = Server::new("server", json!([tcp(8080)]))?;
    scene.runtime()?.add(&network, &server.attachment)?;
    let (pod, node) = (server.pod.netns(), scene.node().netns());
    let _listening = Endpoint::serve(node)?;
    let mut rtnl = kernel::Rtnl::open_in(pod)?;
    let eth0 = rtnl.link_by_name("eth0")?.unwrap().index;
    let lo = rtnl.link_by_name("lo")?.unwrap().index;
    let mut flush = vec![kernel::link::set_down(lo)];
    let route = kernel::route::Route::new("127.0.0.0/8".parse().unwrap());
    flush.push(kernel::route::add(&route.via("10.1.0.1".parse().unwrap()).dev(eth0)));
    rtnl.request_all(&flush)?;
    pod.run(|| kernel::sysctl::set("net/ipv4/conf/eth0/route_localnet", "1"))?.unwrap();
    assert_closed(pod, loopback(), PORT);
    Ok(())
}

#[test]
fn a_port_may_be_mapped_at_one_address_only() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let [here4, here6] = node_addresses(1);
    let (first, second) = (
        Server::new("first", json!([tcp_at(&here4.to_string(), 80), tcp_at("0.0.0.0", 81)]))?,
        Server::new("second", json!([tcp_at("127.0.0.1", 80), tcp_at(&here6.to_string(), 80)]))?,
    );
    let mut runtime = scene.runtime()?;
    for server in [&first, &second] {
        runtime.add(&network, &server.attachment)?;
        runtime.check(&network, &server.attachment)?;
    }
    let (node, outside) = (scene.node().netns(), scene.topology.outside.netns());
    for (from, to, port) in
        [(outside, here4, 80), (outside, here4, 81), (outside, here6, 80), (node, loopback(), 80)]
    {
        call(from, to, port)?;
    }
    assert_closed(outside, here6, 81);
    runtime.del(&network, &first.attachment)?;
    assert_closed(outside, here4, 80);
    call(node, loopback(), 80)?;
    call(outside, here6, 80)?;
    Ok(())
}

fn open_to(scene: &Scene, from: &NetNs, server: &Server, keys: &serde_json::Value) -> Result<bool> {
    let network = scene.network("net", 1, keys);
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &server.attachment)?;
    runtime.check(&network, &server.attachment)?;
    let is_open = call(from, v4(), 8080).is_ok();
    runtime.del(&network, &server.attachment)?;
    Ok(is_open)
}

#[test]
fn conditions_hold_for_their_network_alone() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let outside = scene.topology.outside.netns();
    let server = Server::new("server", json!([tcp(8080)]))?;
    let open = json!({"conditionsV4": ["-s", "192.0.2.0/24", "-p", "tcp"]});
    let free = Server::new("free", json!([tcp(8081)]))?;
    scene.runtime()?.add(&scene.network("free", 2, &json!({})), &free.attachment)?;
    assert!(open_to(&scene, outside, &server, &open)?);
    call(outside, v4(), 8081)?;
    let shut = Server::new("shut", json!([tcp(8080)]))?;
    let closed = scene.network("net", 1, &json!({"conditionsV4": ["!", "-s", "192.0.2.0/24"]}));
    let mut runtime = scene.runtime()?;
    runtime.add(&closed, &shut.attachment)?;
    assert_closed(outside, v4(), 8080);
    call(outside, v4(), 8081)?;
    runtime.check(&closed, &shut.attachment)?;
    Ok(())
}
