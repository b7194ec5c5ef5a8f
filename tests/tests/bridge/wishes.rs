//! What a container, its routes and the bridge's addresses are wished to be like.

use cbr0_tests::pod::Pod;
use cbr0_tests::{Outcome, Result};
use kernel::link::{Bridge, Veth, VethPeer};
use kernel::{MacAddress, NetNs, Rtnl, address, link, sysctl};
use serde_json::{Value, json};

use crate::fixture::{Host, assert_error, host_end, refused};

#[test]
fn a_wished_mac_is_the_containers_the_runtimes_wish_first() -> Outcome {
    let mac = |number: u8| format!("0a:00:00:00:00:{number:02x}");
    let runtime = json!({"runtimeConfig": {"mac": mac(1)}, "args": {"cni": {"mac": mac(2)}}});
    let args = json!({"args": {"cni": {"mac": mac(2)}}});
    let old = format!("IgnoreUnknown=1;MAC={}", mac(3));
    for (keys, wished) in [(runtime, mac(1)), (args, mac(2)), (json!({}), mac(3))] {
        let Some(host) = Host::new()? else { return Ok(()) };
        let network = host.network(&keys);
        let pod = Pod::create("pod")?;
        let mut attachment = pod.attachment();
        attachment.args = old.clone();
        let mut runtime = host.runtime()?;
        let result = runtime.add(&network, &attachment)?;
        let inside = Rtnl::open_in(pod.netns())?.link_by_name("eth0")?.unwrap();
        assert_eq!(inside.mac.unwrap().to_string(), wished);
        assert_eq!(result["interfaces"][2]["mac"], json!(wished));
        runtime.check(&network, &attachment)?;
    }
    Ok(())
}

/// The routes of a Pod whose IPAM gives this one.
fn with_route(route: &Value) -> Result<Option<Vec<kernel::route::Route>>> {
    let Some(host) = Host::new()? else { return Ok(None) };
    let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]);
    let ipam = host.host_local(&json!({"ranges": ranges, "routes": [route]}));
    let network = host.network(&json!({"ipam": ipam}));
    let pod = Pod::create("pod")?;
    let mut runtime = host.runtime()?;
    let result = runtime.add(&network, &pod.attachment())?;
    assert_eq!(result["routes"][0], *route);
    runtime.check(&network, &pod.attachment())?;
    Ok(Some(Rtnl::open_in(pod.netns())?.routes(0)?))
}

#[test]
fn the_options_of_a_route_are_in_the_kernel() -> Outcome {
    for (dst, scope) in [("192.0.2.0/24", Some(253)), ("2001:db8::/32", None)] {
        let mut asked =
            json!({"dst": dst, "mtu": 1400, "advmss": 1300, "priority": 7, "table": 100});
        if let Some(scope) = scope {
            asked["scope"] = json!(scope);
        }
        let Some(routes) = with_route(&asked)? else { return Ok(()) };
        let found = routes.iter().find(|route| route.destination.to_string() == dst).unwrap();
        assert_eq!(
            (found.mtu, found.advmss, found.priority, found.table),
            (Some(1400), Some(1300), 7, 100),
            "{found:?}"
        );
        assert_eq!(found.scope, scope.unwrap_or(0));
    }
    Ok(())
}

