//! The plugins under a real runtime: libcni, by its `cnitool`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Answer;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::probe::{DEADLINE, Endpoint, PORT, call, call_port};
use cbr0_tests::require::{self, Part};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{Outcome, Result, bins, process};
use serde_json::{Value, json};

/// The versions whose results libcni can read.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

const HOST_PORT: u16 = 18080;

/// A host with `cnitool` and one network, `net`.
struct Cnitool {
    host: Node,
    tool: PathBuf,
}

impl Cnitool {
    /// `None` where it, or the right to make namespaces, is missing.
    fn new(version: &str) -> Result<Option<Self>> {
        Self::with(version, Self::conflist)
    }

    /// As [`Cnitool::new`], for another network.
    fn with(version: &str, list: fn(&Self, &str) -> Value) -> Result<Option<Self>> {
        let Some(tool) = require::part(Part::Cnitool)? else { return Ok(None) };
        if !require::root()? {
            return Ok(None);
        }
        let tool = Cnitool { host: Node::create("host")?, tool };
        let file = tool.net_d().join("10-net.conflist");
        fs::create_dir(tool.cache())
            .and_then(|()| fs::create_dir(tool.net_d()))
            .and_then(|()| fs::write(&file, list(&tool, version).to_string()))
            .context(|| format!("write {}", file.display()))?;
        Ok(Some(tool))
    }

    fn conflist(&self, version: &str) -> Value {
        json!({"cniVersion": version, "name": "net", "plugins": [
            {
                "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]],
                    "dataDir": self.host.data_dir(),
                }
            },
            {"type": "loopback"}
        ]})
    }

    /// With a port of the host, since cnitool passes what a list's capabilities ask for only if told.
    /// Without firewall before 0.4.0, which it never spoke.
    fn usual_chain(&self, version: &str) -> Value {
        let mut list = json!({"cniVersion": version, "name": "net", "plugins": [
            {
                "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipMasq": true,
                "ipam": {
                    "type": "host-local", "ranges": [[{"subnet": "10.0.1.0/24"}]],
                    "dataDir": self.host.data_dir(),
                }
            },
            {"type": "portmap", "snat": true, "runtimeConfig": {"portMappings": [
                {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}
            ]}},
            {"type": "firewall"},
            {
                "type": "bandwidth",
                "ingressRate": 8_000_000, "ingressBurst": 80_000,
                "egressRate": 8_000_000, "egressBurst": 80_000,
            },
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "567"}},
        ]});
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.retain(|plugin| plugin["type"] != "firewall" || version >= "0.4.0");
        }
        list
    }

    fn net_d(&self) -> PathBuf {
        self.host.folder().join("net.d")
    }

    /// What libcni finds at `/var/lib`, where it keeps results.
    fn cache(&self) -> PathBuf {
        self.host.folder().join("var-lib")
    }

    fn run(&self, verb: &str, netns: &str) -> Result<Answer> {
        // In a mount namespace of its own, since libcni's cache has a fixed place.
        const PRIVATELY: &str = "mount --bind \"$1\" /var/lib && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", PRIVATELY, "sh"]).arg(self.cache());
        command.arg(&self.tool).args([verb, "net", netns]);
        command.env("CNI_PATH", bins::plugin_dir()?).env("NETCONFPATH", self.net_d());
        let run = || process::run(command, b"", Duration::from_secs(60));
        Ok(self.host.netns().run(run)??.into())
    }

    /// As [`Cnitool::run`], for what must succeed.
    fn succeed(&self, verb: &str, netns: &str) -> Result<Answer> {
        let answer = self.run(verb, netns)?;
        assert_eq!(answer.code, Some(0), "cnitool {verb}: {answer:?}");
        Ok(answer)
    }
}

fn path(pod: &Pod) -> String {
    pod.netns().path().to_string_lossy().into_owned()
}

#[test]
fn add_check_del_and_del_again_in_every_version() -> Outcome {
    for version in VERSIONS {
        let Some(cnitool) = Cnitool::new(version)? else { return Ok(()) };
        let warm_up = path(&Pod::create("warm-up")?);
        cnitool.succeed("del", &warm_up)?;
        let before = Snapshot::take(&cnitool.host)?;

        let pod = Pod::create("pod")?;
        let result = cnitool.succeed("add", &path(&pod))?.json()?;
        assert_eq!(result["cniVersion"], json!(version));
        let _endpoint = Endpoint::serve(pod.netns())?;
        for address in pod::addresses(&result)? {
            call(cnitool.host.netns(), address)?;
        }
        check(&cnitool, version, &path(&pod))?;
        cnitool.succeed("del", &path(&pod))?;
        cnitool.succeed("del", &path(&pod))?;

        let difference =
            before.difference(&Snapshot::take(&cnitool.host)?, &Shared::with_bridge("cbr0"));
        assert!(
            difference.is_none(),
            "version {version}:\n{}",
            difference.map(|d| d.to_string()).unwrap_or_default()
        );
    }
    Ok(())
}

