//! `vrf`: an interface of the Pod in a routing table of its own.

mod verbs;

use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{Endpoint, Source, call};
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::sample::{BRIDGE, DUMMY, MACVLAN, PTP, Sample, Scene};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{Outcome, Result, bins};
use kernel::link::{self as links, Kind};
use kernel::route::{self, Route, TABLE_MAIN};
use kernel::{Rtnl, address, sysctl};
use serde_json::{Value, json};

use crate::fixture::{assert_error, change, link, refused};

/// A scene of the plugin before, with `vrf` behind it in the list; `None` where it cannot be.
fn chain(front: &Sample, keys: &Value) -> Result<Option<Scene>> {
    if !front.can_run()? || !require::link_kind("vrf")? {
        return Ok(None);
    }
    Ok(Some(chained(front, keys)?))
}

/// As [`chain`], also where there are no VRFs.
pub(crate) fn chained_behind_bridge() -> Result<Scene> {
    chained(&BRIDGE, &json!({}))
}

fn chained(front: &Sample, keys: &Value) -> Result<Scene> {
    let mut scene = Scene::new(front, "1.1.0")?;
    scene.network = behind(&scene.network, keys);
    Ok(scene)
}

/// The network with `vrf` and these keys at its end.
fn behind(network: &Network, keys: &Value) -> Network {
    let mut network = network.clone();
    network.plugins.truncate(1);
    let mut own = json!({"type": "vrf", "vrfname": "blue"});
    own.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    network.plugins.push(own.as_object().unwrap().clone());
    network
}

/// The network without `vrf`.
fn alone(scene: &Scene) -> Network {
    let mut network = scene.network.clone();
    network.plugins.truncate(1);
    network
}

/// An ADD of `vrf` behind a plugin that gave this result.
fn add_behind(scene: &Scene, ifname: &str, previous: &Value) -> Result<Answer> {
    let mut attachment = scene.pod.attachment();
    attachment.ifname = ifname.into();
    let call = scene.runtime()?.call(&scene.network, 1, "ADD", Some(&attachment))?;
    call.stdin_json(&with_previous(&scene.network, previous)).run(&scene.host)
}

/// The routes of a link in a table that are not of the kernel's making, in words.
fn routes(pod: &Pod, name: &str, table: u32) -> Result<Vec<String>> {
    let mut rtnl = Rtnl::open_in(pod.netns())?;
    let index = rtnl.link_by_name(name)?.unwrap().index;
    let own = |route: &&Route| route.link == Some(index) && route.protocol != 2;
    let words =
        |route: &Route| format!("{} {:?} {}", route.destination, route.gateway, route.scope);
    Ok(rtnl.routes(table)?.iter().filter(own).map(words).collect())
}

#[test]
fn the_interface_moves_with_addresses_and_routes_and_is_reached() -> Outcome {
    for front in [BRIDGE, PTP, MACVLAN, DUMMY] {
        let Some(scene) = chain(&front, &json!({"table": 1234}))? else { return Ok(()) };
        let mut runtime = scene.runtime()?;
        let first = runtime.add(&alone(&scene), &scene.pod.attachment())?;
        let before = routes(&scene.pod, "eth0", TABLE_MAIN)?;
        assert!(before.iter().any(|route| route.starts_with("10.9.0.0/16")), "{before:?}");
        let answer = add_behind(&scene, "eth0", &first)?;
        assert_eq!(answer.json()?, first, "{}: not the result of the plugin before", front.plugin);
        let vrf = link(scene.pod.netns(), "blue")?.unwrap();
        assert_eq!((vrf.made_as, vrf.is_up()), (Some(Kind::Vrf { table: 1234 }), true));
        assert_eq!(link(scene.pod.netns(), "eth0")?.unwrap().master, Some(vrf.index));
        assert_eq!(routes(&scene.pod, "eth0", 1234)?, before, "{}", front.plugin);
        assert_eq!(routes(&scene.pod, "eth0", TABLE_MAIN)?, [""; 0], "{}", front.plugin);
        runtime.check(&scene.network, &scene.pod.attachment())?;
        if front.on_host {
            assert_reached_from_the_host(&scene)?;
        }
        runtime.del(&scene.network, &scene.pod.attachment())?;
        scene.assert_nothing_left(front.plugin)?;
        runtime.del(&scene.network, &scene.pod.attachment())?;
    }
    Ok(())
}

