//! `host-device`: a link of the host is lent, and comes home under its own name.

use cbr0_tests::pod::Pod;
use cbr0_tests::sample::{HOST_DEVICE, Scene};
use cbr0_tests::{Outcome, Result};
use kernel::{Rtnl, link as links};
use serde_json::{Value, json};

use crate::fixture::{assert_error, change, link, refused, scene, with};

#[test]
fn the_device_is_found_by_name_and_by_hardware_address() -> Outcome {
    let by_mac = json!({"device": "", "hwaddr": "02:00:00:00:01:02"});
    for keys in [json!({}), by_mac] {
        let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
        let network = with(&scene.network, &keys);
        let mut runtime = scene.runtime()?;
        let result = runtime.add(&network, &scene.pod.attachment())?;
        assert_eq!(link(scene.host.netns(), "dev0")?, None);
        let eth0 = link(scene.pod.netns(), "eth0")?.unwrap();
        assert_eq!((eth0.alias.as_str(), eth0.is_up()), ("dev0", true));
        assert_eq!(result["interfaces"][0]["mac"], json!("02:00:00:00:01:02"));
        runtime.check(&network, &scene.pod.attachment())?;
        runtime.del(&network, &scene.pod.attachment())?;
        scene.assert_nothing_left(&keys.to_string())?;
    }
    Ok(())
}

/// As the kernel does it with hardware when the namespace dies.
fn comes_home(scene: &Scene, name: &str) -> Result<()> {
    change(scene.pod.netns(), "eth0", |index| links::move_to(index, scene.host.netns(), name))
}

#[test]
fn what_came_home_without_the_plugin_gets_its_name_back_by_del_and_by_gc() -> Outcome {
    for by_gc in [false, true] {
        let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
        let mut runtime = scene.runtime()?;
        runtime.add(&scene.network, &scene.pod.attachment())?;
        comes_home(&scene, "eth0")?;
        if by_gc {
            runtime.gc(&scene.network, &[&scene.pod.attachment()])?;
            assert!(link(scene.host.netns(), "eth0")?.is_some(), "it is a valid attachment's");
            runtime.gc(&scene.network, &[])?;
        } else {
            runtime.del(&scene.network, &scene.pod.attachment().without_netns())?;
        }
        scene.assert_nothing_left(&format!("by GC: {by_gc}"))?;
    }
    Ok(())
}

#[test]
fn the_own_alias_comes_back_and_a_name_that_is_taken_is_left_to_its_holder() -> Outcome {
    let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
    change(scene.host.netns(), "dev0", |index| links::set_alias(index, "rack 7 / left"))?;
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    // Renamed by the container, which the reference cannot undo.
    change(scene.pod.netns(), "eth0", links::set_down)?;
    change(scene.pod.netns(), "eth0", |index| links::set_name(index, "wan"))?;
    let mac = kernel::MacAddress([2, 0, 0, 0, 0, 9]);
    let holder = links::Bridge { name: "dev0", mac, mtu: None };
    scene.host.rtnl()?.request(&holder.create())?;
    runtime.del(&scene.network, &scene.pod.attachment())?;
    assert_eq!(link(scene.host.netns(), "dev0")?.unwrap().kind, "bridge");
    let home = scene.host.rtnl()?.links()?.into_iter().find(|link| link.alias == "rack 7 / left");
    assert_eq!(home.unwrap().kind, "veth");
    assert_eq!(Rtnl::open_in(scene.pod.netns())?.links()?.len(), 1);
    Ok(())
}

#[test]
fn what_the_reference_lent_comes_home() -> Outcome {
    let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
    change(scene.host.netns(), "dev0", |index| links::set_alias(index, "dev0"))?;
    change(scene.host.netns(), "dev0", |index| links::move_to(index, scene.pod.netns(), "eth0"))?;
    scene.runtime()?.del(&scene.network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("the reference's")?)
}

#[test]
fn what_cannot_be_lent_is_refused() -> Outcome {
    let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
    let with_error = |keys: Value, code: u64, words: &str| -> Result<()> {
        let network = with(&scene.network, &keys);
        assert_error(
            &refused(scene.runtime()?.add(&network, &scene.pod.attachment())),
            code,
            words,
        );
        scene.assert_nothing_left(words)
    };
    with_error(json!({"device": "nosuch"}), 7, "failed to find host device")?;
    with_error(json!({"device": ""}), 7, "specify either")?;
    with_error(json!({"device": "lo"}), 101, "\"lo\" cannot be moved")?;
    // Somebody else's link, which came home in the meantime.
    let mut runtime = scene.runtime()?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    comes_home(&scene, "dev0")?;
    let other = Pod::create("other")?;
    let error = refused(runtime.add(&scene.network, &other.attachment()));
    assert_error(&error, 101, "lent to \"net/pod/eth0\"");
    runtime.del(&scene.network, &other.attachment())?;
    assert_eq!(link(scene.host.netns(), "dev0")?.unwrap().alias, "dev0", "still lent");
    runtime.del(&scene.network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("DEL of the borrower")?)
}

