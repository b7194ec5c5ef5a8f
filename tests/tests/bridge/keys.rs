//! The plugin's keys: each does what it says, in the kernel and in the result.

use std::fs;

use cbr0_tests::Outcome;
use cbr0_tests::pod::{Pod, addresses};
use kernel::{Rtnl, route, sysctl};
use serde_json::{Value, json};

use crate::fixture::{Host, host_end, refused};

#[test]
fn the_result_names_bridge_host_end_and_container() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    let result = host.runtime()?.add(&host.network(&json!({})), &pod.attachment())?;
    let port = host.link(host_end(&result))?.unwrap();
    assert_eq!(
        result["interfaces"],
        json!([
            {"name": "cbr0", "mac": "0a:58:0a:00:01:01"},
            {"name": port.name, "mac": port.mac.unwrap().to_string()},
            {"name": "eth0", "mac": "0a:58:0a:00:01:02", "sandbox": pod.netns().path()},
        ])
    );
    assert_eq!(
        result["ips"],
        json!([{"interface": 2, "address": "10.0.1.2/24", "gateway": "10.0.1.1"}])
    );
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.0.1.1"}]));
    assert_eq!(result.get("dns"), None);
    Ok(())
}

#[test]
fn a_gateway_gets_its_address_and_the_default_gateway_a_route() -> Outcome {
    for (keys, gateway, default_route, forwards) in [
        (json!({"isDefaultGateway": false}), false, false, false),
        (json!({"isDefaultGateway": false, "isGateway": true}), true, false, true),
        (json!({"isDefaultGateway": true}), true, true, true),
    ] {
        let Some(host) = Host::new()? else { return Ok(()) };
        host.node.netns().run(|| sysctl::set("net/ipv4/ip_forward", "0").map(drop))??;
        let pod = Pod::create("pod")?;
        host.runtime()?.add(&host.network(&keys), &pod.attachment())?;
        let bridge = host.link("cbr0")?.unwrap();
        let on_bridge = host.node.rtnl()?.addresses(bridge.index)?;
        assert_eq!(
            on_bridge.iter().any(|one| one.address.to_string() == "10.0.1.1/24"),
            gateway,
            "{keys}"
        );
        let routes = Rtnl::open_in(pod.netns())?.routes(route::TABLE_MAIN)?;
        assert_eq!(
            routes.iter().any(|route| route.destination.prefix() == 0),
            default_route,
            "{keys}"
        );
        let forwarding = host.node.netns().run(|| sysctl::get("net/ipv4/ip_forward"))??;
        assert_eq!(forwarding == "1", forwards, "{keys}");
    }
    Ok(())
}

#[test]
fn a_default_route_of_ipam_is_not_doubled() -> Outcome {
    for route in [json!({"dst": "0.0.0.0/0"}), json!({"dst": "0.0.0.0/0", "gw": "10.0.1.1"})] {
        let Some(host) = Host::new()? else { return Ok(()) };
        let ipam = host.host_local(&json!({"subnet": "10.0.1.0/24", "routes": [route]}));
        let pod = Pod::create("pod")?;
        let result =
            host.runtime()?.add(&host.network(&json!({"ipam": ipam})), &pod.attachment())?;
        assert_eq!(result["routes"], json!([route]));
        let routes = Rtnl::open_in(pod.netns())?.routes(route::TABLE_MAIN)?;
        assert_eq!(routes.iter().filter(|route| route.destination.prefix() == 0).count(), 1);
    }
    Ok(())
}

#[test]
fn the_mtu_is_given_to_both_ends_and_a_new_bridge() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    let result = host.runtime()?.add(&host.network(&json!({"mtu": 1400})), &pod.attachment())?;
    let inside = Rtnl::open_in(pod.netns())?.link_by_name("eth0")?.unwrap();
    let (port, bridge) = (host.link(host_end(&result))?.unwrap(), host.link("cbr0")?.unwrap());
    assert_eq!((inside.mtu, port.mtu, bridge.mtu), (1400, 1400, 1400));
    Ok(())
}

#[test]
fn hairpin_and_promiscuous_mode_are_set_as_asked() -> Outcome {
    for (hairpin, promiscuous) in [(false, false), (true, false), (false, true)] {
        let Some(host) = Host::new()? else { return Ok(()) };
        let network = host.network(&json!({"hairpinMode": hairpin, "promiscMode": promiscuous}));
        let result = host.runtime()?.add(&network, &Pod::create("pod")?.attachment())?;
        let port = host.link(host_end(&result))?.unwrap().port.unwrap();
        assert_eq!(
            (port.hairpin, host.link("cbr0")?.unwrap().is_promiscuous()),
            (hairpin, promiscuous)
        );
    }
    Ok(())
}