fn assert_reached_from_the_host(scene: &Scene) -> Result<()> {
    // The endpoint listens in the default VRF, and takes callers from others by this alone.
    scene.pod.netns().run(|| sysctl::set("net/ipv4/tcp_l3mdev_accept", "1"))??;
    let _serving = Endpoint::serve(scene.pod.netns())?;
    for address in ["10.0.1.2", "fd00:0:0:1::2"] {
        let Source { own, seen } = call(scene.host.netns(), address.parse().unwrap())?;
        assert_eq!(own, seen);
    }
    scene.pod.netns().run(|| sysctl::set("net/ipv4/tcp_l3mdev_accept", "0"))??;
    Ok(())
}

/// As other plugins leave the interface, the kernel drops its IPv6 addresses.
#[test]
fn addresses_and_routes_that_the_kernel_drops_come_back() -> Outcome {
    let Some(scene) = chain(&PTP, &json!({"table": 7}))? else { return Ok(()) };
    let first = scene.runtime()?.add(&alone(&scene), &scene.pod.attachment())?;
    let keep = "net/ipv6/conf/eth0/keep_addr_on_down";
    scene.pod.netns().run(|| sysctl::set(keep, "0"))??;
    let mut rtnl = Rtnl::open_in(scene.pod.netns())?;
    let eth0 = rtnl.link_by_name("eth0")?.unwrap().index;
    let mine = |destination: &str| Route::new(destination.parse().unwrap()).dev(eth0);
    let own = |destination, gateway: &str| mine(destination).via(gateway.parse().unwrap());
    let special = [
        Route {
            source: "10.0.1.2".parse().ok(),
            mtu: Some(1400),
            ..own("10.8.0.0/16", "10.0.1.1")
        },
        Route { on_link: true, priority: 7, ..own("10.7.0.0/16", "192.0.2.1") },
        Route { table: 99, ..own("fd08::/32", "fd00:0:0:1::1") },
    ];
    for route in &special {
        rtnl.request(&route::add(route))?;
    }
    let answer = add_behind(&scene, "eth0", &first)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let addresses = rtnl.addresses(eth0)?;
    let own = addresses.iter().find(|own| own.address.to_string() == "fd00:0:0:1::2/64").unwrap();
    assert!(own.alone && !own.tentative, "{own:?}");
    let all = rtnl.routes(0)?;
    for wanted in special {
        let table = if wanted.table == TABLE_MAIN { 7 } else { wanted.table };
        let found = all.iter().find(|route| route.destination == wanted.destination).unwrap();
        let priority = found.priority;
        let scope = found.scope;
        assert_eq!(*found, Route { table, priority, scope, ..wanted });
        assert!(wanted.priority == 0 || wanted.priority == priority);
    }
    Ok(())
}

fn with_previous(network: &Network, previous: &Value) -> Value {
    let mut conf = Value::Object(network.plugins[1].clone());
    conf["cniVersion"] = json!("1.1.0");
    conf["name"] = json!(network.name);
    conf["prevResult"] = previous.clone();
    conf
}

#[test]
fn interfaces_share_a_vrf_that_goes_with_the_last() -> Outcome {
    let Some(scene) = chain(&BRIDGE, &json!({}))? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    let (first, mut second, mut third) =
        (scene.pod.attachment(), scene.pod.attachment(), scene.pod.attachment());
    second.ifname = "eth1".into();
    third.ifname = "eth2".into();
    runtime.add(&scene.network, &first)?;
    runtime.add(&scene.network, &second)?;
    let red = behind(&scene.network, &json!({"vrfname": "red"}));
    runtime.add(&red, &third)?;
    let table =
        |name: &str| Ok::<_, cbr0_tests::LabError>(link(scene.pod.netns(), name)?.unwrap().made_as);
    assert_eq!(table("blue")?, Some(Kind::Vrf { table: 1 }));
    assert_eq!(table("red")?, Some(Kind::Vrf { table: 2 }));
    runtime.del(&scene.network, &first)?;
    runtime.check(&scene.network, &second)?;
    runtime.del(&red, &third)?;
    assert!(link(scene.pod.netns(), "red")?.is_none());
    runtime.check(&scene.network, &second)?;
    runtime.del(&scene.network, &second)?;
    Ok(scene.assert_nothing_left("three interfaces")?)
}

