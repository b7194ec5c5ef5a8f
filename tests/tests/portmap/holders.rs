//! Ports that somebody has already.

use std::thread;

use cbr0_tests::{LabError, Outcome, Result};
use serde_json::{Value, json};

use crate::fixture::{Scene, Server, assert_closed, call, refused, tcp, tcp_at, v4};

#[test]
fn a_port_of_another_container_is_refused_with_its_name() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    for (held, wanted) in [
        (tcp(80), tcp(80)),
        (tcp(80), tcp_at("10.100.0.2", 80)),
        (tcp_at("10.100.0.2", 80), tcp(80)),
        (tcp_at("10.100.0.2", 80), tcp_at("10.100.0.2", 80)),
        (tcp_at("fd00:100::2", 80), tcp(80)),
    ] {
        let (holder, late) =
            (Server::new("holder", json!([held]))?, Server::new("late", json!([wanted, tcp(81)]))?);
        let mut runtime = scene.runtime()?;
        runtime.add(&network, &holder.attachment)?;
        let error = refused(runtime.add(&network, &late.attachment));
        assert_eq!(error.code, 101, "{error}");
        assert!(error.msg.contains("\"net/holder/eth0\""), "{error}");
        runtime.check(&network, &holder.attachment)?;
        runtime.del(&network, &late.attachment)?;
        assert_closed(scene.topology.outside.netns(), v4(), 81);
        runtime.del(&network, &holder.attachment)?;
        runtime.add(&network, &late.attachment)?;
        runtime.del(&network, &late.attachment)?;
    }
    Ok(())
}

#[test]
fn other_protocols_and_addresses_are_other_ports() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let mut runtime = scene.runtime()?;
    let udp = json!({"hostPort": 80, "containerPort": 80, "protocol": "UDP"});
    let sctp = json!({"hostPort": 80, "containerPort": 80, "protocol": "sctp"});
    let mappings = [tcp_at("127.0.0.1", 80), tcp_at("10.100.0.2", 80), udp, sctp, tcp_at("::", 80)];
    for (number, mapping) in mappings.into_iter().enumerate() {
        let server = Server::new(&format!("pod{number}"), json!([mapping]))?;
        runtime.add(&network, &server.attachment)?;
        runtime.check(&network, &server.attachment)?;
    }
    Ok(())
}

/// podman gives the same ports to every network of a container.
#[test]
fn two_networks_of_one_container_take_turns() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let networks = [1, 2, 3].map(|it| scene.network(&format!("net{it}"), it, &json!({})));
    let before = {
        for network in &networks {
            scene.warm_up(network)?;
        }
        scene.warm_up(&networks[0])?
    };
    let server = Server::new("server", json!([tcp(80), tcp_at("10.100.0.2", 81)]))?;
    let outside = scene.topology.outside.netns();
    let mut runtime = scene.runtime()?;
    let attachments: Vec<_> = (0..3)
        .map(|number| {
            let mut attachment = server.attachment.clone();
            attachment.ifname = format!("eth{number}");
            attachment
        })
        .collect();
    for (network, attachment) in networks.iter().zip(&attachments) {
        runtime.add(network, attachment)?;
        runtime.check(network, attachment)?;
        call(outside, v4(), 80)?;
    }
    // The second goes before it had its turn.
    for gone in [1, 0] {
        runtime.del(&networks[gone], &attachments[gone])?;
        runtime.check(&networks[2], &attachments[2])?;
        let pod = server.pod.netns();
        assert!(kernel::Rtnl::open_in(pod)?.link_by_name("eth2")?.is_some());
    }
    // What is left answers by its own default route alone.
    call(outside, v4(), 80)?;
    call(outside, v4(), 81)?;
    let other = Server::new("other", json!([tcp(80)]))?;
    let error = refused(runtime.add(&networks[0], &other.attachment));
    assert!(error.msg.contains("net3/server/eth2"), "{error}");
    runtime.del(&networks[2], &attachments[2])?;
    runtime.del(&networks[0], &other.attachment)?;
    scene.assert_as(&before, "after the last DEL").map_err(Into::into)
}

