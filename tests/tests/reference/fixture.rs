//! A node whose plugins are exchanged while Pods run, and the packet filters that they write to.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::process;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::topology::{Topology, node_addresses, outside_addresses};
use cbr0_tests::{LabError, Result, bins};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

/// How the reference masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    IptablesNft,
    IptablesLegacy,
    Nftables,
}

impl Backend {
    pub(crate) const ALL: [Backend; 3] =
        [Backend::IptablesNft, Backend::IptablesLegacy, Backend::Nftables];

    /// The value of `ipMasqBackend`, and of portmap's `backend`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Backend::IptablesNft | Backend::IptablesLegacy => "iptables",
            Backend::Nftables => "nftables",
        }
    }

    /// The variant that `iptables` is.
    fn variant(self) -> &'static str {
        match self {
            Backend::IptablesLegacy => "legacy",
            Backend::IptablesNft | Backend::Nftables => "nft",
        }
    }
}

/// The node, and the world that it masquerades to.
pub(crate) struct Scene {
    pub(crate) topology: Topology,
    backend: Backend,
    reference: PathBuf,
    iptables: PathBuf,
    nft: PathBuf,
    _outside: Endpoint,
}

impl Scene {
    /// `None` where a part is not there.
    pub(crate) fn new(backend: Backend) -> Result<Option<Scene>> {
        if !require::root()? {
            return Ok(None);
        }
        let Some(reference) = require::part(Part::Reference)? else { return Ok(None) };
        let Some(iptables) = require::part(Part::Iptables)? else { return Ok(None) };
        let Some(nft) = require::part(Part::Nft)? else { return Ok(None) };
        let topology = Topology::create(1)?;
        let outside = Endpoint::serve(topology.outside.netns())?;
        let scene = Scene { topology, backend, reference, iptables, nft, _outside: outside };
        scene.fill_path()?;
        Ok(Some(scene))
    }

    pub(crate) fn node(&self) -> &Node {
        &self.topology.nodes[0]
    }

