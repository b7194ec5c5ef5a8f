//! An etcd with claims in it, in flannel's layout.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cbr0_tests::etcd::Etcd;
use cbr0_tests::node::Node;
use cbr0_tests::require::Part;
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::NetNs;
use serde_json::json;

use super::gateway::{self, Gateway};

/// The prefix of all keys.
pub(crate) const PREFIX: &str = "/coreos.com/network/";
/// Etcd takes so many operations in a transaction.
const AT_ONCE: usize = 128;

/// A range that a node claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The range.
    pub(crate) range: IpNetwork,
    /// The node's address.
    pub(crate) gateway: Ipv4Addr,
}

impl Claim {
    fn name(&self) -> String {
        format!("{}-{}", self.range.network(), self.range.prefix())
    }

    fn value(&self) -> String {
        json!({"PublicIP": self.gateway, "PublicIPv6": null, "BackendType": "host-gw"}).to_string()
    }

    fn lease(&self) -> String {
        format!("{PREFIX}subnets/{}", self.name())
    }

    /// The sign that its node has left; without, a claim that goes may be of a living node.
    fn left(&self) -> (String, String) {
        let mut value = json!({"PublicIP": self.gateway, "PublicIPv6": null});
        value["BackendType"] = "host-gw".into();
        value["By"] = "leave".into();
        (format!("{PREFIX}left/{}", self.name()), value.to_string())
    }
}

/// The etcd of a laboratory.
pub(crate) struct Store {
    etcd: Etcd,
    netns: NetNs,
    address: SocketAddr,
    config: String,
    gateway: Gateway,
}

impl Store {
    /// Starts one on a host, with the configuration of a network.
    pub(crate) fn start(host: &Node, address: IpAddr, network: &str) -> Result<Self> {
        let program = Part::Etcd
            .find()
            .ok_or_else(|| LabError::Wrong("no etcd: scripts/parts etcd fetches it".to_owned()))?;
        let etcd = Etcd::start(program, host, address)?;
        let address = SocketAddr::from((address, 2379));
        let netns = NetNs::open(&host.netns().path())?;
        let gateway = Gateway::connect(&netns, address)?;
        let config = json!({"Network": network, "SubnetLen": 24}).to_string();
        let mut store = Store { etcd, netns, address, config, gateway };
        store.configure()?;
        Ok(store)
    }

    /// What a route syncer is told.
    pub(crate) fn endpoint(&self) -> &str {
        &self.etcd.endpoint
    }

    /// Another connection.
    pub(crate) fn connect(&self) -> Result<Gateway> {
        Gateway::connect(&self.netns, self.address)
    }

    fn configure(&mut self) -> Result<()> {
        self.gateway.transaction(&[gateway::put(&format!("{PREFIX}config"), &self.config)])
    }

    /// Puts claims.
    pub(crate) fn claim(&mut self, claims: &[Claim]) -> Result<()> {
        claims.chunks(AT_ONCE).try_for_each(|claims| {
            let puts = claims.iter().map(|claim| gateway::put(&claim.lease(), &claim.value()));
            self.gateway.transaction(&puts.collect::<Vec<_>>())
        })
    }

    /// Gives a claim back, as `route-syncer leave` does.
    pub(crate) fn leave(&mut self, claim: &Claim) -> Result<()> {
        let (key, sign) = claim.left();
        self.gateway.transaction(&[gateway::put(&key, &sign), gateway::delete(&claim.lease())])
    }

    /// Leaves nothing but the configuration.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.gateway.post("kv/deleterange", &gateway::prefix(PREFIX))?;
        self.configure()
    }

    /// Reads everything, as a bare reader would.
    pub(crate) fn read(&mut self) -> Result<usize> {
        Ok(self.gateway.post("kv/range", &gateway::prefix(PREFIX))?.len())
    }

    /// How many messages etcd has received by gRPC.
    pub(crate) fn messages(&mut self) -> Result<f64> {
        let metrics = self.gateway.metrics()?;
        let received =
            metrics.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
        Ok(received.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}
