//! podman 4, whose network backend is CNI.

use cbr0_tests::probe::{self, Endpoint, PORT};
use cbr0_tests::require::Part;
use cbr0_tests::snapshot::Shared;
use cbr0_tests::{Outcome, Result};
use kernel::NetNs;

use crate::fixture::{HOST_PORT, IMAGE, LIMIT, ONE, Scene, TWO, address, assert_tuned, chain};

/// Limits are those that a process without CAP_SYS_RESOURCE may set.
const CONF: &str = r#"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_sysctls = []
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"#;
const STORAGE: &str = r#"
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"#;

struct Podman(Scene);

impl Podman {
    fn new() -> Result<Option<Podman>> {
        let Some(scene) = Scene::new(Part::Podman)? else { return Ok(None) };
        scene.machine.write("/etc/containers/containers.conf", CONF)?;
        scene.machine.write("/etc/containers/storage.conf", STORAGE)?;
        scene.machine.run(&["podman", "load", "-i", "/run/image.tar"])?;
        Ok(Some(Podman(scene)))
    }

    /// Starts a container that does nothing, and enters its network.
    fn start(&self, name: &str, options: &[&str]) -> Result<NetNs> {
        let mut words = vec!["podman", "run", "--detach", "--name", name];
        words.extend(options);
        words.push(IMAGE);
        self.0.machine.run(&words)?;
        let format = ["podman", "inspect", "--format", "{{.State.Pid}}", name];
        self.0.machine.netns_of(&self.0.machine.run(&format)?)
    }

    fn remove(&self, names: &[&str]) -> Result<()> {
        let mut words = vec!["podman", "rm", "--force", "--time", "0"];
        words.extend(names);
        self.0.machine.run(&words)?;
        Ok(())
    }
}

fn published() -> String {
    format!("{HOST_PORT}:{PORT}")
}

#[test]
fn a_published_port_of_a_network_that_podman_made() -> Outcome {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    let create = ["podman", "network", "create", "--disable-dns", "--subnet", ONE, "one"];
    podman.0.machine.run(&create)?;
    podman.start("warm-up", &["--network", "one", "-p", &published()])?;
    podman.remove(&["warm-up"])?;
    let before = podman.0.snapshot()?;

    let server = podman.start("server", &["--network", "one", "-p", &published()])?;
    let client = podman.start("client", &["--network", "one"])?;
    let _endpoint = Endpoint::serve(&server)?;
    let (at, from) = (address(&server, ONE)?, address(&client, ONE)?);
    let source = probe::call(&client, at)?;
    assert_eq!((source.own, source.seen), (from, from));
    probe::call(podman.0.host().netns(), at)?;
    podman.0.call_host_port()?;

    podman.remove(&["server"])?;
    podman.0.assert_host_port_gone();
    podman.remove(&["client"])?;
    Ok(podman.0.assert_as_before(&before, &Shared::after_warm_up())?)
}

#[test]
fn a_container_on_two_networks_of_ours() -> Outcome {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    for (name, subnet) in [("one", ONE), ("two", TWO)] {
        let list = chain(name, &format!("br-{name}"), subnet, None).to_string();
        podman.0.machine.write(&format!("/etc/cni/net.d/{name}.conflist"), &list)?;
    }
    let networks = ["--network", "one", "--network", "two"];
    podman.start("warm-up", &networks)?;
    podman.remove(&["warm-up"])?;
    let before = podman.0.snapshot()?;

    let both = podman.start("both", &networks)?;
    let _endpoint = Endpoint::serve(&both)?;
    let one = podman.start("one", &["--network", "one"])?;
    let two = podman.start("two", &["--network", "two"])?;
    probe::call(&one, address(&both, ONE)?)?;
    probe::call(&two, address(&both, TWO)?)?;
    assert_tuned(&both)?;
    assert_eq!(podman.0.limits()?, [LIMIT; 8], "both ways, of four interfaces");

    podman.0.machine.run(&["podman", "network", "disconnect", "two", "both"])?;
    probe::call(&one, address(&both, ONE)?)?;
    assert_eq!(podman.0.limits()?, [LIMIT; 6]);
    podman.remove(&["both", "one", "two"])?;
    Ok(podman.0.assert_as_before(&before, &Shared::after_warm_up())?)
}
