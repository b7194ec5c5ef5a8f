//! The conflist that the route syncer writes: a runtime can use it, and never sees half of it.

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use cbr0_tests::error::Context;
use cbr0_tests::files::files;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{LabError, Outcome, Result, bins};
use kernel::Rtnl;
use serde_json::{Value, json};

use crate::node::{Scene, Watch};

#[test]
fn cnitool_is_served_by_what_was_installed_and_written_and_all_goes_again() -> Outcome {
    let (Some(tool), true) = (require::part(Part::Cnitool)?, require::root()?) else {
        return Ok(());
    };
    let scene = Scene::new()?;
    let (bin_dir, conflist) = (scene.host.folder().join("bin"), scene.conflist());
    fs::create_dir(&bin_dir)?;
    for foreign in [bin_dir.join("bridge"), bin_dir.join("tuning")] {
        fs::write(foreign, "#!/bin/sh\nexit 1\n")?;
    }
    fs::write(scene.net_d.join("99-other.conflist"), "{}")?;
    let before = [files(&bin_dir)?, files(&scene.net_d)?];

    let in_bin_dir = ["--bin-dir".as_ref(), bin_dir.as_os_str()];
    let install = Call::bare(bins::route_syncer()?).args(["install"]).args(in_bin_dir);
    let answer = install.run(&scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let watch = Watch::new(&scene.net_d)?;
    let syncer = scene.start()?;
    watch.until(&conflist, "10.0.1.0/24")?;
    // What was written stays when the daemon is gone.
    drop(syncer);

    let pod = Pod::create("pod")?;
    let result = scene.cnitool(&tool, "add", &bin_dir, &pod)?.json()?;
    let addresses = [&result["ips"][0]["address"], &result["ips"][1]["address"]];
    assert_eq!(addresses, [&json!("10.0.1.2/24"), &json!("fd00:0:0:1::2/64")], "{result}");
    let eth0 = Rtnl::open_in(pod.netns())?.link_by_name("eth0")?;
    assert_eq!(eth0.map(|link| link.mtu), Some(1400), "that of the uplink");
    for verb in ["status", "check", "del"] {
        scene.cnitool(&tool, verb, &bin_dir, &pod)?;
    }

    let uninstall = Call::bare(bins::route_syncer()?).args(["uninstall"]).args(in_bin_dir);
    let answer = uninstall.args(["--conflist".as_ref(), conflist.as_os_str()]).run(&scene.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!([files(&bin_dir)?, files(&scene.net_d)?], before);
    Ok(())
}

#[test]
fn a_reader_never_sees_half_a_file() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let (net_d, flannel) = (Watch::new(&scene.net_d)?, Watch::new(&scene.flannel())?);
    let _syncer = scene.start()?;
    let follow = |range: &str| -> Result<()> {
        net_d.until(&scene.conflist(), &format!("{range}.0/24"))?;
        flannel.until(&scene.subnet_env(), &format!("FLANNEL_SUBNET={range}.1/24"))
    };
    follow("10.0.1")?;
    thread::scope(|scope| {
        let (report, reads) = channel();
        let watched = &scene;
        let reader = scope.spawn(move || read_on(&report, watched));
        let edited = edit(&reads, |new| {
            scene.list(&format!("{new}.0/24"))?;
            follow(new)
        });
        // However it ended, the reader ends with it.
        drop(reads);
        reader.join().map_err(|_| LabError::Wrong("the reader failed".to_owned()))??;
        edited
    })?;
    Ok(())
}

/// Edits again and again, and goes on when the reader has read since.
fn edit(reads: &Receiver<()>, change: impl Fn(&str) -> Result<()>) -> Result<()> {
    for new in ["10.0.7", "10.0.1"].iter().cycle().take(40) {
        change(new)?;
        while reads.try_recv().is_ok() {}
        reads.recv().map_err(|_| LabError::Wrong("the reader has ended".to_owned()))?;
    }
    Ok(())
}

/// Reads both files again and again, until nobody hears of it.
fn read_on(report: &Sender<()>, scene: &Scene) -> Result<()> {
    let (conflist, subnet_env) = (scene.conflist(), scene.subnet_env());
    while report.send(()).is_ok() {
        let text = fs::read_to_string(&conflist).context(|| "read the conflist".to_owned())?;
        let list = serde_json::from_str::<Value>(&text);
        assert!(list.is_ok_and(|list| list["name"] == "cbr0"), "half a conflist: {text:?}");
        let text = fs::read_to_string(&subnet_env).context(|| "read subnet.env".to_owned())?;
        assert!(text.ends_with("\nFLANNEL_IPMASQ=true\n"), "half a subnet.env: {text:?}");
    }
    Ok(())
}

#[test]
fn what_is_as_it_should_be_is_not_written_and_what_is_not_known_changes_nothing() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    fs::create_dir(scene.host.folder().join("run"))?;
    let watch = Watch::new(&scene.host.folder().join("run"))?;
    let (net_d, flannel) = (Watch::new(&scene.net_d)?, Watch::new(&scene.flannel())?);
    let syncer = scene.start()?;
    net_d.until(&scene.conflist(), "10.0.1.0/24")?;
    flannel.until(&scene.subnet_env(), "10.0.1.1/24")?;
    let written = || Ok::<_, LabError>([files(&scene.net_d)?, files(&scene.flannel())?]);
    let before = written()?;

    // The daemon tells its status after it has looked at the files.
    scene.list_with("10.0.1.0/24", "10.0.9.0/24")?;
    watch.until(&scene.status_file(), "10.0.9.0/24")?;
    assert_eq!(written()?, before, "another node has changed");
    scene.list_without_this_node()?;
    watch
        .until(&scene.status_file(), "10-cbr0.conflist: not written, since the source tells no")?;
    assert_eq!(written()?, before, "this node is not known");
    drop(syncer);
    scene.list("10.0.1.0/24")?;
    let _syncer = scene.start()?;
    watch.until(&scene.status_file(), "\"problems\": []")?;
    // That is told by the first sync, before the files are looked at. The second one looks first.
    scene.list_with("10.0.1.0/24", "10.0.9.0/24")?;
    watch.until(&scene.status_file(), "10.0.9.0/24")?;
    assert_eq!(written()?, before, "the daemon was restarted");
    Ok(())
}

#[test]
fn a_conflist_of_others_stays_and_status_tells() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let run_dir = scene.host.folder().join("run");
    fs::create_dir(&run_dir)?;
    let foreign = r#"{"cniVersion": "1.0.0", "name": "mine", "plugins": []}"#;
    fs::write(scene.conflist(), foreign)?;
    let watch = Watch::new(&run_dir)?;
    let _syncer = scene.start()?;
    watch.until(&scene.status_file(), "10-cbr0.conflist: not written by route-syncer")?;
    let status = Call::bare(bins::route_syncer()?).args(["status", "--run-dir"]).args([run_dir]);
    let answer = status.run(&scene.host)?;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stdout.contains("move it away, or give another path"), "{answer:?}");
    let kept = fs::read_to_string(scene.conflist())?;
    assert_eq!(kept, foreign);
    // Moved away, ours takes its place by itself.
    fs::rename(scene.conflist(), scene.net_d.join("mine.kept"))?;
    Watch::new(&scene.net_d)?.until(&scene.conflist(), "10.0.1.0/24")?;
    Ok(())
}
