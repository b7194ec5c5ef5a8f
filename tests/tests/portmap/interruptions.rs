//! An ADD is a transaction, whatever happens to it: failing at any request it leaves nothing, and what
//! it leaves when it is killed, DEL and GC find.

use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use kernel::link::{self, Bridge};
use kernel::{MacAddress, address};
use serde_json::json;

use crate::fixture::{tcp, tcp_at};

/// A host with a bridge that leads to the container, where the container's ports have come and gone.
struct Scene {
    host: Node,
    pod: Pod,
    before: Snapshot,
}

impl Scene {
    fn new() -> Result<Scene> {
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let mut rtnl = host.rtnl()?;
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        rtnl.request(&Bridge { name: "br1", mac, mtu: None }.create())?;
        let bridge = rtnl.link_by_name("br1")?.unwrap().index;
        rtnl.request(&link::set_up(bridge))?;
        for text in ["10.0.1.1/24", "fd00:0:0:1::1/64"] {
            rtnl.request(&address::add(bridge, text.parse().unwrap(), false))?;
        }
        let mut scene = Scene { before: Snapshot::take(&host)?, host, pod };
        for network in ["net", "other"] {
            scene.succeed(scene.add(network)?)?;
            scene.succeed(scene.del(network)?)?;
        }
        scene.before = Snapshot::take(&scene.host)?;
        Ok(scene)
    }

    /// The ADD of an attachment with ports of both kinds, and one of UDP, whose flows are forgotten.
    fn add(&self, network: &str) -> Result<Call> {
        self.call("ADD", network)
    }

    fn check(&self, network: &str) -> Result<Call> {
        self.call("CHECK", network)
    }

    fn call(&self, verb: &str, network: &str) -> Result<Call> {
        let mut attachment = self.attachment(network);
        let udp = json!({"hostPort": 53, "containerPort": 53, "protocol": "udp"});
        let ports = json!([tcp(80), tcp_at("10.100.0.2", 81), udp]);
        attachment.capability_args.insert("portMappings".into(), ports);
        let last = if network == "net" { 5 } else { 6 };
        let mut list = list(network);
        list.plugins[0].insert(
            "prevResult".into(),
            json!({
                "cniVersion": "1.1.0",
                "ips": [
                    {"address": format!("10.0.1.{last}/24")},
                    {"address": format!("fd00:0:0:1::{last}/64")},
                ],
            }),
        );
        self.runtime()?.call(&list, 0, verb, Some(&attachment))
    }

    /// A DEL by who knows nothing but the names.
    fn del(&self, network: &str) -> Result<Call> {
        let attachment = self.attachment(network).without_netns();
        self.runtime()?.call(&list(network), 0, "DEL", Some(&attachment))
    }

    fn attachment(&self, network: &str) -> Attachment {
        let ifname = if network == "net" { "eth0" } else { "eth1" };
        Attachment { ifname: ifname.into(), ..self.pod.attachment() }
    }

    fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.host, bins::plugin_dir()?))
    }

    fn succeed(&self, call: Call) -> Result<()> {
        match call.run(&self.host)?.failure() {
            Some(error) => Err(LabError::Wrong(error.to_string())),
            None => Ok(()),
        }
    }

    fn assert_nothing_left(&self, case: &str) -> Result<()> {
        let now = Snapshot::take(&self.host)?;
        match self.before.difference(&now, &Shared::after_warm_up()) {
            Some(left) => Err(LabError::Wrong(format!("{case}: left\n{left}"))),
            None => Ok(()),
        }
    }
}

fn list(network: &str) -> Network {
    Network::from_value(&json!({
        "cniVersion": "1.1.0", "name": network,
        "plugins": [{"type": "portmap", "capabilities": {"portMappings": true}}],
    }))
    .unwrap()
}