/// bridge, portmap, firewall, bandwidth and tuning: each has done its part, and nothing stays.
#[test]
fn the_usual_chain_in_every_version() -> Outcome {
    if !require::nf_tables()? || !require::link_kind("ifb")? {
        return Ok(());
    }
    for version in VERSIONS {
        let Some(cnitool) = Cnitool::with(version, Cnitool::usual_chain)? else { return Ok(()) };
        let host = &cnitool.host;
        let warm_up = Pod::create("warm-up")?;
        cnitool.succeed("add", &path(&warm_up))?;
        cnitool.succeed("del", &path(&warm_up))?;
        let before = Snapshot::take(host)?;

        let pod = Pod::create("pod")?;
        let result = cnitool.succeed("add", &path(&pod))?.json()?;
        assert_eq!(result["cniVersion"], json!(version));
        let _endpoint = Endpoint::serve(pod.netns())?;
        call(host.netns(), pod::addresses(&result)?[0])?;
        assert_usual_chain(host, &pod, version)?;
        check(&cnitool, version, &path(&pod))?;
        cnitool.succeed("del", &path(&pod))?;
        cnitool.succeed("del", &path(&pod))?;
        let difference = before.difference(&Snapshot::take(host)?, &Shared::after_warm_up());
        assert_eq!(difference.map(|it| it.to_string()), None, "version {version}");
    }
    Ok(())
}

/// The port leads to the Pod, and the Pod is limited and tuned.
fn assert_usual_chain(host: &Node, pod: &Pod, version: &str) -> Result<()> {
    let gateway = SocketAddr::from(([10, 0, 1, 1], HOST_PORT));
    call_port(host.netns(), gateway, DEADLINE)?;
    let buckets = host.rtnl()?.qdiscs()?.into_iter().filter_map(|qdisc| qdisc.bucket);
    let rates: Vec<_> = buckets.map(|bucket| bucket.rate).collect();
    assert_eq!(rates, [1_000_000; 2], "version {version}: bytes a second");
    let tuned = pod.netns().run(|| kernel::sysctl::get("net/core/somaxconn"))??;
    assert_eq!(tuned.trim(), "567", "version {version}");
    Ok(())
}

/// CHECK passes, and fails once something is gone. Before 0.4.0 there was none.
fn check(cnitool: &Cnitool, version: &str, netns: &str) -> Result<()> {
    if version < "0.4.0" {
        assert_ne!(cnitool.run("check", netns)?.code, Some(0), "CHECK in version {version}");
        return Ok(());
    }
    cnitool.succeed("check", netns)?;
    Ok(())
}

#[test]
fn del_when_the_pod_is_gone() -> Outcome {
    for version in VERSIONS {
        let Some(cnitool) = Cnitool::new(version)? else { return Ok(()) };
        let before = Snapshot::take(&cnitool.host)?;
        let pod = Pod::create("pod")?;
        let netns = path(&pod);
        cnitool.succeed("add", &netns)?;
        drop(pod);
        cnitool.succeed("del", &netns)?;
        cnitool.succeed("del", &netns)?;
        let after = Snapshot::take(&cnitool.host)?;
        assert_eq!(
            before.difference(&after, &Shared::with_bridge("cbr0")),
            None,
            "version {version}"
        );
    }
    Ok(())
}

#[test]
fn status_and_gc() -> Outcome {
    let Some(cnitool) = Cnitool::new("1.1.0")? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    cnitool.succeed("status", &path(&pod))?;
    let before = Snapshot::take(&cnitool.host)?;
    cnitool.succeed("add", &path(&pod))?;
    // libcni calls DEL for all that it has cached, since cnitool names nothing as valid.
    cnitool.succeed("gc", &path(&pod))?;
    let after = Snapshot::take(&cnitool.host)?;
    assert_eq!(before.difference(&after, &Shared::with_bridge("cbr0")), None);
    Ok(())
}
