//! The image of cbr0 in containerd: its containers install the plugins, and run the syncer, with the
//! rights that the manifest gives them.

use std::path::Path;
use std::process::Command;

use cbr0_tests::folder::FolderEvents;
use cbr0_tests::machine::{DEADLINE, Machine};
use cbr0_tests::probe::{self, Endpoint};
use cbr0_tests::{LabError, Outcome, Result, process, require};
use serde_json::json;

use crate::containerd::{Containerd, LIST};
use crate::fixture::{ONE, address, chain};

const MANIFEST: &str = include_str!("../../../deploy/cbr0.yaml");
const REMOVE: &str = include_str!("../../../deploy/cbr0-remove.yaml");
const CBR0: &str = concat!("localhost/cbr0:", env!("CARGO_PKG_VERSION"));
/// What containers have unless told otherwise.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
/// The host's own folder, for whoever has another user's there.
const FOREIGN: &str = "mkdir -p /opt/cni/bin; echo theirs >/opt/cni/bin/host-local
    chmod 755 /opt/cni/bin/host-local; chown -R 1001:1001 /opt/cni/bin";

/// Puts the image where the machine has it.
fn import(machine: &Machine) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image");
    let mut command = Command::new(script);
    command.arg(machine.path("/run/cbr0.tar"));
    let made = process::run(command, b"", DEADLINE)?;
    if !made.status.success() {
        return Err(LabError::Wrong(format!("{made:#?}")));
    }
    machine.run(&["ctr", "image", "import", "/run/cbr0.tar"])?;
    Ok(())
}

/// A container of the image, as the manifest has them: on the host's network, with a root that cannot
/// be written to, one capability, and a filter of system calls.
fn run(
    machine: &Machine,
    options: &[&str],
    capability: &str,
    folders: &[&str],
    words: &[&str],
) -> Result<String> {
    let mut all = vec!["ctr", "run", "--net-host", "--read-only", "--seccomp"];
    all.extend(options);
    // What is both dropped and added is dropped.
    for dropped in DEFAULT.iter().filter(|name| **name != capability) {
        all.extend(["--cap-drop", dropped]);
    }
    if !DEFAULT.contains(&capability) {
        all.extend(["--cap-add", capability]);
    }
    let mount = |folder: &&str| format!("type=bind,src={folder},dst={folder},options=rbind:rw");
    let mounts: Vec<String> = folders.iter().map(mount).collect();
    for mount in &mounts {
        all.extend(["--mount", mount]);
    }
    all.extend([CBR0, "cbr0"]);
    all.extend(words);
    machine.run(&all)
}

/// The capabilities that a manifest gives to its two containers, in their order.
fn capabilities(manifest: &str) -> Result<[String; 2]> {
    let added = manifest.lines().filter_map(|line| line.trim().strip_prefix("add: ["));
    let added = added.map(|names| format!("CAP_{}", names.trim_end_matches(']')));
    let wrong = |all| LabError::Wrong(format!("these are not one for each container: {all:?}"));
    added.collect::<Vec<_>>().try_into().map_err(wrong)
}

/// The containers of the manifest, as far as they can be without an API server.
struct Deployed<'a>(&'a Machine);

impl Deployed<'_> {
    fn install(&self) -> Result<String> {
        let ([capability, _], words) = (capabilities(MANIFEST)?, ["/bin/route-syncer", "install"]);
        run(self.0, &["--rm"], &capability, &["/opt/cni/bin"], &words)
    }

    /// Starts the syncer, and waits until it has written the list for runtimes.
    fn start(&self) -> Result<()> {
        const RUN: &str = "/bin/route-syncer run --source file --nodes-file /run/cbr0/nodes.json \
             --node node1 --cluster-cidr 10.0.0.0/14 --conflist";
        let nodes = json!([{"name": "node1", "address": "10.100.0.2", "podCIDRs": [ONE]}]);
        self.0.write("/run/cbr0/nodes.json", &nodes.to_string())?;
        let net_d = self.0.path("/etc/cni/net.d");
        let changes = FolderEvents::open(&net_d)?;
        let words: Vec<&str> = RUN.split_whitespace().collect();
        let ([_, capability], folders) = (capabilities(MANIFEST)?, ["/etc/cni/net.d", "/run/cbr0"]);
        run(self.0, &["--detach"], &capability, &folders, &words)?;
        let list = net_d.join("10-cbr0.conflist");
        let written = changes.wait(DEADLINE, || Ok(list.exists().then_some(())))?;
        written.ok_or_else(|| LabError::Wrong("no list was written".to_owned()))
    }

    fn status(&self) -> Result<String> {
        let words = "ctr task exec --exec-id look cbr0 route-syncer status";
        self.0.run(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn stop(&self) -> Result<()> {
        self.0.run(&["ctr", "task", "delete", "--force", "cbr0"])?;
        self.0.run(&["ctr", "container", "delete", "cbr0"])?;
        Ok(())
    }

    /// The containers of the manifest that takes all away.
    fn remove(&self) -> Result<()> {
        let [first, second] = capabilities(REMOVE)?;
        let uninstall = ["/bin/route-syncer", "uninstall", "--conflist"];
        let folders = ["/opt/cni/bin", "/etc/cni/net.d"];
        run(self.0, &["--rm"], &first, &folders, &uninstall)?;
        let cleanup = ["/bin/route-syncer", "cleanup"];
        run(self.0, &["--rm"], &second, &["/run/cbr0"], &cleanup)?;
        Ok(())
    }
}

#[test]
fn the_image_makes_a_machine_a_node_and_takes_all_away_again() -> Outcome {
    if !require::release()? {
        return Ok(());
    }
    let Some(containerd) = Containerd::new(&chain("net", "cbr0", ONE, None))? else {
        return Ok(());
    };
    let machine = &containerd.scene.machine;
    // Plugins and list are to be those of the image alone.
    machine.run(&["sh", "-c", &format!("rm -r {LIST} /opt/cni/bin; {FOREIGN}")])?;
    import(machine)?;
    containerd.import()?;

    let deployed = Deployed(machine);
    let said = deployed.install()?;
    assert!(said.contains("keep /opt/cni/bin/host-local aside"), "{said}");
    deployed.start()?;
    let pod = containerd.start("pod")?;
    assert_eq!(address(&pod.netns, ONE)?.to_string(), "10.0.1.2");
    assert!(deployed.status()?.contains("node1"));

    // An upgrade: the Pod is reached before, between and after.
    let _endpoint = Endpoint::serve(&pod.netns)?;
    let reach = || probe::call(containerd.scene.host().netns(), address(&pod.netns, ONE)?);
    reach()?;
    deployed.stop()?;
    reach()?;
    deployed.install()?;
    deployed.start()?;
    reach()?;

    containerd.remove(pod)?;
    deployed.stop()?;
    deployed.remove()?;
    let left = machine.run(&["sh", "-c", "ls /opt/cni/bin /etc/cni/net.d; cat /opt/cni/bin/*"])?;
    assert_eq!(left, "/etc/cni/net.d:\n\n/opt/cni/bin:\nhost-local\ntheirs\n");
    Ok(())
}
