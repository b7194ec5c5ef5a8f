//! A node: containerd, a kubelet and a kube-proxy on a machine of their own.

use std::net::IpAddr;
use std::path::Path;

use cbr0_tests::Result;
use cbr0_tests::error::Context as _;
use cbr0_tests::machine::Machine;
use tempfile::NamedTempFile;

use crate::control::{Control, POD_RANGE};
use crate::daemon::Daemon;
use crate::programs::{Programs, word};

/// What nodes are called.
pub(crate) const NAMES: [&str; 3] = ["node1", "node2", "node3"];
/// What a node of kind's has of plugins.
const KINDS: [&str; 4] = ["host-local", "loopback", "portmap", "ptp"];

/// What a node has on its disk, of all that changes.
const DISK: [&str; 6] =
    ["etc/cni", "opt/cni", "var/lib/cbr0", "var/lib/cni", "var/lib/containerd", "var/lib/kubelet"];

/// A node, running.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) machine: Machine,
    containerd: Option<Daemon>,
    kubelet: Option<Daemon>,
    proxy: Option<Daemon>,
}

impl Node {
    /// A node of which nothing runs yet, on a machine that has this address.
    pub(crate) fn new(name: &str, machine: Machine, address: IpAddr) -> Self {
        let name = name.to_owned();
        Node { name, address, machine, containerd: None, kubelet: None, proxy: None }
    }

    /// Puts to the machine what its programs read, and starts them.
    pub(crate) fn start(&mut self, programs: &Programs, control: &Control) -> Result<()> {
        self.machine.install(&programs.path("reference"), &KINDS)?;
        self.prepare(control)?;
        self.start_containerd()?;
        self.import(&programs.path("containerd").join("image.tar"))?;
        self.import(&programs.image)?;
        self.start_kubelet(programs)?;
        self.start_proxy(programs, "iptables")
    }

    fn prepare(&self, control: &Control) -> Result<()> {
        self.machine.run(&["sh", "-c", include_str!("prepare.sh")])?;
        let write = |file: &str, content: &str| self.machine.write(file, content);
        write("/etc/containerd/config.toml", include_str!("manifests/containerd.toml"))?;
        write("/etc/kubernetes/kubelet.yaml", include_str!("manifests/kubelet.yaml"))?;
        write("/etc/kubernetes/kubelet.conf", &control.config(&self.name)?)?;
        write("/etc/kubernetes/kube-proxy.conf", &control.config("kube-proxy")?)?;
        // Nobody answers there; Pods that do not ask the cluster's DNS get this file.
        write("/etc/resolv.conf", "nameserver 192.0.2.10\n")
    }

    pub(crate) fn start_containerd(&mut self) -> Result<()> {
        self.containerd = Some(Daemon::serve(&self.machine, "containerd", &["containerd"])?);
        Ok(())
    }

    /// Ends containerd, and starts it again.
    pub(crate) fn restart_containerd(&mut self) -> Result<()> {
        if let Some(running) = self.containerd.take() {
            running.stop(&self.machine, "TERM")?;
        }
        self.start_containerd()
    }

    /// Makes the image of an archive one of the node's.
    pub(crate) fn import(&self, archive: &Path) -> Result<()> {
        let archive = word(archive);
        self.machine.run(&["ctr", "-n", "k8s.io", "images", "import", &archive])?;
        Ok(())
    }

    pub(crate) fn start_kubelet(&mut self, programs: &Programs) -> Result<()> {
        let kubelet = programs.word("kubelet");
        let name = format!("--hostname-override={}", self.name);
        let address = format!("--node-ip={}", self.address);
        let words = [
            kubelet.as_str(),
            "--config=/etc/kubernetes/kubelet.yaml",
            "--kubeconfig=/etc/kubernetes/kubelet.conf",
            "--cert-dir=/run/kubelet",
            &name,
            &address,
        ];
        self.kubelet = Some(Daemon::serve(&self.machine, "kubelet", &words)?);
        Ok(())
    }

    /// Ends the kubelet alone.
    pub(crate) fn stop_kubelet(&mut self) -> Result<()> {
        self.kubelet.take().map_or(Ok(()), |running| running.stop(&self.machine, "TERM"))
    }

    /// Kills what writes to the disk, and returns what is on it. Pods die with the machine.
    pub(crate) fn halt(&mut self) -> Result<NamedTempFile> {
        let disk = NamedTempFile::new().context(|| "make a temporary file".to_owned())?;
        for running in [self.kubelet.take(), self.containerd.take(), self.proxy.take()] {
            running.map_or(Ok(()), |running| running.stop(&self.machine, "KILL"))?;
        }
        let tar = ["tar", "--create", "--xattrs", "--one-file-system", "--directory=/", "--file"];
        self.machine.run(&[&tar[..], &[&word(disk.path())], &DISK].concat())?;
        Ok(disk)
    }

    /// Starts on a machine of which nothing runs yet, with what is on the disk.
    pub(crate) fn boot(
        &mut self,
        machine: Machine,
        disk: &NamedTempFile,
        programs: &Programs,
        control: &Control,
    ) -> Result<()> {
        self.machine = machine;
        let tar = ["tar", "--extract", "--xattrs", "--directory=/", "--file"];
        self.machine.run(&[&tar[..], &[&word(disk.path())]].concat())?;
        self.prepare(control)?;
        self.start_containerd()?;
        self.start_kubelet(programs)?;
        self.start_proxy(programs, "iptables")
    }

    /// Starts kube-proxy in a mode, in place of one that runs.
    pub(crate) fn start_proxy(&mut self, programs: &Programs, mode: &str) -> Result<()> {
        if let Some(running) = self.proxy.take() {
            running.stop(&self.machine, "TERM")?;
        }
        let config = include_str!("manifests/kube-proxy.yaml")
            .replace("${MODE}", mode)
            .replace("${PODS}", POD_RANGE)
            .replace("${NODE}", &self.name);
        self.machine.write("/etc/kubernetes/kube-proxy.yaml", &config)?;
        let proxy = programs.word("kube-proxy");
        let words = [proxy.as_str(), "--config=/etc/kubernetes/kube-proxy.yaml"];
        self.proxy = Some(Daemon::start(&self.machine, "kube-proxy", &words)?);
        Ok(())
    }
}
