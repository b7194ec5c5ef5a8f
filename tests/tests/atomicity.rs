//! An ADD is a transaction: killed at any moment, DEL finds what it left; failing at any step, it
//! leaves nothing. A DEL that was killed is finished by the next one.

use std::sync::atomic::{AtomicUsize, Ordering};

use cbr0_tests::pod::Pod;
use cbr0_tests::sample::{self, Sample, Scene};
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{Outcome, Result, uml};

/// The tests of each plugin: its ADD is a transaction.
macro_rules! transactions {
    ($($plugin:ident: $sample:expr;)*) => {$(
        mod $plugin {
            use super::*;

            #[test]
            fn killed_at_any_system_call_del_finds_all_and_add_works_again() -> Outcome {
                killed_then_del(&$sample)
            }

            #[test]
            fn killed_at_any_system_call_the_pod_of_another_name_is_not_disturbed() -> Outcome {
                killed_then_gc(&$sample)
            }

            #[test]
            fn del_killed_at_any_system_call_the_next_del_finds_the_rest() -> Outcome {
                del_killed(&$sample)
            }

            #[test]
            fn failing_at_any_system_call_leaves_nothing() -> Outcome {
                failed(&$sample)
            }
        }
    )*};
}

transactions! {
    bridge: sample::BRIDGE;
    ptp: sample::PTP;
    dummy: sample::DUMMY;
    host_device: sample::HOST_DEVICE;
    ipvlan: sample::IPVLAN;
    macvlan: sample::MACVLAN;
    tap: sample::TAP;
    vlan: sample::VLAN;
}

const VERSION: &str = "1.1.0";

