//! The plugin alone, behind made-up results of a bridge: for tests that call it hundreds of times.

use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Result, bins, wait};
use kernel::link::{self, Bridge};
use kernel::{MacAddress, address};
use serde_json::{Value, json};

use crate::fixture::{tcp, tcp_at};

/// An attachment with ports.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    network: &'static str,
    container: &'static str,
    ifname: &'static str,
    /// The last part of its addresses.
    last: u8,
    ports: Value,
}

impl Who {
    /// Ports of both kinds, and one of UDP, whose flows are forgotten.
    pub(crate) fn first() -> Who {
        let udp = json!({"hostPort": 53, "containerPort": 53, "protocol": "udp"});
        let ports = json!([tcp(80), tcp_at("10.100.0.2", 81), udp]);
        Who { network: "net", container: "pod", ifname: "eth0", last: 5, ports }
    }

    /// The same container's attachment to another network, with the same ports.
    pub(crate) fn second_network() -> Who {
        Who { network: "other", ifname: "eth1", last: 6, ..Who::first() }
    }

    /// Another container, with the same ports.
    pub(crate) fn rival() -> Who {
        Who { container: "rival", last: 7, ..Who::first() }
    }

    /// The same with these ports.
    pub(crate) fn with(self, ports: Value) -> Who {
        Who { ports, ..self }
    }

    fn attachment(&self, pod: &Pod) -> Attachment {
        let mut attachment = pod.attachment();
        attachment.container_id = self.container.into();
        attachment.ifname = self.ifname.into();
        attachment
    }

    /// Its network, with nothing but this plugin.
    pub(crate) fn list(&self) -> Network {
        Network::from_value(&json!({
            "cniVersion": "1.1.0", "name": self.network,
            "plugins": [{"type": "portmap", "capabilities": {"portMappings": true}}],
        }))
        .unwrap()
    }
}

/// A host with a bridge that leads to containers.
pub(crate) struct Alone {
    pub(crate) host: Node,
    pod: Pod,
    before: Snapshot,
}

impl Alone {
    /// A host where nobody has had ports.
    pub(crate) fn fresh() -> Result<Alone> {
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let mut rtnl = host.rtnl()?;
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        rtnl.request(&Bridge { name: "br1", mac, mtu: None }.create())?;
        let bridge = rtnl.link_by_name("br1")?.unwrap().index;
        rtnl.request(&link::set_up(bridge))?;
        for text in ["10.0.1.1/24", "fd00:0:0:1::1/64"] {
            rtnl.request(&address::add(bridge, text.parse().unwrap(), false))?;
        }
        wait::for_address(host.netns(), bridge, "fd00:0:0:1::1")?;
        Ok(Alone { before: Snapshot::take(&host)?, host, pod })
    }

    /// A host where ports have come and gone.
    pub(crate) fn new() -> Result<Alone> {
        let mut scene = Alone::fresh()?;
        for who in [Who::first(), Who::second_network()] {
            scene.succeed("ADD", &who)?;
            scene.succeed("DEL", &who)?;
        }
        scene.before = Snapshot::take(&scene.host)?;
        Ok(scene)
    }

    /// A call; that of DEL by a runtime that knows nothing but the names.
    pub(crate) fn call(&self, verb: &str, who: &Who) -> Result<Call> {
        let (mut list, mut attachment) = (who.list(), who.attachment(&self.pod));
        if verb == "DEL" {
            return self.runtime()?.call(&list, 0, "DEL", Some(&attachment.without_netns()));
        }
        attachment.capability_args.insert("portMappings".into(), who.ports.clone());
        let addresses = [format!("10.0.1.{}/24", who.last), format!("fd00:0:0:1::{}/64", who.last)];
        let ips: Vec<_> = addresses.iter().map(|address| json!({"address": address})).collect();
        let result = json!({"cniVersion": "1.1.0", "ips": ips});
        list.plugins[0].insert("prevResult".into(), result);
        self.runtime()?.call(&list, 0, verb, Some(&attachment))
    }

    /// Runs a call that must succeed.
    pub(crate) fn succeed(&self, verb: &str, who: &Who) -> Result<()> {
        match self.call(verb, who)?.run(&self.host)?.failure() {
            Some(error) => Err(LabError::Wrong(format!("{verb} of {who:?}: {error}"))),
            None => Ok(()),
        }
    }

    /// Removes all that is left of a network.
    pub(crate) fn collect(&self, who: &Who) -> Result<()> {
        self.runtime()?.gc(&who.list(), &[])
    }

    /// Asserts that nobody has anything.
    pub(crate) fn assert_nothing_left(&self, case: &str) -> Result<()> {
        let now = Snapshot::take(&self.host)?;
        match self.before.difference(&now, &Shared::after_warm_up()) {
            Some(left) => Err(LabError::Wrong(format!("{case}: left\n{left}"))),
            None => Ok(()),
        }
    }

    fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.host, bins::plugin_dir()?))
    }
}
