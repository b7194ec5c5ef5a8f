//! What the tests of several chained plugins use.

use std::fs;
use std::path::Path;

use cbr0_tests::error::Context as _;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call, PluginError};
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Result, bins, require};
use kernel::link::Link;
use kernel::{NetNs, Rtnl};
use serde_json::{Value, json};

/// A Pod with the interface of a bridge, and the chained plugin that is tested on it.
pub(crate) struct Chain {
    pub(crate) host: Node,
    pub(crate) pod: Pod,
    /// What the plugin is called for.
    pub(crate) attachment: Attachment,
    /// The plugin's configuration.
    pub(crate) conf: Value,
    /// What the bridge has answered.
    pub(crate) previous: Value,
    bridge: Network,
    before: [Snapshot; 2],
}

impl Chain {
    /// A Pod with `eth0`; `conf` is the plugin's configuration without name and version. `None` on a
    /// machine where it cannot be.
    pub(crate) fn new(version: &str, conf: Value) -> Result<Option<Chain>> {
        Chain::with_interface("eth0", version, conf)
    }

    /// As [`Chain::new`], with an interface of another name.
    pub(crate) fn with_interface(
        ifname: &str,
        version: &str,
        mut conf: Value,
    ) -> Result<Option<Chain>> {
        if !require::root()? {
            return Ok(None);
        }
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let bridge =
            Network::from_value(&json!({"cniVersion": version, "name": "net", "plugins": [{
                "type": "bridge",
                "bridge": "cbr0",
                "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]],
                    "dataDir": host.data_dir().join("ipam"),
                },
            }]}))?;
        conf["name"] = json!("net");
        conf["cniVersion"] = json!(version);
        let attachment = Attachment { ifname: ifname.into(), ..pod.attachment() };
        let previous = Runtime::new(&host, bins::plugin_dir()?).add(&bridge, &attachment)?;
        let before = [Snapshot::take(&host)?, Snapshot::of(pod.netns())?];
        Ok(Some(Chain { host, pod, attachment, conf, previous, bridge, before }))
    }

    /// A call of the plugin about the attachment, with the bridge's result.
    pub(crate) fn call(&self, verb: &str) -> Result<Call> {
        self.call_with(verb, &self.attachment, &self.previous)
    }

    /// A call of the plugin about an attachment, with this result of the plugins before it.
    pub(crate) fn call_with(
        &self,
        verb: &str,
        attachment: &Attachment,
        previous: &Value,
    ) -> Result<Call> {
        let mut conf = self.conf.clone();
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        self.call_of(&bins::plugin_dir()?, verb, attachment, &conf)
    }

    /// A call of the plugin in a folder about an attachment, with this configuration.
    pub(crate) fn call_of(
        &self,
        folder: &Path,
        verb: &str,
        attachment: &Attachment,
        conf: &Value,
    ) -> Result<Call> {
        let plugin = folder.join(self.conf["type"].as_str().unwrap_or_default());
        if !plugin.is_file() {
            return Err(LabError::NotBuilt(plugin));
        }
        let call = Call::new(plugin, verb)
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_NETNS", &attachment.netns)
            .env("CNI_IFNAME", &attachment.ifname)
            .env("CNI_ARGS", &attachment.args)
            .env("CNI_PATH", folder.to_string_lossy());
        Ok(call.stdin_json(conf))
    }

    /// Runs ADD, which must succeed; the result.
    pub(crate) fn add(&self) -> Result<Value> {
        succeeded(self.call("ADD")?.run(&self.host)?)?.json()
    }

    /// Runs DEL, which must succeed.
    pub(crate) fn del(&self) -> Result<()> {
        succeeded(self.call("DEL")?.run(&self.host)?).map(drop)
    }

    /// Runs DEL as a runtime does that knows nothing any more, which must succeed.
    pub(crate) fn del_by_triple(&self) -> Result<()> {
        let call = self.call_with("DEL", &self.attachment.without_netns(), &Value::Null)?;
        succeeded(call.run(&self.host)?).map(drop)
    }

    /// Runs CHECK with this result of ADD.
    pub(crate) fn check(&self, result: &Value) -> Result<Answer> {
        self.call_with("CHECK", &self.attachment, result)?.run(&self.host)
    }

    /// Runs GC with these containers alive, which must succeed.
    pub(crate) fn gc(&self, alive: &[&str]) -> Result<()> {
        let mut conf = self.conf.clone();
        conf["cni.dev/valid-attachments"] =
            alive.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let call = Call::new(bins::plugin(self.conf["type"].as_str().unwrap_or_default())?, "GC")
            .env("CNI_PATH", bins::plugin_dir()?.to_string_lossy())
            .stdin_json(&conf);
        succeeded(call.run(&self.host)?).map(drop)
    }

    /// Runs STATUS.
    pub(crate) fn status(&self) -> Result<Answer> {
        let call =
            Call::new(bins::plugin(self.conf["type"].as_str().unwrap_or_default())?, "STATUS")
                .env("CNI_PATH", bins::plugin_dir()?.to_string_lossy());
        call.stdin_json(&self.conf).run(&self.host)
    }

    /// Another Pod on the same bridge, and what the bridge answered.
    pub(crate) fn other_pod(&self, container_id: &str) -> Result<(Pod, Attachment, Value)> {
        let pod = Pod::create(container_id)?;
        let attachment = pod.attachment();
        let previous = self.more(&attachment)?;
        Ok((pod, attachment, previous))
    }

    /// One more interface on the same bridge; what the bridge answered.
    pub(crate) fn more(&self, attachment: &Attachment) -> Result<Value> {
        Runtime::new(&self.host, bins::plugin_dir()?).add(&self.bridge, attachment)
    }

    /// Asserts that host and Pod are as the bridge left them.
    pub(crate) fn assert_nothing_left(&self, case: &str) -> Result<()> {
        let after = [Snapshot::take(&self.host)?, Snapshot::of(self.pod.netns())?];
        for (before, after) in self.before.iter().zip(&after) {
            if let Some(left) = before.difference(after, &Shared::with_bridge("cbr0")) {
                return Err(LabError::Wrong(format!("{case} is left:\n{left}")));
            }
        }
        Ok(())
    }

    /// The link of this name in the Pod.
    pub(crate) fn link(&self) -> Result<Link> {
        Ok(link(self.pod.netns(), &self.attachment.ifname)?.unwrap())
    }

    /// A setting in the Pod.
    pub(crate) fn sysctl(&self, key: &str) -> Result<String> {
        Ok(self.pod.netns().run(|| kernel::sysctl::get(key))??)
    }
}

/// The link of this name in a namespace.
pub(crate) fn link(netns: &NetNs, name: &str) -> Result<Option<Link>> {
    Ok(Rtnl::open_in(netns)?.link_by_name(name)?)
}

/// The names of the files in a folder, which need not be there.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).context(|| format!("list {}", folder.display()))?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry.context(|| "list".to_owned())?.file_name().to_string_lossy().into_owned())
    };
    let mut names = entries.map(name).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The answer of a call that must succeed.
pub(crate) fn succeeded(answer: Answer) -> Result<Answer> {
    match answer.failure() {
        None => Ok(answer),
        Some(error) => Err(LabError::Wrong(format!("was to succeed, but {error}: {answer:?}"))),
    }
}

/// The error of a call that must fail with this code and these words.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, code: u64, words: &str) -> PluginError {
    let error = answer.failure().unwrap_or_else(|| panic!("was to fail: {answer:?}"));
    let text = format!("{}; {}", error.msg, error.details);
    assert!(
        error.code == code && text.contains(words),
        "expected code {code} and {words:?}, got: {error}"
    );
    error
}