/// The state of the device is all that it was, which the reference cannot know.
#[test]
fn own_alias_and_state_come_back_after_each_way() -> Outcome {
    for (case, without_netns) in [("from the container", false), ("home by itself", true)] {
        let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
        change(scene.host.netns(), "dev0", |index| links::set_alias(index, "rack 7"))?;
        change(scene.host.netns(), "dev0", links::set_up)?;
        let mut runtime = scene.runtime()?;
        runtime.add(&scene.network, &scene.pod.attachment())?;
        if without_netns {
            comes_home(&scene, "eth0")?;
            runtime.del(&scene.network, &scene.pod.attachment().without_netns())?;
        } else {
            runtime.del(&scene.network, &scene.pod.attachment())?;
        }
        let dev0 = link(scene.host.netns(), "dev0")?.unwrap();
        assert_eq!((dev0.alias.as_str(), dev0.is_up()), ("rack 7", true), "{case}");
    }
    Ok(())
}

#[test]
fn a_loan_whose_link_died_with_its_namespace_is_forgotten_by_del_and_by_gc() -> Outcome {
    for by_gc in [false, true] {
        let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
        let mut runtime = scene.runtime()?;
        runtime.add(&scene.network, &scene.pod.attachment())?;
        let loans = scene.host.data_dir().join("loans");
        let count = || std::fs::read_dir(&loans).unwrap().count();
        assert_eq!(count(), 1);
        change(scene.pod.netns(), "eth0", links::delete)?;
        match by_gc {
            true => runtime.gc(&scene.network, &[])?,
            false => runtime.del(&scene.network, &scene.pod.attachment().without_netns())?,
        }
        assert_eq!(count(), 0, "by GC: {by_gc}");
    }
    Ok(())
}

#[test]
fn check_and_status_look_at_the_alias_and_the_loan_book() -> Outcome {
    let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    let file = scene.host.folder().join("file");
    std::fs::write(&file, "").unwrap();
    let bad = with(&scene.network, &json!({"dataDir": file.join("below")}));
    assert_error(&refused(runtime.status(&bad)), 50, "dataDir");
    let relative = with(&scene.network, &json!({"dataDir": "relative"}));
    assert_error(&refused(runtime.add(&relative, &scene.pod.attachment())), 7, "dataDir");
    scene.assert_nothing_left("a folder that cannot be")?;
    runtime.add(&scene.network, &scene.pod.attachment())?;
    change(scene.pod.netns(), "eth0", |index| links::set_alias(index, "dev1"))?;
    let error = refused(runtime.check(&scene.network, &scene.pod.attachment()));
    assert_error(&error, 102, "not lent to this container");
    runtime.del(&scene.network, &scene.pod.attachment())?;
    Ok(scene.assert_nothing_left("the container changed the alias")?)
}

#[test]
fn an_add_finds_the_device_under_the_name_that_it_came_home_with() -> Outcome {
    let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
    let mut network = scene.network.clone();
    network.plugins[0].remove("ipam");
    change(scene.host.netns(), "dev0", |index| links::set_alias(index, "rack 7"))?;
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &scene.pod.attachment())?;
    comes_home(&scene, "eth0")?;
    runtime.add(&network, &scene.pod.attachment())?;
    assert_eq!(link(scene.pod.netns(), "eth0")?.unwrap().alias, "dev0");
    runtime.del(&network, &scene.pod.attachment())?;
    assert_eq!(link(scene.host.netns(), "dev0")?.unwrap().alias, "rack 7");
    Ok(())
}

#[test]
fn one_of_many_who_ask_at_once_has_the_device_and_it_comes_home_as_it_was() -> Outcome {
    let Some(scene) = scene(&HOST_DEVICE)? else { return Ok(()) };
    change(scene.host.netns(), "dev0", |index| links::set_alias(index, "rack 7 / left"))?;
    change(scene.host.netns(), "dev0", links::set_up)?;
    let all: Vec<_> =
        (0..8).map(|number| Pod::create(&format!("pod{number}"))).collect::<Result<_>>()?;
    let at_once = |work: &(dyn Fn(&Pod) -> Result<()> + Sync)| -> Vec<Result<()>> {
        std::thread::scope(|scope| {
            let calls: Vec<_> = all.iter().map(|pod| scope.spawn(move || work(pod))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    for round in 0..20 {
        let given =
            at_once(&|pod| scene.runtime()?.add(&scene.network, &pod.attachment()).map(drop));
        assert_eq!(given.iter().filter(|added| added.is_ok()).count(), 1, "{round}: {given:?}");
        for ended in at_once(&|pod| scene.runtime()?.del(&scene.network, &pod.attachment())) {
            ended?;
        }
        let home = link(scene.host.netns(), "dev0")?.unwrap();
        assert_eq!((home.alias.as_str(), home.is_up()), ("rack 7 / left", true), "{round}");
    }
    Ok(())
}
