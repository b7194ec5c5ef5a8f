//! An ADD is a transaction, whatever happens to it.

use cbr0_tests::pod::Pod;
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{LabError, Outcome, Result};
use kernel::link::{self, Bridge, Veth, VethPeer};
use kernel::{MacAddress, NetNs};
use serde_json::{Value, json};

use super::fixture::Host;

/// A closed host with a bridge and a port, where a Pod has come and gone.
struct Scene {
    host: Host,
    pod: Pod,
    before: Snapshot,
    _wire: NetNs,
}

impl Scene {
    fn new() -> Result<Option<Scene>> {
        let Some(host) = Host::closed()? else { return Ok(None) };
        let wire = NetNs::create()?;
        let mut rtnl = host.node.rtnl()?;
        let mac = |last| MacAddress([2, 0, 0, 0, 0, last]);
        rtnl.request(&Bridge { name: "br1", mac: mac(1), mtu: None }.create())?;
        let master = rtnl.link_by_name("br1")?.map(|link| link.index);
        let peer = VethPeer { namespace: &wire, name: "far0", mac: None };
        rtnl.request(&Veth { name: "port0", mac: mac(2), master, mtu: None, peer }.create())?;
        rtnl.request(&link::set_up(master.unwrap()))?;
        let pod = Pod::create("pod")?;
        let mut scene = Scene { before: Snapshot::take(&host.node)?, host, pod, _wire: wire };
        for verb in ["ADD", "DEL"] {
            assert_eq!(scene.call(verb)?.run(&scene.host.node)?.failure(), None);
        }
        scene.before = Snapshot::take(&scene.host.node)?;
        Ok(Some(scene))
    }

    fn call(&self, verb: &str) -> Result<cbr0_tests::plugin::Call> {
        let network = self.host.network(1, &json!({"ingressPolicy": "isolated"}));
        let result = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "br1"}, {"name": "port0"}],
            "ips": [{"address": "10.0.1.5/24"}, {"address": "fd00::5/64"}],
        });
        let result = if verb == "DEL" { Value::Null } else { result };
        self.host.call(&network, verb, &self.pod, &result)
    }

    fn assert_nothing_left(&self, case: &str) -> Result<()> {
        let now = Snapshot::take(&self.host.node)?;
        match self.before.difference(&now, &Shared::after_warm_up()) {
            Some(left) => Err(LabError::Wrong(format!("{case}: left\n{left}"))),
            None => Ok(()),
        }
    }
}

/// The system calls of a verb; `None` when the test must end.
fn syscalls(before: &[&str], verb: &str) -> Result<Option<(Strace, Vec<Syscall>)>> {
    let Some(scene) = Scene::new()? else { return Ok(None) };
    let Some(strace) = Strace::find()? else { return Ok(None) };
    for verb in before {
        scene.call(verb)?.run(&scene.host.node)?;
    }
    let (answer, syscalls) = strace.syscalls(scene.call(verb)?, &scene.host.node)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(syscalls.len() > 30, "strace saw only {syscalls:?}");
    Ok(Some((strace, syscalls)))
}

fn for_each(
    syscalls: &[Syscall],
    case: impl Fn(&Syscall, &Scene) -> Result<()> + Sync,
) -> Result<()> {
    strace::for_each(syscalls, |syscall| {
        let scene = Scene::new()?;
        scene.as_ref().map_or(Ok(()), |scene| case(syscall, scene))
    })
}

#[test]
fn killed_at_any_system_call_del_or_another_add_finds_all() -> Outcome {
    let Some((strace, syscalls)) = syscalls(&[], "ADD")? else { return Ok(()) };
    for_each(&syscalls, |syscall, scene| {
        let host = &scene.host.node;
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        strace.kill_at(syscall, scene.call("ADD")?, host)?;
        scene.call("DEL")?.run(host)?;
        scene.assert_nothing_left(&case)?;
        strace.kill_at(syscall, scene.call("ADD")?, host)?;
        scene.host.ours()?.gc(&one(scene), &[])?;
        scene.assert_nothing_left(&format!("{case}, then GC"))?;
        strace.kill_at(syscall, scene.call("ADD")?, host)?;
        for verb in ["ADD", "CHECK"] {
            assert_eq!(scene.call(verb)?.run(host)?.failure(), None, "{case}, then {verb}");
        }
        assert_eq!(scene.host.pod_rules()?.len(), 4, "{case}");
        strace.kill_at(syscall, scene.call("DEL")?, host)?;
        assert_eq!(scene.call("DEL")?.run(host)?.failure(), None, "{case}");
        scene.host.ours()?.gc(&one(scene), &[])?;
        scene.assert_nothing_left(&format!("{case}, then ADD, DEL killed, DEL"))
    })?;
    Ok(())
}

/// The network without the plugin that makes the interface.
fn one(scene: &Scene) -> cbr0_tests::runtime::Network {
    let mut network = scene.host.network(1, &json!({"ingressPolicy": "isolated"}));
    network.plugins.remove(0);
    network
}

#[test]
fn failing_at_any_system_call_leaves_nothing() -> Outcome {
    let Some((strace, mut syscalls)) = syscalls(&[], "ADD")? else { return Ok(()) };
    let asks = ["openat", "open", "sendto", "sendmsg", "socket", "bind"];
    syscalls.retain(|syscall| asks.contains(&syscall.name.as_str()));
    assert!(syscalls.len() > 8, "{syscalls:?}");
    for_each(&syscalls, |syscall, scene| {
        let case = format!("failed at {} number {}", syscall.name, syscall.turn);
        let host = &scene.host.node;
        let answer = strace.fail_at(syscall, "ENOMEM", scene.call("ADD")?, host)?;
        match answer.failure() {
            Some(error) => assert_ne!(error.code, 0, "{case}: {answer:?}"),
            None => assert_eq!(scene.call("DEL")?.run(host)?.failure(), None),
        }
        scene.assert_nothing_left(&case)
    })?;
    Ok(())
}
