//! A node, the world around it, and Pods with ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cbr0_tests::node::Node;
use cbr0_tests::plugin::PluginError;
use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{self, Endpoint, PORT, Source};
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::topology::{Topology, node_addresses};
use cbr0_tests::{LabError, Result, bins, require};
use kernel::NetNs;
use serde_json::{Value, json};

/// A call that is meant to fail ends after this time.
const SHORT: Duration = Duration::from_millis(300);

pub(crate) struct Scene {
    pub(crate) topology: Topology,
}

/// A Pod that answers, and how the runtime names it.
pub(crate) struct Server {
    pub(crate) pod: Pod,
    pub(crate) attachment: Attachment,
    _endpoint: Endpoint,
}

impl Server {
    /// A Pod with these port mappings.
    pub(crate) fn new(id: &str, mappings: Value) -> Result<Server> {
        let pod = Pod::create(id)?;
        let _endpoint = Endpoint::serve(pod.netns())?;
        let mut attachment = pod.attachment();
        attachment.capability_args.insert("portMappings".into(), mappings);
        Ok(Server { pod, attachment, _endpoint })
    }
}

/// A port of the host that leads to the port of the [`Endpoint`].
pub(crate) fn tcp(host_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": PORT, "protocol": "tcp"})
}

/// As [`tcp`], at one address of the host.
pub(crate) fn tcp_at(host_ip: &str, host_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": PORT, "protocol": "tcp", "hostIP": host_ip})
}

/// The IPv4 address of the node.
pub(crate) fn v4() -> IpAddr {
    node_addresses(1)[0]
}

impl Scene {
    pub(crate) fn new() -> Result<Option<Scene>> {
        if !require::nf_tables()? {
            return Ok(None);
        }
        Ok(Some(Scene { topology: Topology::create(1)? }))
    }

    pub(crate) fn node(&self) -> &Node {
        &self.topology.nodes[0]
    }

    pub(crate) fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(self.node(), bins::plugin_dir()?))
    }

    /// A network with a bridge of its own, 10.NUMBER.0.0/24 and fd00:NUMBER::/64, and these keys of
    /// portmap.
    pub(crate) fn network(&self, name: &str, number: u8, keys: &Value) -> Network {
        let mut portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        portmap.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let ranges = json!([
            [{"subnet": format!("10.{number}.0.0/24")}],
            [{"subnet": format!("fd00:{number}::/64")}]
        ]);
        let ipam = json!({
            "type": "host-local", "ranges": ranges, "dataDir": self.node().data_dir(),
            "restTime": 0,
        });
        let bridge = json!({
            "type": "bridge", "bridge": format!("br-{name}"), "isDefaultGateway": true, "hairpinMode": true,
            "ipam": ipam,
        });
        let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": [bridge, portmap]});
        Network::from_value(&list).unwrap()
    }

    /// An ADD and a DEL, after which only what attachments own may change.
    pub(crate) fn warm_up(&self, network: &Network) -> Result<Snapshot> {
        let server = Server::new("warm-up", json!([tcp(1), tcp_at("10.100.0.2", 2)]))?;
        let mut runtime = self.runtime()?;
        runtime.add(network, &server.attachment)?;
        runtime.del(network, &server.attachment)?;
        Snapshot::take(self.node())
    }

    /// Asserts that the node is as it was at `before`.
    pub(crate) fn assert_as(&self, before: &Snapshot, when: &str) -> Result<()> {
        match before.difference(&Snapshot::take(self.node())?, &Shared::after_warm_up()) {
            Some(left) => Err(LabError::Wrong(format!("{when} is left or changed:\n{left}"))),
            None => Ok(()),
        }
    }
}

/// Calls a port, and returns what the two ends see.
pub(crate) fn call(from: &NetNs, to: IpAddr, port: u16) -> Result<Source> {
    probe::call_port(from, SocketAddr::new(to, port), probe::DEADLINE)
}

/// Asserts that nobody answers at a port.
#[track_caller]
pub(crate) fn assert_closed(from: &NetNs, to: IpAddr, port: u16) {
    let answer = probe::call_port(from, SocketAddr::new(to, port), SHORT);
    assert!(answer.is_err(), "{to} port {port} is open: {answer:?}");
}

/// The error of a call that must fail.
#[track_caller]
pub(crate) fn refused<T>(call: Result<T>) -> PluginError {
    match call {
        Err(LabError::Plugin(failure)) => failure.error,
        Err(error) => panic!("failed, but not by the plugin: {error}"),
        Ok(_) => panic!("succeeded, but was expected to fail"),
    }
}
