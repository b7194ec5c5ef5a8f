//! `ingressPolicy`, by real traffic, on a host without `br_netfilter`.

use std::net::UdpSocket;
use std::time::Duration;

use cbr0_tests::Outcome;
use cbr0_tests::probe::{Endpoint, call};
use kernel::{NetNs, Rtnl, neighbour};
use serde_json::json;

use super::fixture::{Answering, Host, refused};

#[test]
fn same_bridge_keeps_bridges_with_a_policy_apart_and_no_others() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let policy = json!({"ingressPolicy": "same-bridge"});
    let networks =
        [host.network(1, &policy), host.network(2, &policy), host.network(3, &json!({}))];
    let one = Answering::add(&mut runtime, &networks[0], "one")?;
    let beside = Answering::add(&mut runtime, &networks[0], "beside")?;
    let two = Answering::add(&mut runtime, &networks[1], "two")?;
    let open = Answering::add(&mut runtime, &networks[2], "open")?;
    one.assert_reaches(&beside, "on one bridge");
    one.assert_does_not_reach(&two, "from bridge to bridge");
    two.assert_does_not_reach(&one, "and back");
    one.assert_reaches(&open, "to a bridge without a policy");
    open.assert_reaches(&one, "and back");
    let _host = Endpoint::serve(host.node.netns())?;
    call(one.pod.netns(), "10.0.1.1".parse()?)?;
    call(host.node.netns(), one.addresses[0])?;
    for (network, end) in networks.iter().zip([&one, &two, &open]) {
        runtime.check(network, &end.pod.attachment())?;
    }

    runtime.del(&networks[0], &one.pod.attachment())?;
    beside.assert_does_not_reach(&two, "after one Pod of a bridge");
    runtime.del(&networks[0], &beside.pod.attachment())?;
    assert_eq!(host.owned()?.iter().filter(|name| *name == "bridge-br1").count(), 0);
    runtime.del(&networks[1], &two.pod.attachment())?;
    assert!(host.owned()?.iter().all(|name| name.starts_with("att-")), "{:?}", host.owned()?);
    Ok(())
}

#[test]
fn isolated_pods_have_the_host_and_nobody_else() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let network = host.network(1, &json!({"ingressPolicy": "isolated"}));
    let mut beside = host.network(2, &json!({"ingressPolicy": "same-bridge"}));
    let open = host.network(3, &json!({}));
    let one = Answering::add(&mut runtime, &network, "one")?;
    let two = Answering::add(&mut runtime, &network, "two")?;
    let elsewhere = Answering::add(&mut runtime, &beside, "elsewhere")?;
    let world = Answering::add(&mut runtime, &open, "world")?;
    one.assert_does_not_reach(&two, "on one bridge");
    one.assert_does_not_reach(&elsewhere, "from bridge to bridge");
    elsewhere.assert_does_not_reach(&one, "and back");
    one.assert_reaches(&world, "to a bridge without a policy");
    let _host = Endpoint::serve(host.node.netns())?;
    call(one.pod.netns(), "10.0.1.1".parse()?)?;
    call(host.node.netns(), one.addresses[1])?;
    runtime.check(&network, &one.pod.attachment())?;

    // Another network's Pod on the very bridge.
    beside.name = "guests".into();
    beside.plugins[0].insert("bridge".into(), json!("br1"));
    beside.plugins[0]["ipam"]["ranges"] =
        json!([[{"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.100"}]]);
    let guest = Answering::add(&mut runtime, &beside, "guest")?;
    guest.assert_does_not_reach(&one, "a guest on the bridge");
    one.assert_does_not_reach(&guest, "to a guest on the bridge");

    runtime.del(&network, &one.pod.attachment())?;
    runtime.check(&network, &two.pod.attachment())?;
    runtime.del(&network, &two.pod.attachment())?;
    runtime.check(&beside, &guest.pod.attachment())?;
    let left = host.owned()?;
    assert!(left.contains(&"bridge-br1".to_owned()), "the guest needs it: {left:?}");
    runtime.del(&beside, &guest.pod.attachment())?;
    assert!(!host.owned()?.contains(&"bridge-br1".to_owned()));
    Ok(())
}