#[test]
fn force_address_replaces_what_stands_in_the_way() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let bridge = Bridge { name: "cbr0", mac: MacAddress([2, 0, 0, 0, 0, 1]), mtu: None };
    let mut rtnl = host.node.rtnl()?;
    rtnl.request(&bridge.create())?;
    let index = host.link("cbr0")?.unwrap().index;
    let old = ["10.0.9.1/24", "10.0.1.254/24", "fd00:0:0:1::9/64", "fd00:0:0:9::1/64"];
    let add = |text: &str| address::add(index, text.parse().unwrap(), false);
    rtnl.request_all(&old.map(add))?;

    let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]);
    let ipam = host.host_local(&json!({"ranges": ranges}));
    let polite = host.network(&json!({"ipam": ipam}));
    let error = refused(host.runtime()?.add(&polite, &Pod::create("polite")?.attachment()));
    assert_error(&error, 101, "already has an IP address different from 10.0.1.1/24");

    let forced = host.network(&json!({"ipam": ipam, "forceAddress": true}));
    host.runtime()?.add(&forced, &Pod::create("pod")?.attachment())?;
    let mut now: Vec<_> = rtnl
        .addresses(index)?
        .into_iter()
        .filter(|address| !address.link_local)
        .map(|address| address.address.to_string())
        .collect();
    now.sort();
    assert_eq!(now, ["10.0.1.1/24", "fd00:0:0:1::1/64", "fd00:0:0:9::1/64"]);
    Ok(())
}

/// A host with a bridge, on which somebody has `fd00:0:0:1::2` already.
fn with_stranger(host: &Host) -> Result<NetNs> {
    let stranger = NetNs::create()?;
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    let mut rtnl = host.node.rtnl()?;
    rtnl.request(&Bridge { name: "cbr0", mac, mtu: None }.create())?;
    let bridge = host.link("cbr0")?.unwrap().index;
    let peer = VethPeer { namespace: &stranger, name: "eth0", mac: None };
    let mac = MacAddress([2, 0, 0, 0, 0, 2]);
    rtnl.request(&Veth { name: "stranger", mac, master: Some(bridge), mtu: None, peer }.create())?;
    let mut inside = Rtnl::open_in(&stranger)?;
    let eth0 = inside.link_by_name("eth0")?.unwrap().index;
    let own = address::add(eth0, "fd00:0:0:1::2/64".parse().unwrap(), false);
    inside.request_all(&[link::set_up(eth0), own])?;
    Ok(stranger)
}

#[test]
fn enabledad_finds_who_has_the_address_already_and_undoes_the_add() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let _stranger = with_stranger(&host)?;
    let range = json!({"subnet": "fd00:0:0:1::/64"});
    let ipam = host.host_local(&range);
    let network = host.network(&json!({"enabledad": true, "ipam": ipam, "hairpinMode": false}));
    let pod = Pod::create("pod")?;
    let error = refused(host.runtime()?.add(&network, &pod.attachment()));
    assert_error(&error, 101, "fd00:0:0:1::2/64 of \"eth0\" is in use");
    assert!(!host.node.data_dir().join("cbr0/fd00:0:0:1::2").exists());

    // The next address is nobody's.
    host.runtime()?.add(&network, &pod.attachment())?;
    let dad = |key: &str| format!("net/ipv6/conf/eth0/{key}");
    for key in ["accept_dad", "enhanced_dad"] {
        assert_eq!(pod.netns().run(|| sysctl::get(&dad(key)))??, "1");
    }
    Ok(())
}

#[test]
fn isolated_ports_reach_the_host_and_not_each_other() -> Outcome {
    for isolated in [false, true] {
        let Some(host) = Host::new()? else { return Ok(()) };
        let network = host.network(&json!({"portIsolation": isolated}));
        let mut runtime = host.runtime()?;
        let (first, second) = (Pod::create("first")?, Pod::create("second")?);
        let result = runtime.add(&network, &first.attachment())?;
        runtime.add(&network, &second.attachment())?;
        runtime.check(&network, &first.attachment())?;
        let _first = cbr0_tests::probe::Endpoint::serve(first.netns())?;
        let address = "10.0.1.2".parse().unwrap();
        let patience = std::time::Duration::from_secs(1);
        cbr0_tests::probe::call(host.node.netns(), address)?;
        let reached = cbr0_tests::probe::call_within(second.netns(), address, patience).is_ok();
        assert_eq!(reached, !isolated);

        let port = host.link(host_end(&result))?.unwrap().index;
        host.node.rtnl()?.request(&link::set_isolated(port, !isolated))?;
        let error = refused(runtime.check(&network, &first.attachment()));
        assert_error(&error, 102, "isolation of");
    }
    Ok(())
}