    /// The plugins of the reference, with the programs that they run.
    pub(crate) fn theirs(&self) -> Runtime<'_> {
        let mut runtime = Runtime::new(self.node(), &self.reference);
        runtime.path = Some(self.path());
        runtime
    }

    /// The plugins of an older release, among which is `ptp`; `None` where the part is not there.
    pub(crate) fn theirs_of_debian(&self) -> Result<Option<Runtime<'_>>> {
        let Some(folder) = require::part(Part::ReferenceDebian)? else { return Ok(None) };
        let mut runtime = self.theirs();
        runtime.cni_path = vec![folder];
        Ok(Some(runtime))
    }

    /// Our plugins, on the same node.
    pub(crate) fn ours(&self) -> Result<Runtime<'_>> {
        let mut runtime = Runtime::new(self.node(), bins::plugin_dir()?);
        runtime.path = Some(self.path());
        Ok(runtime)
    }

    /// A network that masquerades, with these subnets.
    pub(crate) fn network(&self, name: &str, subnets: &[&str]) -> Network {
        self.network_with(name, subnets, &json!({}))
    }

    /// As [`Scene::network`], with these keys besides.
    pub(crate) fn network_with(&self, name: &str, subnets: &[&str], keys: &Value) -> Network {
        let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
        let mut plugin = json!({
            "type": "bridge", "bridge": format!("br-{name}"), "isDefaultGateway": true,
            "ipMasq": true, "ipMasqBackend": self.backend.name(),
            "ipam": {"type": "host-local", "ranges": ranges, "dataDir": self.node().data_dir()},
        });
        plugin.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Network::from_value(&json!({"cniVersion": "1.1.0", "name": name, "plugins": [plugin]}))
            .unwrap()
    }

    /// An ADD by the reference; the Pod is masqueraded then.
    pub(crate) fn reference_pod(&self, network: &Network, container_id: &str) -> Result<Pod> {
        let pod = Pod::create(container_id)?;
        let result = self.theirs().add(network, &pod.attachment())?;
        self.assert_masqueraded(&pod, addresses(&result)?.len())?;
        Ok(pod)
    }

    /// An ADD and a DEL by the reference and a DEL by us, after which only what attachments own may
    /// change.
    pub(crate) fn warm_up(&self, network: &Network) -> Result<()> {
        let pod = self.reference_pod(network, "warm-up")?;
        self.theirs().del(network, &pod.attachment())?;
        self.ours()?.del(network, &pod.attachment())
    }

    /// Asserts that what the Pod sends leaves with the node's address, in so many families.
    pub(crate) fn assert_masqueraded(&self, pod: &Pod, families: usize) -> Result<()> {
        let mut seen = 0;
        for (outside, node) in outside_addresses().into_iter().zip(node_addresses(1)) {
            // The families that a network has not are those without a way out.
            match call(pod.netns(), outside) {
                Ok(source) if source.seen == node => seen += 1,
                Ok(source) => return Err(wrong(&format!("{outside} saw {source:?}"))),
                Err(_) => {}
            }
        }
        if seen == families { Ok(()) } else { Err(wrong(&format!("{seen} families get out"))) }
    }

    /// All rules of the node, by each program that knows some, without counters.
    pub(crate) fn rules(&self) -> Result<BTreeSet<String>> {
        let save = |name: &str| self.iptables.join(name);
        let listings = [
            self.output(&save("iptables-nft-save"), &[])?,
            self.output(&save("ip6tables-nft-save"), &[])?,
            self.output(&save("iptables-legacy-save"), &[])?,
            self.output(&save("ip6tables-legacy-save"), &[])?,
            self.output(&self.nft, &["list", "ruleset"])?,
        ];
        let lines = listings.iter().enumerate().flat_map(|(number, listing)| {
            listing.lines().map(move |line| format!("{number}: {}", without_counters(line)))
        });
        Ok(lines.filter(|line| !line.contains(": #")).collect())
    }

    /// Runs `nft` on the node.
    pub(crate) fn nft(&self, arguments: &[&str]) -> Result<String> {
        self.output(&self.nft, arguments)
    }

    /// Removes the rules for the IPv6 address of a Pod that the reference masquerades, and what is
    /// of others in the same chain.
    pub(crate) fn flush(&self) -> Result<()> {
        let tool = match self.backend {
            Backend::IptablesNft => "ip6tables-nft",
            Backend::IptablesLegacy => "ip6tables-legacy",
            Backend::Nftables => {
                let chain = ["flush", "chain", "inet", "cni_plugins_masquerade", "masq_checks"];
                return self.nft(&chain).map(drop);
            }
        };
        self.iptables(tool, &["-t", "nat", "-F", "POSTROUTING"]).map(drop)
    }

    /// Runs one of the iptables programs on the node.
    pub(crate) fn iptables(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.output(&self.iptables.join(program), arguments)
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        let done = self.node().netns().run(|| process::run(command, b"", DEADLINE))??;
        if done.status.success() {
            return Ok(done.stdout);
        }
        Err(wrong(&format!("{} {arguments:?}: {}", program.display(), done.stderr)))
    }

    fn folder(&self) -> PathBuf {
        self.node().folder().join("path")
    }

    fn path(&self) -> String {
        let own = env::var("PATH").unwrap_or_default();
        format!("{}:{own}", self.folder().display())
    }

    /// A folder where `iptables` is the variant of the backend.
    fn fill_path(&self) -> Result<()> {
        let folder = self.folder();
        let variant = self.backend.variant();
        fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        let mut links = vec![("nft".to_owned(), self.nft.clone())];
        for family in ["iptables", "ip6tables"] {
            links.push((family.into(), self.iptables.join(format!("{family}-{variant}"))));
            for program in ["legacy", "legacy-restore"].map(|rest| format!("{family}-{rest}")) {
                links.push((program.clone(), self.iptables.join(program)));
            }
        }
        for (name, target) in links {
            symlink(target, folder.join(&name)).context(|| format!("link {name}"))?;
        }
        Ok(())
    }
}

/// `[4:240]` in iptables, `counter packets 4 bytes 240` in nft.
fn without_counters(line: &str) -> String {
    let mut counts = false;
    let words = line.split(' ').filter(|word| {
        let number = word.parse::<u64>().is_ok();
        let skip = counts && (number || matches!(*word, "packets" | "bytes"));
        counts = *word == "counter" || skip;
        // An IPv6 address with a port begins like a counter.
        !(skip || word.starts_with('[') && word.ends_with(']'))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Asserts that the rules are the same; the message has the lines that are not.
#[track_caller]
pub(crate) fn assert_same(before: &BTreeSet<String>, now: &BTreeSet<String>, when: &str) {
    let lost: Vec<_> = before.difference(now).collect();
    let left: Vec<_> = now.difference(before).collect();
    assert!(lost.is_empty() && left.is_empty(), "{when}: lost {lost:#?}, left {left:#?}");
}

/// Another interface of the Pod.
pub(crate) fn interface(pod: &Pod, ifname: &str) -> Attachment {
    Attachment { ifname: ifname.into(), ..pod.attachment() }
}

pub(crate) fn wrong(why: &str) -> LabError {
    LabError::Wrong(why.to_owned())
}