/// The system calls of a call on a scene of its own, after others, from its first socket on: what
/// comes before changes nothing. `None` when the test must end.
fn syscalls(
    before: impl FnOnce(&Scene) -> Result<()>,
    call: impl FnOnce(&Scene) -> Result<Call>,
) -> Result<Option<(Strace, Vec<Syscall>)>> {
    if !require::nf_tables()? {
        return Ok(None);
    }
    let Some(strace) = Strace::find()? else { return Ok(None) };
    let scene = Scene::new()?;
    before(&scene)?;
    let (answer, mut syscalls) = strace.syscalls(call(&scene)?, &scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let first = syscalls.iter().position(|syscall| syscall.name == "socket");
    syscalls.drain(..first.unwrap());
    assert!(syscalls.len() > 10, "strace saw only {syscalls:?}");
    Ok(Some((strace, syscalls)))
}

fn for_each(
    syscalls: &[Syscall],
    case: impl Fn(&Syscall, &Scene, String) -> Result<()> + Sync,
) -> Result<()> {
    strace::for_each(syscalls, |syscall| {
        let name = format!("at {} number {}", syscall.name, syscall.turn);
        case(syscall, &Scene::new()?, name)
    })
}

#[test]
fn killed_at_any_system_call_del_and_gc_find_all_and_add_works_again() -> Outcome {
    let found = syscalls(|_| Ok(()), |scene| scene.add("net"))?;
    let Some((strace, syscalls)) = found else { return Ok(()) };
    for_each(&syscalls, |syscall, scene, case| {
        strace.kill_at(syscall, scene.add("net")?, &scene.host)?;
        scene.succeed(scene.del("net")?)?;
        scene.assert_nothing_left(&format!("killed {case}, then DEL"))?;

        strace.kill_at(syscall, scene.add("net")?, &scene.host)?;
        scene.runtime()?.gc(&list("other"), &[])?;
        scene.runtime()?.gc(&list("net"), &[])?;
        scene.assert_nothing_left(&format!("killed {case}, then GC"))?;

        strace.kill_at(syscall, scene.add("net")?, &scene.host)?;
        scene.succeed(scene.add("net")?)?;
        scene.succeed(scene.check("net")?)?;
        scene.succeed(scene.del("net")?)?;
        scene.assert_nothing_left(&format!("killed {case}, then ADD and DEL"))
    })?;
    Ok(())
}

#[test]
fn failing_at_any_request_leaves_nothing() -> Outcome {
    let found = syscalls(|_| Ok(()), |scene| scene.add("net"))?;
    let Some((strace, mut syscalls)) = found else { return Ok(()) };
    let asks = ["openat", "open", "sendto", "sendmsg", "socket", "bind"];
    syscalls.retain(|syscall| asks.contains(&syscall.name.as_str()));
    assert!(syscalls.len() > 8, "{syscalls:?}");
    for_each(&syscalls, |syscall, scene, case| {
        let answer = strace.fail_at(syscall, "ENOMEM", scene.add("net")?, &scene.host)?;
        match answer.failure() {
            Some(error) => assert_ne!(error.code, 0, "failed {case}: {answer:?}"),
            // Some questions have another way to an answer.
            None => scene.succeed(scene.del("net")?)?,
        }
        scene.assert_nothing_left(&format!("failed {case}"))
    })?;
    Ok(())
}

/// Another network of the container waits for the ports: whenever DEL is killed, the next one gives
/// them to it.
#[test]
fn del_killed_at_any_system_call_the_next_one_hands_the_ports_over() -> Outcome {
    let both = |scene: &Scene| {
        scene.succeed(scene.add("net")?)?;
        scene.succeed(scene.add("other")?)
    };
    let Some((strace, syscalls)) = syscalls(both, |scene| scene.del("net"))? else {
        return Ok(());
    };
    for_each(&syscalls, |syscall, scene, case| {
        both(scene)?;
        strace.kill_at(syscall, scene.del("net")?, &scene.host)?;
        scene.succeed(scene.del("net")?)?;
        scene.succeed(scene.check("other")?)?;
        let held = scene.call("ADD", "net")?.run(&scene.host)?;
        assert_eq!(held.failure(), None, "DEL killed {case}: who comes back waits");
        for network in ["other", "net"] {
            scene.succeed(scene.del(network)?)?;
        }
        scene.assert_nothing_left(&format!("DEL killed {case}"))
    })?;
    Ok(())
}