#[test]
fn del_needs_neither_namespace_nor_sound_keys() -> Outcome {
    let Some(scene) = chain(&BRIDGE, &json!({}))? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    runtime.del(&behind(&scene.network, &json!({"vrfname": ""})), &scene.pod.attachment())?;
    // The interface went by the plugin before; an empty VRF is as after an ADD that was killed.
    assert!(link(scene.pod.netns(), "blue")?.is_some());
    runtime.del(&scene.network, &scene.pod.attachment())?;
    scene.assert_nothing_left("DEL with the right keys")?;
    let short = Pod::create("short")?;
    let gone = short.attachment();
    runtime.add(&scene.network, &gone)?;
    runtime.del(&scene.network, &gone.without_netns())?;
    drop(short);
    runtime.del(&scene.network, &gone)?;
    runtime.gc(&scene.network, &[])?;
    Ok(scene.assert_nothing_left("dead namespace")?)
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() -> Outcome {
    let Some(scene) = chain(&DUMMY, &json!({}))? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    let attachment = scene.pod.attachment();
    let with = |keys: Value| behind(&scene.network, &keys);
    runtime.add(&with(json!({"table": 5})), &attachment)?;
    let mut second = attachment.clone();
    second.ifname = "eth1".into();
    for (keys, code, words) in [
        (json!({"table": 6}), 101, "VRF blue already exist with different routing table 5"),
        (json!({"vrfname": "lo"}), 101, "\"lo\" already exists but is not a vrf"),
        (json!({"vrfname": "a/b"}), 7, "valid vrf name"),
        (json!({"table": -1}), 6, "table"),
    ] {
        let network = with(keys);
        assert_error(&refused(runtime.add(&network, &second)), code, words);
        runtime.del(&network, &second)?;
    }
    runtime.check(&with(json!({"table": 5})), &attachment)?;
    let previous =
        json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}]});
    let again = |ifname: &str, previous: &Value| -> Result<_> {
        Ok(add_behind(&scene, ifname, previous)?.failure().unwrap())
    };
    let error = again("eth0", &previous)?;
    assert_error(&error, 101, "interface eth0 already has a master set: blue");
    assert_error(&again("eth9", &previous)?, 100, "\"eth9\" of the container");
    assert_error(&again("eth0", &Value::Null)?, 7, "must be called as chained plugin");
    runtime.del(&scene.network, &attachment)?;
    Ok(scene.assert_nothing_left("refusals")?)
}

#[test]
fn check_says_what_is_wrong() -> Outcome {
    type Damage = fn(&Scene) -> Result<()>;
    let damages: [(&str, Damage); 5] = [
        ("failed to find eth0 associated to vrf blue", |scene| {
            change(scene.pod.netns(), "eth0", |eth0| links::set_master(eth0, None))
        }),
        ("VRF \"blue\" is down", |scene| change(scene.pod.netns(), "blue", links::set_down)),
        ("\"blue\" is gone", |scene| change(scene.pod.netns(), "blue", links::delete)),
        ("lost the address 10.0.1.2/24", |scene| {
            let own = "10.0.1.2/24".parse().unwrap();
            change(scene.pod.netns(), "eth0", |eth0| address::delete(eth0, own))
        }),
        ("route to 10.9.0.0/16 is not in table 1", |scene| {
            let mut rtnl = Rtnl::open_in(scene.pod.netns())?;
            let is_it = |route: &Route| route.destination.to_string() == "10.9.0.0/16";
            let route = rtnl.routes(1)?.into_iter().find(is_it).unwrap();
            Ok(rtnl.request(&route::delete(&route))?)
        }),
    ];
    for (words, damage) in damages {
        let Some(scene) = chain(&DUMMY, &json!({}))? else { return Ok(()) };
        let mut runtime = scene.runtime()?;
        let result = runtime.add(&scene.network, &scene.pod.attachment())?;
        let check = |network: &Network| -> Result<_> {
            let call = runtime.call(network, 1, "CHECK", Some(&scene.pod.attachment()))?;
            call.stdin_json(&with_previous(network, &result)).run(&scene.host)
        };
        assert!(check(&scene.network)?.failure().is_none());
        let other = behind(&scene.network, &json!({"table": 9}));
        assert_error(&check(&other)?.failure().unwrap(), 102, "has the table 1, not");
        damage(&scene)?;
        assert_error(&check(&scene.network)?.failure().unwrap(), 102, words);
        runtime.del(&scene.network, &scene.pod.attachment())?;
        scene.assert_nothing_left(words)?;
    }
    Ok(())
}

