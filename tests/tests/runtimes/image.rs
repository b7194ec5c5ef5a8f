//! The image of cbr0 in containerd: its containers install the plugins, and run the syncer, with the
//! rights that the manifest gives them.

use std::path::Path;
use std::process::Command;

use cbr0_tests::folder::FolderEvents;
use cbr0_tests::machine::{DEADLINE, Machine};
use cbr0_tests::{LabError, Outcome, Result, process, require};
use serde_json::json;

use crate::containerd::{Containerd, LIST};
use crate::fixture::{ONE, address, chain};

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

#[test]
fn the_image_makes_a_machine_a_node() -> Outcome {
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

    let install = ["/bin/route-syncer", "install"];
    let said = run(machine, &["--rm"], "CAP_DAC_OVERRIDE", &["/opt/cni/bin"], &install)?;
    assert!(said.contains("keep /opt/cni/bin/host-local aside"), "{said}");

    let nodes = json!([{"name": "node1", "address": "10.100.0.2", "podCIDRs": [ONE]}]);
    machine.write("/run/cbr0/nodes.json", &nodes.to_string())?;
    let folders = ["/etc/cni/net.d", "/run/cbr0"];
    let words = "/bin/route-syncer run --source file --nodes-file /run/cbr0/nodes.json --node node1 \
                 --cluster-cidr 10.0.0.0/14 --conflist";
    let words: Vec<&str> = words.split_whitespace().collect();
    let net_d = machine.path("/etc/cni/net.d");
    let changes = FolderEvents::open(&net_d)?;
    run(machine, &["--detach"], "CAP_NET_ADMIN", &folders, &words)?;
    let list = net_d.join("10-cbr0.conflist");
    let written = changes.wait(DEADLINE, || Ok(list.exists().then_some(())))?;
    written.ok_or_else(|| LabError::Wrong("no list was written".to_owned()))?;

    let pod = containerd.start("pod")?;
    assert_eq!(address(&pod.netns, ONE)?.to_string(), "10.0.1.2");
    let status = ["sh", "-c", "ctr task exec --exec-id look cbr0 /bin/route-syncer status"];
    assert!(machine.run(&status)?.contains("node1"));
    containerd.remove(pod)?;
    machine.run(&["ctr", "task", "kill", "cbr0"])?;
    Ok(())
}