#[test]
fn dns_of_the_network_takes_the_place_of_ipam_s() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let file = host.node.folder().join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.53\nsearch example.org\n").unwrap();
    let ipam = host.host_local(&json!({"subnet": "10.0.1.0/24", "resolvConf": file}));
    let mut runtime = host.runtime()?;
    let mut dns = |name: &str, keys: Value| -> Result<Value, cbr0_tests::LabError> {
        Ok(runtime.add(&host.network(&keys), &Pod::create(name)?.attachment())?["dns"].clone())
    };
    let of_ipam = json!({"nameservers": ["192.0.2.53"], "search": ["example.org"]});
    assert_eq!(dns("a", json!({"ipam": ipam}))?, of_ipam);
    let own = json!({"nameservers": ["10.0.1.1"]});
    assert_eq!(dns("b", json!({"ipam": ipam, "dns": own}))?, own);
    assert_eq!(dns("c", json!({"ipam": ipam, "dns": {"search": []}}))?, Value::Null);
    Ok(())
}

#[test]
fn keys_are_read_as_go_reads_them() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(
        &json!({"bridge": null, "BRIDGE": "br-upper", "MTU": 1300, "unknown": {"key": 1}}),
    );
    host.runtime()?.add(&network, &Pod::create("pod")?.attachment())?;
    assert_eq!(host.link("br-upper")?.unwrap().mtu, 1300);
    Ok(())
}

#[test]
fn an_existing_bridge_is_used_as_it_is() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mac = kernel::MacAddress([0x02, 1, 2, 3, 4, 5]);
    let bridge = kernel::link::Bridge { name: "cbr0", mac, mtu: Some(1450) };
    host.node.rtnl()?.request(&bridge.create())?;
    let before = host.link("cbr0")?.unwrap();
    host.runtime()?.add(&host.network(&json!({"mtu": 1450})), &Pod::create("pod")?.attachment())?;
    let after = host.link("cbr0")?.unwrap();
    assert_eq!((after.index, after.mac, after.mtu), (before.index, Some(mac), 1450));
    Ok(())
}

#[test]
fn without_ipam_the_link_is_up_and_has_no_address() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    let network = host.network(&json!({"ipam": {}, "isDefaultGateway": false}));
    let mut runtime = host.runtime()?;
    let result = runtime.add(&network, &pod.attachment())?;
    assert_eq!((result.get("ips"), result["interfaces"].as_array().unwrap().len()), (None, 3));
    let mut inside = Rtnl::open_in(pod.netns())?;
    let eth0 = inside.link_by_name("eth0")?.unwrap();
    assert!(eth0.is_up());
    assert!(inside.addresses(eth0.index)?.iter().all(|one| one.link_local));
    runtime.del(&network, &pod.attachment())?;
    assert_eq!(inside.link_by_name("eth0")?, None);
    Ok(())
}

#[test]
fn a_network_without_addresses_cannot_be_told_in_the_oldest_versions() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut network = host.network(&json!({"ipam": {}}));
    network.version = "0.2.0".into();
    let pod = Pod::create("pod")?;
    let error = refused(host.runtime()?.add(&network, &pod.attachment()));
    assert!(error.msg.contains("cannot convert: no valid IP addresses"), "{error}");
    assert_eq!(Rtnl::open_in(pod.netns())?.links()?.len(), 1, "the link is gone again");
    Ok(())
}

#[test]
fn one_container_may_have_several_interfaces_on_a_network() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network =
        host.network(&json!({"ipMasq": true, "isDefaultGateway": false, "isGateway": true}));
    let before = host.warm_up(&network)?;
    let pod = Pod::create("pod")?;
    let (eth0, mut eth1) = (pod.attachment(), pod.attachment());
    eth1.ifname = "eth1".into();
    let mut runtime = host.runtime()?;
    let first = addresses(&runtime.add(&network, &eth0)?)?;
    let second = addresses(&runtime.add(&network, &eth1)?)?;
    assert_ne!(first, second);
    runtime.del(&network, &eth0)?;
    runtime.check(&network, &eth1)?;
    runtime.del(&network, &eth1)?;
    Ok(host.assert_as(&before)?)
}
