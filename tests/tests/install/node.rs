//! A node whose route syncer writes files for others, and what is seen of these while it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Answer;
use cbr0_tests::pod::Pod;
use cbr0_tests::{LabError, Result, bins, process, wait};
use kernel::link::Bridge;
use kernel::{MacAddress, address};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

/// Many times what a sync takes.
const DEADLINE: Duration = Duration::from_secs(60);
const CONFLIST: &str = "10-cbr0.conflist";

/// Node 1 of two, with an uplink for packets of 1400 bytes.
pub(crate) struct Scene {
    pub(crate) host: Node,
    pub(crate) net_d: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        let host = Node::create("node1")?;
        let mut rtnl = host.rtnl()?;
        let mac = MacAddress([0x02, 0, 0, 0, 0, 1]);
        rtnl.request(&Bridge { name: "eth0", mac, mtu: Some(1400) }.create())?;
        let eth0 = rtnl.link_by_name("eth0")?.map(|link| link.index).unwrap_or_default();
        for address in ["10.100.0.2/24", "fd00:100::2/64"] {
            let address = address.parse().map_err(|_| LabError::Wrong(address.to_owned()))?;
            rtnl.request(&address::add(eth0, address, false))?;
        }
        let scene = Scene { net_d: host.folder().join("net.d"), host };
        for folder in [&scene.net_d, &scene.flannel()] {
            fs::create_dir(folder).context(|| format!("make {}", folder.display()))?;
        }
        scene.list("10.0.1.0/24")?;
        Ok(scene)
    }

    /// Names both nodes to the syncer, this one with a Pod range to choose.
    pub(crate) fn list(&self, range: &str) -> Result<()> {
        self.list_with(range, "10.0.2.0/24")
    }

    pub(crate) fn list_without_this_node(&self) -> Result<()> {
        let node2 = json!({"name": "node2", "address": "10.100.0.3", "podCIDRs": ["10.0.2.0/24"]});
        self.put_list(&json!([node2]))
    }

    pub(crate) fn list_with(&self, range: &str, range2: &str) -> Result<()> {
        let nodes = json!([
            {"name": "node1", "addresses": ["10.100.0.2", "fd00:100::2"],
             "podCIDRs": [range, "fd00:0:0:1::/64"]},
            {"name": "node2", "addresses": ["10.100.0.3", "fd00:100::3"],
             "podCIDRs": [range2, "fd00:0:0:2::/64"]},
        ]);
        self.put_list(&nodes)
    }

    fn put_list(&self, nodes: &Value) -> Result<()> {
        let file = self.host.folder().join("nodes.json");
        let new = file.with_extension("new");
        fs::write(&new, nodes.to_string())
            .and_then(|()| fs::rename(&new, &file))
            .context(|| format!("write {}", file.display()))
    }

    pub(crate) fn conflist(&self) -> PathBuf {
        self.net_d.join(CONFLIST)
    }

    pub(crate) fn flannel(&self) -> PathBuf {
        self.host.folder().join("flannel")
    }

    pub(crate) fn subnet_env(&self) -> PathBuf {
        self.flannel().join("subnet.env")
    }

    pub(crate) fn status_file(&self) -> PathBuf {
        self.host.folder().join("run/route-syncer.json")
    }

    pub(crate) fn start(&self) -> Result<Syncer> {
        self.start_under(&["env"])
    }

    /// Starts the syncer as the last arguments of another program.
    pub(crate) fn start_under(&self, wrapper: &[&str]) -> Result<Syncer> {
        let folder = self.host.folder();
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(bins::route_syncer()?);
        command.args(["run", "--source", "file", "--node", "node1"]);
        command.args(["--cluster-cidr", "10.0.0.0/14", "--cluster-cidr", "fd00::/48"]);
        command.arg("--nodes-file").arg(folder.join("nodes.json"));
        command.arg("--run-dir").arg(folder.join("run"));
        command.arg("--conflist").arg(self.conflist()).arg("--subnet-env").arg(self.subnet_env());
        command.env("RUST_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null());
        let process = self.host.netns().run(|| command.spawn())?;
        Ok(Syncer(process.context(|| "start route-syncer".to_owned())?))
    }

    /// As a runtime that keeps its results in the scene's folder.
    pub(crate) fn cnitool(
        &self,
        tool: &Path,
        verb: &str,
        cni_path: &Path,
        pod: &Pod,
    ) -> Result<Answer> {
        const PRIVATELY: &str = "mount --bind \"$1\" /var/lib && shift && exec \"$@\"";
        let var_lib = self.host.folder().join("var-lib");
        fs::create_dir_all(&var_lib).context(|| "make var-lib".to_owned())?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", PRIVATELY, "sh"]).arg(var_lib);
        command.arg(tool).args([verb, "cbr0"]).arg(pod.netns().path());
        command.env("CNI_PATH", cni_path).env("NETCONFPATH", &self.net_d);
        let run = || process::run(command, b"", Duration::from_secs(60));
        let answer = Answer::from(self.host.netns().run(run)??);
        assert_eq!(answer.code, Some(0), "cnitool {verb}: {answer:?}");
        Ok(answer)
    }
}

/// A route syncer, until dropped.
pub(crate) struct Syncer(Child);

impl Drop for Syncer {
    fn drop(&mut self) {
        // It may have ended already; then the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What happens to the names in a folder.
pub(crate) struct Watch {
    inotify: Inotify,
}

impl Watch {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let what = || format!("watch {}", folder.display());
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).context(what)?;
        // Everything but reading, which this test does itself.
        let reading =
            AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_CLOSE_NOWRITE;
        inotify.add_watch(folder, AddWatchFlags::IN_ALL_EVENTS - reading).context(what)?;
        Ok(Watch { inotify })
    }

    /// Waits until a file has these words in it. Until then, every change of a name that runtimes
    /// read must be that a whole file gets it.
    pub(crate) fn until(&self, path: &Path, words: &str) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        while !fs::read_to_string(path).is_ok_and(|text| text.contains(words)) {
            if !wait::readable(&self.inotify, end)? {
                let what = format!("the wait for {words:?} in {}", path.display());
                return Err(LabError::Timeout { what, deadline: DEADLINE });
            }
            self.check()?;
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(nix::Error::EAGAIN) => return Ok(()),
                Err(error) => return Err(error).context(|| "read events".to_owned()),
            };
            for event in &events {
                let name = event.name.clone().unwrap_or_default();
                let name = name.to_string_lossy();
                if [".conf", ".conflist", ".json", ".env"].iter().any(|end| name.ends_with(end)) {
                    let moved = event.mask == AddWatchFlags::IN_MOVED_TO;
                    assert!(moved && !name.starts_with('.'), "{name}: {:?}", event.mask);
                }
            }
        }
    }
}
