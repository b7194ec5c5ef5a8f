//! A host, networks on it, and calls that are meant to fail.

use cbr0_tests::node::Node;
use cbr0_tests::plugin::PluginError;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Result, bins, require};
use kernel::link::{Link, Veth, VethPeer};
use kernel::{MacAddress, NetNs};
use serde_json::{Value, json};

/// A host for one test.
pub(crate) struct Host {
    pub(crate) node: Node,
}

impl Host {
    /// `None` on a machine where no namespaces can be made.
    pub(crate) fn new() -> Result<Option<Host>> {
        Ok(if require::root()? { Some(Host { node: Node::create("host")? }) } else { None })
    }

    /// As [`Host::new`], for a network that masquerades.
    pub(crate) fn masquerading() -> Result<Option<Host>> {
        Ok(if require::nf_tables()? { Host::new()? } else { None })
    }

    /// The network `cbr0`: addresses of 10.0.1.0/24 behind a gateway, with these keys besides.
    pub(crate) fn network(&self, keys: &Value) -> Network {
        let mut plugin = json!({
            "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "hairpinMode": true,
            "ipam": self.host_local(&json!({"subnet": "10.0.1.0/24"})),
        });
        plugin.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Network::from_value(&json!({"cniVersion": "1.1.0", "name": "cbr0", "plugins": [plugin]}))
            .unwrap()
    }

    /// An `ipam` section whose reservations lie in the host's folder.
    pub(crate) fn host_local(&self, keys: &Value) -> Value {
        let mut ipam = json!({"type": "host-local", "dataDir": self.node.data_dir()});
        ipam.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        ipam
    }

    pub(crate) fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.node, bins::plugin_dir()?))
    }

    /// An ADD and a DEL, after which only what attachments own may change.
    pub(crate) fn warm_up(&self, network: &Network) -> Result<Snapshot> {
        let pod = Pod::create("warm-up")?;
        let mut runtime = self.runtime()?;
        runtime.add(network, &pod.attachment())?;
        runtime.del(network, &pod.attachment())?;
        Snapshot::take(&self.node)
    }

    /// Asserts that the host is as it was at `before`.
    pub(crate) fn assert_as(&self, before: &Snapshot) -> Result<()> {
        let now = Snapshot::take(&self.node)?;
        match before.difference(&now, &Shared::after_warm_up()) {
            Some(difference) => {
                Err(LabError::Wrong(format!("something was left or changed:\n{difference}")))
            }
            None => Ok(()),
        }
    }

    /// The link of this name in the host's namespace.
    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self.node.rtnl()?.link_by_name(name)?)
    }

    /// Makes a veth that is nobody's, with its other end in `pod`.
    pub(crate) fn foreign_veth(
        &self,
        name: &str,
        pod: &NetNs,
        inside: &str,
        alias: &str,
    ) -> Result<Link> {
        let peer = VethPeer { namespace: pod, name: inside, mac: None };
        let veth =
            Veth { name, mac: MacAddress([0x02, 0, 0, 0, 0, 1]), master: None, mtu: None, peer };
        let mut rtnl = self.node.rtnl()?;
        rtnl.request(&veth.create())?;
        let made = rtnl.link_by_name(name)?.unwrap();
        if !alias.is_empty() {
            rtnl.request(&kernel::link::set_alias(made.index, alias))?;
        }
        Ok(rtnl.link_by_index(made.index)?.unwrap())
    }
}

/// The triple of a Pod's `eth0` in the network `cbr0`, with the names that follow from it.
pub(crate) fn triple(pod: &Pod) -> cni_conf::attachment::Attachment {
    cni_conf::attachment::Attachment::new("cbr0", &pod.container_id, "eth0").unwrap()
}

/// The error of a call that must fail.
pub(crate) fn refused<T>(call: Result<T>) -> PluginError {
    match call {
        Err(LabError::Plugin(failure)) => failure.error,
        Err(error) => panic!("failed, but not by the plugin: {error}"),
        Ok(_) => panic!("succeeded, but was expected to fail"),
    }
}

/// Asserts code and words of an error.
#[track_caller]
pub(crate) fn assert_error(error: &PluginError, code: u64, words: &str) {
    let text = format!("{}; {}", error.msg, error.details);
    assert!(
        error.code == code && text.contains(words),
        "expected code {code} and {words:?}, got: {error}"
    );
    assert_eq!(error.version.as_deref(), Some("1.1.0"));
}

/// The name of the host's end in a result.
pub(crate) fn host_end(result: &Value) -> &str {
    result["interfaces"][1]["name"].as_str().unwrap()
}

/// `eth0` of a Pod whose namespace is at another path.
pub(crate) fn at(pod: &Pod, netns: &str) -> Attachment {
    Attachment { netns: netns.into(), ..pod.attachment() }
}
