//! A machine with a runtime, on the network of DESIGN.md, and what must be so of its containers.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use std::time::Duration;

use cbr0_tests::error::Context as _;
use cbr0_tests::machine::Machine;
use cbr0_tests::node::Node;
use cbr0_tests::probe::{self, PORT};
use cbr0_tests::require::{self, Part};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::topology::{Topology, node_addresses, node_name};
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::traffic::TokenBucket;
use kernel::{NetNs, Rtnl};
use serde_json::{Value, json};

/// The image of all containers: busybox.
pub(crate) const IMAGE: &str = "localhost/busybox:1";
/// Where the folder of packages has it.
const ARCHIVE: &str = "image.tar";
/// All plugins that the lists name.
pub(crate) const PLUGINS: [&str; 7] =
    ["bridge", "host-local", "portmap", "firewall", "bandwidth", "tuning", "loopback"];
/// Subnets of the networks.
pub(crate) const ONE: &str = "10.0.1.0/24";
pub(crate) const TWO: &str = "10.0.2.0/24";
/// The port of the host that leads to a container.
pub(crate) const HOST_PORT: u16 = 18080;
/// A call that is meant to fail ends after this time.
const SHORT: Duration = Duration::from_millis(300);

/// A runtime's machine, as a node with the world around it.
pub(crate) struct Scene {
    // The host's namespace is the machine's, but its files are gone with the machine.
    pub(crate) topology: Topology,
    pub(crate) machine: Machine,
}

impl Scene {
    /// `None` where the runtime, or what its containers' limits need, is missing.
    pub(crate) fn new(runtime: Part) -> Result<Option<Scene>> {
        if !require::nf_tables()? || !require::link_kind("ifb")? {
            return Ok(None);
        }
        let Some(packages) = require::part(runtime)? else { return Ok(None) };
        let machine = Machine::start(&packages)?;
        let topology = Topology::build(1, |name| {
            if name == node_name(1) { machine.node(name) } else { Node::create(name) }
        })?;
        let image = packages.join(ARCHIVE);
        fs::copy(&image, machine.path("/run/image.tar"))
            .context(|| format!("copy {}", image.display()))?;
        machine.install_ours(&PLUGINS)?;
        Ok(Some(Scene { topology, machine }))
    }

    pub(crate) fn host(&self) -> &Node {
        &self.topology.nodes[0]
    }

    /// From outside, and from the host itself.
    pub(crate) fn call_host_port(&self) -> Result<()> {
        let to = SocketAddr::from((node_addresses(1)[0], HOST_PORT));
        for from in [self.topology.outside.netns(), self.host().netns()] {
            probe::call_port(from, to, probe::DEADLINE)?;
        }
        Ok(())
    }

    pub(crate) fn assert_host_port_gone(&self) {
        let to = SocketAddr::from((node_addresses(1)[0], HOST_PORT));
        for from in [self.topology.outside.netns(), self.host().netns()] {
            let called = probe::call_port(from, to, SHORT);
            assert!(called.is_err(), "{to} still leads to somebody: {called:?}");
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(self.host())
    }

    pub(crate) fn assert_as_before(&self, before: &Snapshot, shared: &Shared) -> Result<()> {
        let difference = before.difference(&self.snapshot()?, shared);
        assert!(difference.is_none(), "{}", difference.map(|d| d.to_string()).unwrap_or_default());
        Ok(())
    }

    /// The limits on the machine's links: of all that bandwidth limits, in no order.
    pub(crate) fn limits(&self) -> Result<Vec<TokenBucket>> {
        Ok(self.host().rtnl()?.qdiscs()?.into_iter().filter_map(|qdisc| qdisc.bucket).collect())
    }
}

/// The usual chain, whose host port is fixed for runtimes that cannot name one.
pub(crate) fn chain(name: &str, bridge: &str, subnet: &str, ports: Option<Value>) -> Value {
    let mut portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    if let Some(ports) = ports {
        portmap = json!({"type": "portmap", "runtimeConfig": {"portMappings": ports}});
    }
    json!({"cniVersion": "1.0.0", "name": name, "plugins": [
        {
            "type": "bridge", "bridge": bridge, "isDefaultGateway": true, "ipMasq": true,
            "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]},
        },
        portmap,
        {"type": "firewall"},
        {
            "type": "bandwidth",
            "ingressRate": 8_000_000, "ingressBurst": 80_000,
            "egressRate": 8_000_000, "egressBurst": 80_000,
        },
        {"type": "tuning", "sysctl": {TUNED[0]: TUNED[1]}},
    ]})
}

/// What [`chain`] limits each direction of a container to, as the kernel has it.
pub(crate) const LIMIT: TokenBucket =
    TokenBucket { rate: 1_000_000, buffer: 156_250, limit: 35_000 };

const TUNED: [&str; 2] = ["net.core.somaxconn", "567"];

/// Whether tuning has done what [`chain`] says.
pub(crate) fn assert_tuned(container: &NetNs) -> Result<()> {
    let [name, wanted] = TUNED;
    let setting = container.run(|| kernel::sysctl::get(&name.replace('.', "/")))??;
    assert_eq!(setting.trim(), wanted, "{name}");
    Ok(())
}

/// The port of the host that leads to the container's [`probe::Endpoint`].
pub(crate) fn fixed_port() -> Value {
    json!([{"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}])
}

/// The address that a container has in a subnet. Names tell nothing: podman gives them as it likes.
pub(crate) fn address(container: &NetNs, subnet: &str) -> Result<IpAddr> {
    let wrong = || LabError::Wrong(format!("the container has no address in {subnet}"));
    let subnet: IpNetwork = subnet.parse().map_err(|_| wrong())?;
    let all = Rtnl::open_in(container)?.addresses(0)?;
    let mut all = all.iter().map(|address| address.address.ip());
    all.find(|address| subnet.contains(*address)).ok_or_else(wrong)
}