#[test]
fn who_waits_goes_on_waiting_when_the_holder_is_added_again() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let networks = [1, 2].map(|it| scene.network(&format!("net{it}"), it, &json!({})));
    let server = Server::new("server", json!([tcp(80)]))?;
    let mut second = server.attachment.clone();
    second.ifname = "eth1".into();
    let mut runtime = scene.runtime()?;
    let result = runtime.add(&networks[0], &server.attachment)?;
    runtime.add(&networks[1], &second)?;
    let mut again = networks[0].clone();
    again.plugins.remove(0);
    again.plugins[0].insert("prevResult".into(), result);
    runtime.add(&again, &server.attachment)?;
    runtime.del(&networks[0], &server.attachment)?;
    call(scene.topology.outside.netns(), v4(), 80)?;
    Ok(runtime.check(&networks[1], &second)?)
}

/// The address was given to somebody else without a DEL of who had it before.
#[test]
fn a_dead_holder_makes_room() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let mut runtime = scene.runtime()?;
    let dead = Server::new("dead", json!([tcp(80), tcp_at("10.100.0.2", 81)]))?;
    runtime.add(&network, &dead.attachment)?;
    // Its interface and its addresses go, portmap is never asked.
    let mut alone = network.clone();
    alone.plugins.truncate(1);
    runtime.del(&alone, &dead.attachment)?;
    let server = Server::new("server", json!([tcp(80), tcp(81)]))?;
    let mut wishing = server.attachment.clone();
    wishing.args = "IP=10.1.0.2".into();
    let mut pinned = network.clone();
    pinned.plugins[0]["ipam"]["ranges"] = json!([[{"subnet": "10.1.0.0/24"}]]);
    runtime.add(&pinned, &wishing)?;
    call(scene.topology.outside.netns(), v4(), 81)?;
    Ok(runtime.check(&pinned, &wishing)?)
}

#[test]
fn sixty_four_adds_at_once_do_not_get_in_each_others_way() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let before = scene.warm_up(&network)?;
    let servers: Vec<_> = (0..64)
        .map(|number| Server::new(&format!("pod{number}"), json!([tcp(8000 + number)])))
        .collect::<Result<_>>()?;
    let at_once = |verb: fn(&Scene, &cbr0_tests::runtime::Network, &Server) -> Result<()>| {
        thread::scope(|scope| {
            let workers: Vec<_> = servers
                .iter()
                .map(|server| scope.spawn(|| verb(&scene, &network, server)))
                .collect();
            let died = |_| LabError::Wrong("a worker thread died".to_owned());
            workers.into_iter().try_for_each(|worker| worker.join().map_err(died)?)
        })
    };
    at_once(|scene, network, server| {
        let mut runtime = scene.runtime()?;
        runtime.add(network, &server.attachment)?;
        runtime.check(network, &server.attachment)
    })?;
    for number in [0, 63] {
        call(scene.topology.outside.netns(), v4(), 8000 + number)?;
    }
    at_once(|scene, network, server| scene.runtime()?.del(network, &server.attachment))?;
    Ok(scene.assert_as(&before, "after all DELs")?)
}

/// Ranges come as single ports.
#[test]
fn a_thousand_ports_are_mapped_at_once() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let before = scene.warm_up(&network)?;
    let mappings: Vec<Value> = (0..1000).map(|number| tcp(8000 + number)).collect();
    let server = Server::new("server", json!(mappings))?;
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &server.attachment)?;
    for port in [8000, 8999] {
        call(scene.topology.outside.netns(), v4(), port)?;
    }
    runtime.check(&network, &server.attachment)?;
    runtime.del(&network, &server.attachment)?;
    Ok(scene.assert_as(&before, "after DEL")?)
}
