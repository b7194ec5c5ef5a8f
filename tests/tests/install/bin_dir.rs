//! What `install` and `uninstall` do to the folder of plugins.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use cbr0_tests::error::Context;
use cbr0_tests::files::files;
use cbr0_tests::{Outcome, Result, require};

use crate::scene::{FOREIGN, PLUGINS, Scene, Verb, program, stand_in};

#[test]
fn the_plugins_go_in_and_out_and_what_others_put_there_is_as_before() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let mut scene = Scene::new()?;
    let said = scene.run(Verb::Install)?;
    let mut names = PLUGINS.to_vec();
    names.sort_unstable();
    let install = |name: &&str| {
        let keep = "keep /bin/bridge aside as /bin/bridge.cbr0-saved\n";
        let keep = if *name == "bridge" { keep } else { "" };
        format!("{keep}write /bin/{name}, from /built/{name}\n")
    };
    assert_eq!(said, names.iter().map(install).collect::<String>());
    let installed = files(&scene.bin_dir)?;
    assert_eq!(installed.len(), PLUGINS.len() + 2, "{:?}", installed.keys());
    assert_eq!(installed["bridge.cbr0-saved"], scene.before["bridge"]);
    assert_eq!(installed["flannel"], scene.before["flannel"]);
    for name in PLUGINS.iter().copied() {
        let built = files(&scene.built)?.remove(name).unwrap_or_default();
        let (mode, content) = (built.split("changed").next(), built.split("holds").last());
        let there = &installed[name];
        assert_eq!((there.split("changed").next(), there.split("holds").last()), (mode, content));
    }

    let said = scene.run(Verb::Install)?;
    assert_eq!(said.matches(": it is the same\n").count(), PLUGINS.len(), "{said}");
    assert_eq!(files(&scene.bin_dir)?, installed);

    let said = scene.run(Verb::Uninstall)?;
    let uninstall = |name: &&str| match *name {
        "bridge" => "put /bin/bridge.cbr0-saved back as /bin/bridge\n".to_owned(),
        name => format!("remove /bin/{name}\n"),
    };
    assert_eq!(said, names.iter().map(uninstall).collect::<String>());
    scene.before.remove("host-local");
    assert_eq!(files(&scene.bin_dir)?, scene.before);
    let said = scene.run(Verb::Uninstall)?;
    assert_eq!(said.matches("leave ").count(), PLUGINS.len(), "{said}");
    assert_eq!(files(&scene.bin_dir)?, scene.before);
    Ok(())
}

#[test]
fn a_dry_run_says_the_same_and_does_nothing() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    for verb in [Verb::Install, Verb::Uninstall] {
        let before = everything(&scene)?;
        let answer = scene.call(verb)?.args(["--dry-run"]).run(&scene.host)?;
        assert_eq!(everything(&scene)?, before, "{verb:?}");
        let said = answer.stdout.replace(&*scene.host.folder().to_string_lossy(), "");
        assert_eq!(said, scene.run(verb)?);
        assert_ne!(everything(&scene)?, before, "{verb:?}");
    }
    Ok(())
}

/// The files of the scene, and when their folder was last changed.
fn everything(scene: &Scene) -> Result<String> {
    let meta = fs::metadata(&scene.bin_dir).context(|| "look at the folder".to_owned())?;
    Ok(format!("{:?} {} {}", files(&scene.bin_dir)?, meta.mtime(), meta.mtime_nsec()))
}

#[test]
fn a_folder_that_is_not_there_is_made() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let mut scene = Scene::new()?;
    scene.bin_dir = scene.host.folder().join("opt/cni/bin");
    assert!(scene.run(Verb::Uninstall)?.contains("leave /opt/cni/bin/bridge: it is not there"));
    let dry = scene.call(Verb::Install)?.args(["--dry-run"]).run(&scene.host)?;
    assert!(dry.stdout.contains("make the folder") && !scene.bin_dir.exists(), "{dry:?}");
    assert!(scene.run(Verb::Install)?.starts_with("make the folder /opt/cni/bin\nwrite "));
    assert_eq!(scene.contents()?.len(), PLUGINS.len());
    Ok(())
}

#[test]
fn a_file_of_others_is_kept_aside_once() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.run(Verb::Install)?;
    program(&scene.bin_dir.join("bridge"), b"#!/bin/sh\nanother\n", 0o755)?;
    let before = files(&scene.bin_dir)?;
    let error = scene.refused()?;
    assert!(error.contains("/bin/bridge is not ours, and neither is"), "{error}");
    assert!(error.contains("remove the one that is not needed"), "{error}");
    assert_eq!(files(&scene.bin_dir)?, before);
    // Taking ours away leaves both.
    let said = scene.run(Verb::Uninstall)?;
    assert!(said.contains("leave /bin/bridge: it is not ours; what was kept aside"), "{said}");
    let contents = scene.contents()?;
    assert_eq!(contents["bridge"], b"#!/bin/sh\nanother\n");
    assert_eq!(contents["bridge.cbr0-saved"], FOREIGN.as_bytes());
    Ok(())
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_done() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let loopback = scene.built.join("loopback");
    let refused = |words: &[&str]| -> Result<()> {
        let error = scene.refused()?;
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert_eq!(files(&scene.bin_dir)?, scene.before);
        Ok(())
    };
    program(&loopback, FOREIGN.as_bytes(), 0o755)?;
    refused(&["/built/loopback: it is another program", "--from"])?;
    program(&loopback, &stand_in("0.0.9", "loopback"), 0o755)?;
    refused(&["/built/loopback: it is of version 0.0.9", "--from"])?;
    fs::remove_file(&loopback)?;
    refused(&["/built/loopback: cannot read the plugin", "No such file", "--from"])?;
    program(&loopback, &stand_in(env!("CARGO_PKG_VERSION"), "loopback"), 0o755)?;

    let folder = File::open(&scene.bin_dir)?;
    folder.lock()?;
    refused(&["another install or uninstall works on /bin: wait"])?;
    folder.unlock()?;

    fs::create_dir(scene.bin_dir.join("loopback"))?;
    let error = scene.refused()?;
    assert!(error.contains("/bin/loopback is no file: move it away"), "{error}");
    fs::remove_dir(scene.bin_dir.join("loopback"))?;
    assert_eq!(files(&scene.bin_dir)?, scene.before);
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_the_remedy() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let mut scene = Scene::new()?;
    // Root may write wherever there is something to write to, but not below a file.
    scene.bin_dir = scene.bin_dir.join("bridge/bin");
    let error = scene.refused()?;
    assert!(error.contains("/bin/bridge/bin: cannot make it"), "{error}");
    assert!(error.contains("as root") && error.contains("--bin-dir"), "{error}");
    Ok(())
}