/// The system calls of an ADD on a fresh host.
fn syscalls_of_add(sample: &Sample, strace: &Strace) -> Result<Vec<Syscall>> {
    let scene = Scene::new(sample, VERSION)?;
    let (answer, syscalls) = strace.cases(scene.add()?, &scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let few = if uml::is_inside() { 5 } else { 50 };
    assert!(syscalls.len() > few, "strace saw only {syscalls:?}");
    Ok(syscalls)
}

/// Runs a case for each system call, on a scene of its own.
fn for_each(
    sample: &Sample,
    syscalls: &[Syscall],
    case: impl Fn(&Syscall, &Scene) -> Result<()> + Sync,
) -> Result<()> {
    strace::for_each(syscalls, |syscall| case(syscall, &Scene::new(sample, VERSION)?))
}

/// `None` when the test must end.
fn strace_for(sample: &Sample) -> Result<Option<Strace>> {
    if sample.can_run()? { Strace::find() } else { Ok(None) }
}

fn killed_then_del(sample: &Sample) -> Outcome {
    let Some(strace) = strace_for(sample)? else { return Ok(()) };
    let syscalls = syscalls_of_add(sample, &strace)?;
    let killed = AtomicUsize::new(0);
    for_each(sample, &syscalls, |syscall, scene| {
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        let ended = strace.kill_at(syscall, scene.add()?, &scene.host)?;
        if ended.code.is_none() {
            killed.fetch_add(1, Ordering::Relaxed);
        }
        scene.runtime()?.del(&scene.network, &scene.last_words())?;
        scene.assert_nothing_left(&case)?;

        let again = scene.add()?.run(&scene.host)?;
        assert_eq!(again.code, Some(0), "{case}, then DEL, then ADD: {again:?}");
        scene.runtime()?.del(&scene.network, &scene.last_words())?;
        scene.assert_nothing_left(&format!("{case}, then DEL, ADD, DEL"))
    })?;
    // How often an ADD asks whether the kernel is ready differs a little from one to the next, so
    // that a few live. (Those that died are known by strace, which dies of the same signal.)
    let (killed, all) = (killed.into_inner(), syscalls.len());
    assert!(killed * 10 > all * 9, "only {killed} of {all} were killed");
    Ok(())
}

/// The same attachment, without the DEL in between that a careful runtime sends.
fn killed_then_gc(sample: &Sample) -> Outcome {
    let Some(strace) = strace_for(sample)? else { return Ok(()) };
    let syscalls = syscalls_of_add(sample, &strace)?;
    for_each(sample, &syscalls, |syscall, scene| {
        strace.kill_at(syscall, scene.add()?, &scene.host)?;
        let (other, network) = (Pod::create("other")?, &scene.network_of_second());
        let mut runtime = scene.runtime()?;
        if sample.lends() {
            // What is with a Pod that lives GC cannot see, and DEL brings it home.
            runtime.gc(network, &[])?;
            runtime.del(network, &scene.last_words())?;
        }
        runtime.add(network, &other.attachment())?;
        runtime.check(network, &other.attachment())?;
        runtime.gc(network, &[&other.attachment()])?;
        runtime.check(network, &other.attachment())?;
        runtime.del(network, &other.attachment())?;
        let case = format!("killed at {} number {}, then GC", syscall.name, syscall.turn);
        // GC cannot know the Pod's namespace; the Pod's end of a veth goes with the host's.
        if sample.on_host {
            scene.assert_nothing_left(&case)
        } else {
            scene.assert_host_as_before(&case)
        }
    })?;
    Ok(())
}

/// A DEL and the child that it starts are killed at the same turn of a system call, each if it gets
/// so far: some calls are made by the child alone, others by the DEL alone.
fn del_killed(sample: &Sample) -> Outcome {
    let Some(strace) = strace_for(sample)? else { return Ok(()) };
    let scene = Scene::new(sample, VERSION)?;
    let del =
        |scene: &Scene| scene.runtime()?.call(&scene.network, 0, "DEL", Some(&scene.last_words()));
    scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
    let (answer, syscalls) = strace.cases(del(&scene)?, &scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let killed = AtomicUsize::new(0);
    for_each(sample, &syscalls, |syscall, scene| {
        let case = format!("DEL killed at {} number {}", syscall.name, syscall.turn);
        scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
        let ended = strace.kill_at(syscall, del(scene)?, &scene.host)?;
        if ended.code != Some(0) {
            killed.fetch_add(1, Ordering::Relaxed);
        }
        let mut runtime = scene.runtime()?;
        runtime.del(&scene.network, &scene.last_words())?;
        scene.assert_pod_as_before(&format!("{case}, then DEL"))?;
        // An address that was not released would be in the way.
        let again = scene.add()?.run(&scene.host)?;
        assert_eq!(again.code, Some(0), "{case}, then DEL, then ADD: {again:?}");
        runtime.del(&scene.network, &scene.last_words())?;
        // What a network's Pods share, and a DEL was killed over, goes with the last of them.
        scene.assert_nothing_left(&format!("{case}, then DEL, ADD, DEL"))?;
        Ok(())
    })?;
    let (killed, all) = (killed.into_inner(), syscalls.len());
    assert!(killed * 10 > all * 8, "only {killed} of {all} were killed");
    Ok(())
}

/// Whatever fails, and the kernel may refuse anything, an ADD that reports an error has undone all.
fn failed(sample: &Sample) -> Outcome {
    let Some(strace) = strace_for(sample)? else { return Ok(()) };
    let mut syscalls = syscalls_of_add(sample, &strace)?;
    syscalls.retain(asks);
    let few = if uml::is_inside() { 4 } else { 20 };
    assert!(syscalls.len() > few, "{syscalls:?}");
    for_each(sample, &syscalls, |syscall, scene| {
        let case = format!("failed at {} number {}", syscall.name, syscall.turn);
        let answer = strace.fail_at(syscall, "ENOMEM", scene.add()?, &scene.host)?;
        match answer.failure() {
            Some(error) => assert_ne!(error.code, 0, "{case}: {answer:?}"),
            // Some questions have another way to an answer.
            None => scene.runtime()?.del(&scene.network, &scene.last_words())?,
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
