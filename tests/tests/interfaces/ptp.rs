//! `ptp`: the Pod reaches the host and nothing else, and what is beyond by way of the host.

use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, Source, call};
use cbr0_tests::sample::{PTP, Scene};
use cbr0_tests::{Outcome, Result, require};
use kernel::{Rtnl, address, link as links, route, sysctl};
use serde_json::{Value, json};

use crate::fixture::{assert_error, change, link, refused, scene, with};

/// Both families, behind gateways.
const POD: [&str; 2] = ["10.0.1.2", "fd00:0:0:1::2"];

fn host_end(result: &Value) -> &str {
    result["interfaces"][0]["name"].as_str().unwrap()
}

/// Asserts that a call comes through and shows its true source.
#[track_caller]
fn assert_reaches(
    from: &kernel::NetNs,
    to: &kernel::NetNs,
    address: &str,
    case: &str,
) -> Result<()> {
    let _serving = Endpoint::serve(to)?;
    let Source { own, seen } = call(from, address.parse().unwrap())?;
    assert_eq!(own, seen, "{case}");
    Ok(())
}

#[test]
fn the_pod_and_the_host_reach_each_other_at_once() -> Outcome {
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let result = scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
    let gateways =
        result["ips"].as_array().unwrap().iter().map(|ip| ip["gateway"].as_str().unwrap());
    for (gateway, pod) in gateways.zip(POD) {
        assert_reaches(scene.pod.netns(), scene.host.netns(), gateway, "Pod to gateway")?;
        assert_reaches(scene.host.netns(), scene.pod.netns(), pod, "host to Pod")?;
    }
    Ok(())
}

#[test]
fn pods_of_one_network_reach_each_other_through_the_host() -> Outcome {
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let second = Pod::create("second")?;
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    let result = runtime.add(&scene.network, &second.attachment())?;
    for (first, second_address) in POD.iter().zip(addresses(&result)?) {
        let second_address = second_address.to_string();
        assert_reaches(scene.pod.netns(), second.netns(), &second_address, "first to second")?;
        assert_reaches(second.netns(), scene.pod.netns(), first, "second to first")?;
    }
    // The host's ways to them go with them.
    runtime.del(&scene.network, &second.attachment().without_netns())?;
    runtime.check(&scene.network, &scene.pod.attachment())?;
    Ok(())
}

#[test]
fn the_host_end_has_the_gateways_and_the_pod_nothing_but_them_on_its_link() -> Outcome {
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let result = scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
    let mut host = scene.host.rtnl()?;
    let end = host.link_by_name(host_end(&result))?.unwrap();
    let on_host = host.addresses(end.index)?;
    let on_host: Vec<_> =
        on_host.iter().filter(|one| !one.link_local).map(|one| one.address.to_string()).collect();
    assert_eq!(on_host, ["10.0.1.1/32", "fd00:0:0:1::1/128"]);

    let mut inside = Rtnl::open_in(scene.pod.netns())?;
    let eth0 = inside.link_by_name("eth0")?.unwrap();
    assert_eq!(eth0.mac.unwrap().to_string(), "0a:58:0a:00:01:02");
    let mut routes: Vec<_> = inside
        .routes(route::TABLE_MAIN)?
        .iter()
        .filter(|route| !route.destination.to_string().starts_with("fe80"))
        .map(|route| match route.gateway {
            Some(gateway) => format!("{} via {gateway}", route.destination),
            None => route.destination.to_string(),
        })
        .filter(|route| !route.starts_with("ff00::") && *route != "fd00:0:0:1::2/128")
        .collect();
    routes.sort();
    assert_eq!(
        routes,
        [
            "10.0.1.0/24 via 10.0.1.1",
            "10.0.1.1/32",
            "10.9.0.0/16 via 10.0.1.1",
            "fd00:0:0:1::/64 via fd00:0:0:1::1",
            "fd00:0:0:1::1/128",
        ]
    );
    Ok(())
}