/// A node may change from the reference to ours and back.
#[test]
fn what_the_reference_did_is_checked_and_undone_and_the_other_way_round() -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let own = bins::plugin_dir()?;
    for (maker, remover) in [(&reference, &own), (&own, &reference)] {
        let Some(scene) = chain(&BRIDGE, &json!({"table": 7}))? else { return Ok(()) };
        let first = scene.runtime()?.add(&alone(&scene), &scene.pod.attachment())?;
        for (verb, suite) in [("ADD", maker), ("CHECK", remover), ("DEL", remover)] {
            let runtime = Runtime::new(&scene.host, suite);
            let call = runtime.call(&scene.network, 1, verb, Some(&scene.pod.attachment()))?;
            let stdin = with_previous(&scene.network, &first);
            let answer = call.stdin_json(&stdin).run(&scene.host)?;
            assert!(answer.failure().is_none(), "{verb} of {}: {answer:?}", suite.display());
            let is_in = link(scene.pod.netns(), "eth0")?.unwrap().master.is_some();
            assert_eq!(is_in, verb != "DEL", "{verb} of {}", suite.display());
        }
        assert!(link(scene.pod.netns(), "blue")?.is_none());
        scene.runtime()?.del(&alone(&scene), &scene.pod.attachment())?;
        scene.assert_nothing_left(&remover.to_string_lossy())?;
    }
    Ok(())
}

/// The call of an ADD of `vrf` alone, behind what the plugin before it has made.
fn last_add(scene: &Scene) -> Result<Call> {
    let attachment = scene.pod.attachment();
    let previous = scene.runtime()?.add(&alone(scene), &attachment)?;
    let call = scene.runtime()?.call(&scene.network, 1, "ADD", Some(&attachment))?;
    Ok(call.stdin_json(&with_previous(&scene.network, &previous)))
}

/// What an ADD of `vrf` asks for; `None` where it cannot be.
fn requests() -> Result<Option<(Strace, Vec<Syscall>)>> {
    let Some(scene) = chain(&BRIDGE, &json!({}))? else { return Ok(None) };
    let Some(strace) = Strace::find()? else { return Ok(None) };
    let (answer, mut syscalls) = strace.cases(last_add(&scene)?, &scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    syscalls.retain(|syscall| ["sendto", "sendmsg"].contains(&syscall.name.as_str()));
    assert!(syscalls.len() > 4, "{syscalls:?}");
    Ok(Some((strace, syscalls)))
}

#[test]
fn killed_at_any_request_del_finds_all_and_add_works_again() -> Outcome {
    let Some((strace, syscalls)) = requests()? else { return Ok(()) };
    strace::for_each(&syscalls, |syscall| {
        let scene = chained(&BRIDGE, &json!({}))?;
        let (case, attachment) = (format!("killed at {syscall:?}"), scene.pod.attachment());
        let ended = strace.kill_at(syscall, last_add(&scene)?, &scene.host)?;
        assert_eq!(ended.code, None, "{case}");
        let mut runtime = scene.runtime()?;
        runtime.del(&scene.network, &attachment)?;
        scene.assert_nothing_left(&case)?;
        runtime.add(&scene.network, &attachment)?;
        runtime.check(&scene.network, &attachment)?;
        runtime.del(&scene.network, &attachment)?;
        scene.assert_nothing_left(&format!("{case}, then DEL, ADD, DEL"))
    })?;
    Ok(())
}

#[test]
fn failing_at_any_request_leaves_the_interface_as_it_was() -> Outcome {
    let Some((strace, syscalls)) = requests()? else { return Ok(()) };
    strace::for_each(&syscalls, |syscall| {
        let scene = chained(&BRIDGE, &json!({}))?;
        let (case, add) = (format!("failed at {syscall:?}"), last_add(&scene)?);
        let before = Snapshot::of(scene.pod.netns())?;
        let answer = strace.fail_at(syscall, "ENOMEM", add, &scene.host)?;
        assert!(answer.failure().is_some(), "{case}: {answer:?}");
        let left = before.difference(&Snapshot::of(scene.pod.netns())?, &Shared::after_warm_up());
        assert_eq!(left.map(|left| left.to_string()), None, "{case}");
        scene.runtime()?.del(&scene.network, &scene.pod.attachment())?;
        scene.assert_nothing_left(&case)
    })?;
    Ok(())
}
