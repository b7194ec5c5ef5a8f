//! containerd 1.6, by its own client `ctr`, which runs the plugins itself.

use std::process::{Child, Stdio};

use cbr0_tests::error::Context as _;
use cbr0_tests::machine::{Machine, first_line};
use cbr0_tests::probe::{self, Endpoint};
use cbr0_tests::require::Part;
use cbr0_tests::snapshot::Shared;
use cbr0_tests::{LabError, Outcome, Result};
use kernel::NetNs;
use serde_json::Value;

use crate::fixture::{IMAGE, LIMIT, ONE, Scene, address, assert_tuned, chain, fixed_port};

/// Without what machines may lack, and with what a process without CAP_SYS_RESOURCE may do.
const CONF: &str = r#"
version = 2
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
"#;

/// The file of its network.
pub(crate) const LIST: &str = "/etc/cni/net.d/10-net.conflist";
/// The file of its process number.
const NUMBER: &str = "/run/containerd.pid";

/// containerd, running on a machine.
pub(crate) struct Containerd {
    pub(crate) scene: Scene,
    daemon: Child,
}

impl Containerd {
    /// With this list of plugins as its network.
    pub(crate) fn new(list: &Value) -> Result<Option<Containerd>> {
        let Some(scene) = Scene::new(Part::Containerd)? else { return Ok(None) };
        scene.machine.write(LIST, &list.to_string())?;
        scene.machine.write("/etc/containerd/config.toml", CONF)?;
        let daemon = start(&scene.machine)?;
        Ok(Some(Containerd { scene, daemon }))
    }

    /// As an update would.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.scene.machine.run(&["sh", "-c", &format!("kill $(cat {NUMBER})")])?;
        self.daemon.wait().context(|| "wait for containerd".to_owned())?;
        self.daemon = start(&self.scene.machine)?;
        Ok(())
    }
}

fn start(machine: &Machine) -> Result<Child> {
    machine.serve(&["sh", "-c", &format!("echo $$ >{NUMBER}; exec containerd")])
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It ends with the machine otherwise, but its parent is here. Both may have ended.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A container of `ctr run`, which removes the network when the container ends, if it waits for it.
pub(crate) struct Task {
    name: String,
    pub(crate) netns: NetNs,
    waiting: Child,
}

impl Containerd {
    pub(crate) fn import(&self) -> Result<()> {
        self.scene.machine.run(&["ctr", "image", "import", "/run/image.tar"])?;
        Ok(())
    }

    pub(crate) fn start(&self, name: &str) -> Result<Task> {
        // It runs once its network is there.
        let script = "echo runs; exec busybox sleep infinity";
        let words = ["ctr", "run", "--rm", "--cni", IMAGE, name, "sh", "-c", script];
        let mut command = self.scene.machine.command(&words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut waiting = command.spawn().context(|| format!("start {name}"))?;
        if let Some(stdout) = waiting.stdout.as_mut()
            && let Err(error) = first_line(stdout, name)
        {
            let _ = waiting.kill();
            let said = waiting.wait_with_output().context(|| format!("wait for {name}"))?;
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            return Err(LabError::Wrong(format!("{error}: {said}")));
        }
        let tasks = self.scene.machine.run(&["ctr", "task", "list"])?;
        let number = number(&tasks, name)?;
        let netns = self.scene.machine.netns_of(&number)?;
        Ok(Task { name: name.to_owned(), netns, waiting })
    }

    pub(crate) fn remove(&self, task: Task) -> Result<()> {
        self.scene.machine.run(&["ctr", "task", "kill", "--signal", "KILL", &task.name])?;
        let ended =
            task.waiting.wait_with_output().context(|| format!("wait for {}", task.name))?;
        // The container's status is that of a killed one.
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((said.as_ref(), ended.status.code()), ("", Some(137)));
        Ok(())
    }
}

/// Of a table such as `TASK PID STATUS`.
fn number(tasks: &str, name: &str) -> Result<String> {
    let mut rows = tasks.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&name));
    let number = row.and_then(|row| row.get(1).map(|number| (*number).to_owned()));
    number.ok_or_else(|| LabError::Wrong(format!("{name} is none of these tasks:\n{tasks}")))
}

#[test]
fn containers_of_ctr() -> Outcome {
    let list = |ports| chain("net", "cbr0", ONE, ports);
    let Some(containerd) = Containerd::new(&list(Some(fixed_port())))? else { return Ok(()) };
    let scene = &containerd.scene;
    containerd.import()?;
    containerd.remove(containerd.start("warm-up")?)?;
    let before = scene.snapshot()?;

    let server = containerd.start("server")?;
    // One port of the host leads to one container.
    scene.machine.write(LIST, &list(None).to_string())?;
    let client = containerd.start("client")?;
    let _endpoint = Endpoint::serve(&server.netns)?;
    let (at, from) = (address(&server.netns, ONE)?, address(&client.netns, ONE)?);
    let source = probe::call(&client.netns, at)?;
    assert_eq!((source.own, source.seen), (from, from));
    probe::call(scene.host().netns(), at)?;
    scene.call_host_port()?;
    assert_tuned(&server.netns)?;
    assert_eq!(scene.limits()?, [LIMIT; 4], "of two containers, both ways");

    containerd.remove(server)?;
    scene.assert_host_port_gone();
    containerd.remove(client)?;
    Ok(scene.assert_as_before(&before, &Shared::after_warm_up())?)
}
