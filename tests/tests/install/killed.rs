//! `install` and `uninstall`, killed at each of their system calls: no plugin is ever half there or
//! gone, and the next run makes it right.

use std::sync::atomic::{AtomicUsize, Ordering};

use cbr0_tests::files::files;
use cbr0_tests::strace::{Strace, Syscall, for_each};
use cbr0_tests::{Outcome, Result, require};

use crate::scene::{FOREIGN, PLUGINS, Scene, Verb, stand_in};

#[test]
fn a_killed_install_is_finished_by_the_next_or_undone() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let complete = Scene::new()?;
    let syscalls = syscalls_of(&strace, Verb::Install, &complete)?;
    let installed = complete.contents()?;
    let killed = AtomicUsize::new(0);
    for_each(&syscalls, |syscall| {
        for then in [Verb::Install, Verb::Uninstall] {
            let scene = Scene::new()?;
            let case = format!("killed at {} number {}", syscall.name, syscall.turn);
            let ended = strace.kill_at(syscall, scene.call(Verb::Install)?, &scene.host)?;
            killed.fetch_add(usize::from(ended.code.is_none()), Ordering::Relaxed);
            assert_whole(&scene, &case)?;
            scene.run(then)?;
            if let Verb::Install = then {
                assert_eq!(scene.contents()?, installed, "{case}, then install");
                scene.run(Verb::Uninstall)?;
            }
            assert_undone(&scene, &case)?;
        }
        Ok(())
    })?;
    assert_killed(&killed, 2 * syscalls.len());
    Ok(())
}

#[test]
fn a_killed_uninstall_is_finished_by_the_next() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let complete = Scene::new()?;
    complete.run(Verb::Install)?;
    let syscalls = syscalls_of(&strace, Verb::Uninstall, &complete)?;
    let killed = AtomicUsize::new(0);
    for_each(&syscalls, |syscall| {
        let scene = Scene::new()?;
        scene.run(Verb::Install)?;
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        let ended = strace.kill_at(syscall, scene.call(Verb::Uninstall)?, &scene.host)?;
        killed.fetch_add(usize::from(ended.code.is_none()), Ordering::Relaxed);
        assert_ne!(scene.contents()?.get("bridge"), None, "{case}");
        scene.run(Verb::Uninstall)?;
        assert_undone(&scene, &case)
    })?;
    assert_killed(&killed, syscalls.len());
    Ok(())
}

/// A crash of the machine is not to be had here; but a file must be on the disk before it gets its
/// name, and the name when the program goes on.
#[test]
fn a_file_is_on_the_disk_before_it_has_its_name() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let syscalls = syscalls_of(&strace, Verb::Install, &Scene::new()?)?;
    let about_disks = |syscall: &Syscall| match syscall.name.as_str() {
        "fsync" => Some("fsync"),
        "rename" | "renameat" | "renameat2" => Some("rename"),
        "link" | "linkat" => Some("link"),
        _ => None,
    };
    let order: Vec<&str> = syscalls.iter().filter_map(about_disks).collect();
    let mut names = PLUGINS.to_vec();
    names.sort_unstable();
    let one = |name: &&str| match *name {
        // What is there of others gets a second name first.
        "bridge" => "link fsync fsync rename fsync",
        _ => "fsync rename fsync",
    };
    assert_eq!(order, names.iter().map(one).flat_map(|one| one.split(' ')).collect::<Vec<_>>());
    Ok(())
}

fn syscalls_of(strace: &Strace, verb: Verb, scene: &Scene) -> Result<Vec<Syscall>> {
    let (answer, syscalls) = strace.syscalls(scene.call(verb)?, &scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(syscalls.len() > 50, "strace saw only {syscalls:?}");
    Ok(syscalls)
}

/// Each plugin is what it was or what it is to be, and what is not ours is not lost.
fn assert_whole(scene: &Scene, case: &str) -> Result<()> {
    let contents = scene.contents()?;
    let version = env!("CARGO_PKG_VERSION");
    let plugin = |name: &str| (contents.get(name), stand_in(version, name));
    let (bridge, host_local) = (plugin("bridge"), plugin("host-local"));
    let others = PLUGINS.iter().filter(|name| !["bridge", "host-local"].contains(name));
    let foreign = FOREIGN.as_bytes().to_vec();
    let saved = contents.get("bridge.cbr0-saved");
    assert!(bridge.0 == Some(&foreign) || bridge.0 == Some(&bridge.1), "{case}: {bridge:?}");
    assert!(bridge.0 == Some(&foreign) || saved == Some(&foreign), "{case}: {saved:?}");
    let older = stand_in("0.0.9", "host-local");
    assert!(host_local.0 == Some(&older) || host_local.0 == Some(&host_local.1), "{case}");
    for (there, built) in others.map(|name| plugin(name)) {
        assert!(there.is_none_or(|there| *there == built), "{case}: {there:?}");
    }
    Ok(())
}

/// All is as it was, but for the older plugin of ours.
fn assert_undone(scene: &Scene, case: &str) -> Result<()> {
    let mut before = scene.before.clone();
    before.remove("host-local");
    assert_eq!(files(&scene.bin_dir)?, before, "{case}, then uninstall");
    Ok(())
}

/// Nearly all: a call that is made now and then only may not have been made.
fn assert_killed(killed: &AtomicUsize, all: usize) {
    let killed = killed.load(Ordering::Relaxed);
    assert!(killed * 10 > all * 9, "only {killed} of {all} were killed");
}