#[test]
fn masquerading_hides_the_pod_from_the_world_and_not_from_its_own_network() -> Outcome {
    if !require::nf_tables()? {
        return Ok(());
    }
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let mut network = scene.network.clone();
    network.plugins[0]["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    scene.runtime()?.add(&network, &scene.pod.attachment())?;
    let _serving = Endpoint::serve(scene.wire())?;
    for (outside, host) in [("10.100.0.1", "10.100.0.2"), ("fd00:100::3", "fd00:100::2")] {
        let source = call(scene.pod.netns(), outside.parse().unwrap())?;
        assert_eq!(source.seen.to_string(), host);
        assert_ne!(source.own, source.seen);
    }
    let second = Pod::create("second")?;
    let result = scene.runtime()?.add(&network, &second.attachment())?;
    for address in addresses(&result)? {
        assert_reaches(scene.pod.netns(), second.netns(), &address.to_string(), "own network")?;
    }
    Ok(())
}

#[test]
fn mtu_and_mac_are_as_wished() -> Outcome {
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let keys = json!({"mtu": 1400, "args": {"cni": {"mac": "0a:00:00:00:00:07"}}});
    let network = with(&scene.network, &keys);
    let result = scene.runtime()?.add(&network, &scene.pod.attachment())?;
    let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
    assert_eq!((eth0.mtu, eth0.mac.unwrap().to_string()), (1400, "0a:00:00:00:00:07".into()));
    assert_eq!(link(scene.host.netns(), host_end(&result))?.unwrap().mtu, 1400);
    assert_eq!(result["interfaces"][1]["mac"], json!("0a:00:00:00:00:07"));
    assert_eq!(result["interfaces"][1]["mtu"], json!(1400));

    let automatic = Pod::create("automatic")?;
    let network = with(&scene.network, &json!({"mtu": "auto"}));
    let uplink = link(scene.host.netns(), "up0")?.unwrap();
    scene.runtime()?.add(&network, &automatic.attachment())?;
    assert_eq!(link(automatic.netns(), "eth0")?.unwrap().mtu, uplink.mtu);
    Ok(())
}

#[test]
fn check_says_what_is_wrong() -> Outcome {
    type Damage = fn(&Scene, &str) -> Result<()>;
    let damages: [(&str, Damage); 7] = [
        ("is down", |scene, end| change(scene.host.netns(), end, links::set_down)),
        ("is gone", |scene, _| change(scene.pod.netns(), "eth0", links::delete)),
        ("lost the gateway address 10.0.1.1/32", |scene, end| {
            change(scene.host.netns(), end, |index| {
                address::delete(index, "10.0.1.1/32".parse().unwrap())
            })
        }),
        ("the host has lost the route to 10.0.1.2/32", |scene, end| {
            change(scene.host.netns(), end, |index| delete_route(index, "10.0.1.2/32"))
        }),
        ("the container has lost the route to 10.0.1.0/24", |scene, _| {
            change(scene.pod.netns(), "eth0", |index| delete_route(index, "10.0.1.0/24"))
        }),
        ("lost the address fd00:0:0:1::2/64", |scene, _| {
            change(scene.pod.netns(), "eth0", |index| {
                address::delete(index, "fd00:0:0:1::2/64".parse().unwrap())
            })
        }),
        ("does not forward", |scene, _| {
            scene.host.netns().run(|| sysctl::set("net/ipv4/ip_forward", "0"))??;
            Ok(())
        }),
    ];
    for (words, damage) in damages {
        let Some(scene) = scene(&PTP)? else { return Ok(()) };
        let mut runtime = scene.runtime()?;
        let result = runtime.add(&scene.network, &scene.pod.attachment())?;
        runtime.check(&scene.network, &scene.pod.attachment())?;
        damage(&scene, host_end(&result))?;
        let error = refused(runtime.check(&scene.network, &scene.pod.attachment()));
        assert_error(&error, 102, words);
        runtime.del(&scene.network, &scene.pod.attachment())?;
        if words != "does not forward" {
            scene.assert_nothing_left(words)?;
        }
    }
    Ok(())
}

fn delete_route(link: u32, destination: &str) -> kernel::netlink::Message {
    let route = route::Route::new(destination.parse().unwrap()).dev(link);
    route::delete(&route::Route { scope: 255, ..route })
}

#[test]
fn an_address_that_the_host_knows_another_way_to_is_refused() -> Outcome {
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let mut host = scene.host.rtnl()?;
    let uplink = host.link_by_name("up0")?.unwrap();
    let foreign = route::Route::new("10.0.1.2/32".parse().unwrap()).dev(uplink.index);
    host.request(&route::add(&foreign))?;
    let before = cbr0_tests::snapshot::Snapshot::take(&scene.host)?;
    let error = refused(scene.runtime()?.add(&scene.network, &scene.pod.attachment()));
    assert_error(&error, 101, "route to 10.0.1.2/32 by link \"up0\"");
    let after = cbr0_tests::snapshot::Snapshot::take(&scene.host)?;
    let shared = cbr0_tests::snapshot::Shared::with_bridge("cbr0");
    assert!(
        before.difference(&after, &shared).is_none(),
        "{:?}",
        before.difference(&after, &shared)
    );
    Ok(())
}

#[test]
fn addresses_and_their_gateways_are_demanded() -> Outcome {
    let Some(scene) = scene(&PTP)? else { return Ok(()) };
    let network = with(&scene.network, &json!({"ipam": {}}));
    let error = refused(scene.runtime()?.add(&network, &scene.pod.attachment()));
    assert_error(&error, 7, "ipam");
    assert_error(&refused(scene.runtime()?.status(&network)), 50, "ipam");
    Ok(scene.assert_nothing_left("without IPAM")?)
}
