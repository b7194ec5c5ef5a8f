//! An ADD is a transaction, whatever happens to it: failing at any request it leaves nothing, and what
//! it leaves when it is killed, DEL and GC find.

use cbr0_tests::plugin::Call;
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{Outcome, Result, require};

use crate::alone::{Alone, Who};

/// The system calls of a call on a scene of its own, after others, from its first socket on: what
/// comes before changes nothing. `None` when the test must end.
fn syscalls(
    before: impl FnOnce(&Alone) -> Result<()>,
    call: impl FnOnce(&Alone) -> Result<Call>,
) -> Result<Option<(Strace, Vec<Syscall>)>> {
    if !require::nf_tables()? {
        return Ok(None);
    }
    let Some(strace) = Strace::find()? else { return Ok(None) };
    let scene = Alone::new()?;
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
    case: impl Fn(&Syscall, &Alone, String) -> Result<()> + Sync,
) -> Result<()> {
    strace::for_each(syscalls, |syscall| {
        let name = format!("at {} number {}", syscall.name, syscall.turn);
        case(syscall, &Alone::new()?, name)
    })
}

#[test]
fn killed_at_any_system_call_del_and_gc_find_all_and_add_works_again() -> Outcome {
    let pod = Who::first();
    let found = syscalls(|_| Ok(()), |scene| scene.call("ADD", &pod))?;
    let Some((strace, syscalls)) = found else { return Ok(()) };
    for_each(&syscalls, |syscall, scene, case| {
        let killed = || strace.kill_at(syscall, scene.call("ADD", &pod)?, &scene.host).map(drop);
        killed()?;
        scene.succeed("DEL", &pod)?;
        scene.assert_nothing_left(&format!("killed {case}, then DEL"))?;

        killed()?;
        scene.collect(&pod)?;
        scene.assert_nothing_left(&format!("killed {case}, then GC"))?;

        killed()?;
        for verb in ["ADD", "CHECK", "DEL"] {
            scene.succeed(verb, &pod)?;
        }
        scene.assert_nothing_left(&format!("killed {case}, then ADD and DEL"))
    })?;
    Ok(())
}

#[test]
fn failing_at_any_request_leaves_nothing() -> Outcome {
    let pod = Who::first();
    let found = syscalls(|_| Ok(()), |scene| scene.call("ADD", &pod))?;
    let Some((strace, mut syscalls)) = found else { return Ok(()) };
    let asks = ["openat", "open", "sendto", "sendmsg", "socket", "bind"];
    syscalls.retain(|syscall| asks.contains(&syscall.name.as_str()));
    assert!(syscalls.len() > 8, "{syscalls:?}");
    for_each(&syscalls, |syscall, scene, case| {
        let answer = strace.fail_at(syscall, "ENOMEM", scene.call("ADD", &pod)?, &scene.host)?;
        match answer.failure() {
            Some(error) => assert_ne!(error.code, 0, "failed {case}: {answer:?}"),
            // Some questions have another way to an answer.
            None => scene.succeed("DEL", &pod)?,
        }
        scene.assert_nothing_left(&format!("failed {case}"))
    })?;
    Ok(())
}

/// Another network of the container waits for the ports: whenever DEL is killed, the next one gives
/// them to it.
#[test]
fn del_killed_at_any_system_call_the_next_one_hands_the_ports_over() -> Outcome {
    let (holder, waiter) = (Who::first(), Who::second_network());
    let both = |scene: &Alone| {
        scene.succeed("ADD", &holder)?;
        scene.succeed("ADD", &waiter)
    };
    let Some((strace, syscalls)) = syscalls(both, |scene| scene.call("DEL", &holder))? else {
        return Ok(());
    };
    for_each(&syscalls, |syscall, scene, case| {
        both(scene)?;
        strace.kill_at(syscall, scene.call("DEL", &holder)?, &scene.host)?;
        scene.succeed("DEL", &holder)?;
        scene.succeed("CHECK", &waiter)?;
        // Who comes back waits.
        scene.succeed("ADD", &holder)?;
        for who in [&waiter, &holder] {
            scene.succeed("DEL", who)?;
        }
        scene.assert_nothing_left(&format!("DEL killed {case}"))
    })?;
    Ok(())
}