/// What needs no answer must not come in either.
#[test]
fn nothing_comes_in_to_an_isolated_pod_that_needs_no_answer() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let isolated = host.network(1, &json!({"ingressPolicy": "isolated"}));
    let mut open = host.network(1, &json!({}));
    open.name = "open".into();
    open.plugins[0]["ipam"]["ranges"] =
        json!([[{"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.100"}]]);
    let one = Answering::add(&mut runtime, &isolated, "one")?;
    let guest = Answering::add(&mut runtime, &open, "guest")?;
    let mac = Rtnl::open_in(one.pod.netns())?.link_by_name("eth0")?.unwrap().mac.unwrap();
    let mut inside = Rtnl::open_in(guest.pod.netns())?;
    let link = inside.link_by_name("eth0")?.unwrap().index;
    inside.request(&neighbour::set(link, one.addresses[0], mac))?;

    let socket = |netns: &NetNs| netns.run(|| UdpSocket::bind("0.0.0.0:7001"));
    let ear = socket(one.pod.netns())??;
    ear.set_read_timeout(Some(Duration::from_secs(60)))?;
    for netns in [guest.pod.netns(), host.node.netns()] {
        socket(netns)??.send_to(b"a word", (one.addresses[0], 7001))?;
    }
    // The guest's word would have come before.
    let (_, from) = ear.recv_from(&mut [0; 16])?;
    assert_eq!(from.ip().to_string(), "10.0.1.1");
    Ok(())
}

/// Packets that a Pod gives to the host to be sent back to the same bridge.
#[test]
fn isolation_has_no_way_round_by_the_host() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let network = host.network(1, &json!({"ingressPolicy": "isolated"}));
    let one = Answering::add(&mut runtime, &network, "one")?;
    let two = Answering::add(&mut runtime, &network, "two")?;
    for (from, to) in [(&one, &two), (&two, &one)] {
        let mut inside = Rtnl::open_in(from.pod.netns())?;
        let index = inside.link_by_name("eth0")?.unwrap().index;
        let to = kernel::route::Route::new(format!("{}/32", to.addresses[0]).parse()?);
        inside.request(&kernel::route::add(&to.via("10.0.1.1".parse()?).dev(index)))?;
    }
    host.node.netns().run(|| kernel::sysctl::set("net/ipv4/conf/br1/send_redirects", "0"))??;
    one.assert_does_not_reach(&two, "by way of the host");
    Ok(())
}

#[test]
fn check_misses_each_part_of_a_policy() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let network = host.network(1, &json!({"ingressPolicy": "isolated"}));
    let lone = Answering::add(&mut runtime, &network, "one")?;
    let v4 = lone.addresses[0].to_string();
    let port = host.nft(&["list", "set", "bridge", "cbr0_firewall", "ports"], "")?;
    let port = port.split('"').find(|word| word.starts_with("veth")).unwrap().to_owned();
    let owned = host.owned()?;
    let owned = owned.iter().find(|name| name.starts_with("att-")).unwrap();
    for broken in [
        format!("delete set bridge cbr0_firewall {owned}"),
        format!("delete element inet cbr0_firewall {owned} {{ ::ffff:{v4} }}"),
        "delete element inet cbr0_firewall bridges { \"br1\" }".to_owned(),
        "delete element inet cbr0_firewall names { \"br1\" }".to_owned(),
        format!("delete element inet cbr0_firewall isolated4 {{ {v4} }}"),
        format!("delete element bridge cbr0_firewall ports {{ \"{port}\" }}"),
        "flush chain inet cbr0_firewall forward".to_owned(),
        "flush chain inet cbr0_firewall within".to_owned(),
        "flush chain inet cbr0_firewall bridge-br1".to_owned(),
        "flush chain bridge cbr0_firewall forward".to_owned(),
    ] {
        let saved = host.nft(&["list", "ruleset"], "")?;
        host.nft(&["-f", "-"], &broken)?;
        let error = refused(runtime.check(&network, &lone.pod.attachment()));
        assert!(error.code == 102, "{broken}: {error}");
        host.nft(&["-f", "-"], &format!("flush ruleset\n{saved}"))?;
        runtime.check(&network, &lone.pod.attachment())?;
    }
    Ok(())
}
