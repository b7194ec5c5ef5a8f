//! The plugin's keys: each does what it says, in the kernel and in the result.

use std::fs;

use cbr0_tests::Outcome;
use cbr0_tests::pod::{Pod, addresses};
use kernel::netlink::Message;
use kernel::{Rtnl, route, sysctl};
use nix::libc;
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
            {"name": "cbr0", "mac": "0a:58:0a:00:01:01", "mtu": 1500},
            {"name": port.name, "mac": port.mac.unwrap().to_string(), "mtu": 1500},
            {"name": "eth0", "mac": "0a:58:0a:00:01:02", "mtu": 1500, "sandbox": pod.netns().path()},
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
fn routes_that_the_kernel_has_already_in_part_are_added_beside() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]);
    let routes = json!([
        {"dst": "0.0.0.0/0", "gw": "10.0.1.1"}, {"dst": "0.0.0.0/0", "gw": "10.0.1.7"},
        {"dst": "::/0", "gw": "fd00:0:0:1::1"}, {"dst": "::/0", "gw": "fd00:0:0:1::7"},
        {"dst": "10.0.1.0/24"}, {"dst": "fd00:0:0:1::/64"},
        {"dst": "192.0.2.0/24", "table": 100}, {"dst": "198.51.100.0/24", "table": 0},
    ]);
    let ipam = host.host_local(&json!({"ranges": ranges, "routes": routes}));
    let network = host.network(&json!({"ipam": ipam}));
    let pod = Pod::create("pod")?;
    let mut runtime = host.runtime()?;
    runtime.add(&network, &pod.attachment())?;
    let made = Rtnl::open_in(pod.netns())?.routes(0)?;
    let count =
        |dst: &str| made.iter().filter(|route| route.destination.to_string() == dst).count();
    assert_eq!(
        (count("0.0.0.0/0"), count("192.0.2.0/24"), count("198.51.100.0/24")),
        (2, 1, 1),
        "{made:#?}"
    );
    Ok(runtime.check(&network, &pod.attachment())?)
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
        let pod = Pod::create("pod")?;
        let result = host.runtime()?.add(&network, &pod.attachment())?;
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
    // The last port would take the bridge's MTU with it.
    let pod = Pod::create("pod")?;
    host.runtime()?.add(&network, &pod.attachment())?;
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
    let pod = Pod::create("pod")?;
    host.runtime()?.add(&host.network(&json!({"mtu": 1450})), &pod.attachment())?;
    let after = host.link("cbr0")?.unwrap();
    assert_eq!((after.index, after.mac, after.mtu), (before.index, Some(mac), 1450));
    Ok(())
}

/// Asks for a bridge as `ip link add … type bridge` does, with these settings of its own.
fn plain_bridge(name: &str, settings: impl FnOnce(Message) -> Message) -> Message {
    const IFLA_INFO_DATA: u16 = 2;
    let header = [0; 16];
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    Message::new("create a bridge", libc::RTM_NEWLINK, flags, &header)
        .put_text(libc::IFLA_IFNAME, name)
        .nest(libc::IFLA_LINKINFO, |info| {
            info.put_text(libc::IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, settings)
        })
}

#[test]
fn the_mac_of_a_bridge_that_somebody_made_stays() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    host.node.rtnl()?.request(&plain_bridge("cbr0", |settings| settings))?;
    let mac = host.link("cbr0")?.unwrap().mac;
    let network = host.network(&json!({}));
    let mut runtime = host.runtime()?;
    for name in ["a", "b", "c", "d"] {
        let result = runtime.add(&network, &Pod::create(name)?.attachment())?;
        assert_eq!(host.link("cbr0")?.unwrap().mac, mac);
        assert_eq!(result["interfaces"][0]["mac"], json!(mac.unwrap().to_string()));
    }
    Ok(())
}

#[test]
fn a_bridge_under_the_spanning_tree_protocol_is_not_waited_for() -> Outcome {
    const IFLA_BR_STP_STATE: u16 = 5;
    let Some(host) = Host::new()? else { return Ok(()) };
    host.node
        .rtnl()?
        .request(&plain_bridge("cbr0", |settings| settings.put_u32(IFLA_BR_STP_STATE, 1)))?;
    let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]);
    let network = host.network(&json!({"ipam": host.host_local(&json!({"ranges": ranges}))}));
    let pod = Pod::create("pod")?;
    let result = host.runtime()?.add(&network, &pod.attachment())?;
    let port = host.link(host_end(&result))?.unwrap();
    assert!(port.is_running() && !port.is_forwarding(), "{port:?}");
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
    let Some(host) = Host::masquerading()? else { return Ok(()) };
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
