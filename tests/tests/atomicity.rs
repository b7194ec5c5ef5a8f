//! An ADD is a transaction: killed at any moment, DEL finds what it left; failing at any step, it
//! leaves nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use serde_json::json;

/// A host and a Pod, and what they were before anything was done to them.
struct Scene {
    host: Node,
    pod: Pod,
    before: [Snapshot; 2],
}

impl Scene {
    fn new() -> Result<Self> {
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let before = [Snapshot::take(&host)?, Snapshot::of(pod.netns())?];
        Ok(Scene { host, pod, before })
    }

    /// Everything that an ADD can do: both families, gateways, forwarding, hairpin, masquerading.
    fn network(&self) -> Result<Network> {
        Network::from_value(&json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{
            "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "hairpinMode": true,
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]],
                "routes": [{"dst": "10.9.0.0/16"}],
                "dataDir": self.host.data_dir(),
            }
        }]}))
    }

    fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.host, bins::plugin_dir()?))
    }

    fn add(&self) -> Result<Call> {
        self.runtime()?.call(&self.network()?, 0, "ADD", Some(&self.pod.attachment()))
    }

    /// By the triple alone: a way through the container could hide what is not found by it.
    fn del(&self) -> Result<()> {
        self.runtime()?.del(&self.network()?, &self.pod.attachment().without_netns())
    }

    /// Nothing is left on the host but what is shared, and nothing in the Pod.
    fn assert_nothing_left(&self, case: &str) -> Result<()> {
        let after = [Snapshot::take(&self.host)?, Snapshot::of(self.pod.netns())?];
        for ((before, after), place) in self.before.iter().zip(&after).zip(["host", "Pod"]) {
            if let Some(left) = before.difference(after, &Shared::with_bridge("cbr0")) {
                return Err(LabError::Wrong(format!("{case}: left on the {place}:\n{left}")));
            }
        }
        Ok(())
    }
}

/// The system calls of an ADD on a fresh host.
fn syscalls_of_add(strace: &Strace) -> Result<Vec<Syscall>> {
    let scene = Scene::new()?;
    let (answer, syscalls) = strace.syscalls(scene.add()?, &scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(syscalls.len() > 50, "strace saw only {syscalls:?}");
    Ok(syscalls)
}

/// Runs a case for each system call, on a scene of its own.
fn for_each(
    syscalls: &[Syscall],
    case: impl Fn(&Syscall, &Scene) -> Result<()> + Sync,
) -> Result<()> {
    strace::for_each(syscalls, |syscall| case(syscall, &Scene::new()?))
}

#[test]
fn killed_at_any_system_call_del_finds_all_and_add_works_again() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let syscalls = syscalls_of_add(&strace)?;
    let killed = AtomicUsize::new(0);
    for_each(&syscalls, |syscall, scene| {
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        let ended = strace.kill_at(syscall, scene.add()?, &scene.host)?;
        if ended.code.is_none() {
            killed.fetch_add(1, Ordering::Relaxed);
        }
        scene.del()?;
        scene.assert_nothing_left(&case)?;

        let again = scene.add()?.run(&scene.host)?;
        assert_eq!(again.code, Some(0), "{case}, then DEL, then ADD: {again:?}");
        scene.del()?;
        scene.assert_nothing_left(&format!("{case}, then DEL, ADD, DEL"))
    })?;
    // How often an ADD asks whether the kernel is ready differs a little from one to the next, so
    // that a few live. (Those that died are known by strace, which dies of the same signal.)
    let (killed, all) = (killed.into_inner(), syscalls.len());
    assert!(killed * 10 > all * 9, "only {killed} of {all} were killed");
    Ok(())
}

/// The same attachment, without the DEL in between that a careful runtime sends.
#[test]
fn killed_at_any_system_call_the_pod_of_another_name_is_not_disturbed() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let syscalls = syscalls_of_add(&strace)?;
    for_each(&syscalls, |syscall, scene| {
        strace.kill_at(syscall, scene.add()?, &scene.host)?;
        let (other, network) = (Pod::create("other")?, scene.network()?);
        let mut runtime = scene.runtime()?;
        runtime.add(&network, &other.attachment())?;
        runtime.check(&network, &other.attachment())?;
        runtime.gc(&network, &[&other.attachment()])?;
        runtime.check(&network, &other.attachment())?;
        runtime.del(&network, &other.attachment())?;
        let case = format!("killed at {} number {}, then GC", syscall.name, syscall.turn);
        // GC cannot know the Pod's namespace, but its end of the veth went with the host's.
        scene.assert_nothing_left(&case)
    })?;
    Ok(())
}

/// Whatever fails, and the kernel may refuse anything, an ADD that reports an error has undone all.
#[test]
fn failing_at_any_system_call_leaves_nothing() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let mut syscalls = syscalls_of_add(&strace)?;
    syscalls.retain(asks);
    assert!(syscalls.len() > 20, "{syscalls:?}");
    for_each(&syscalls, |syscall, scene| {
        let case = format!("failed at {} number {}", syscall.name, syscall.turn);
        let answer = strace.fail_at(syscall, "ENOMEM", scene.add()?, &scene.host)?;
        match answer.failure() {
            Some(error) => assert_ne!(error.code, 0, "{case}: {answer:?}"),
            // Some questions have another way to an answer.
            None => scene.del()?,
        }
        scene.assert_nothing_left(&case)
    })?;
    Ok(())
}

/// Calls that ask the kernel or the file system for something. Not the writes to the standard
/// output, which come when all is done: a runtime that sees no result sends DEL. Of the `setns`,
/// those that enter a namespace and not those that return from it: there is no way on from there.
fn asks(syscall: &Syscall) -> bool {
    match syscall.name.as_str() {
        "openat" | "open" | "sendto" | "sendmsg" | "socket" | "bind" | "linkat" | "flock" => true,
        "setns" => syscall.turn % 2 == 1,
        _ => false,
    }
}
