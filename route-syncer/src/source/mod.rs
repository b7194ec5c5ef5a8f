//! Where the facts come from: which nodes there are, how to reach them, and which Pods they hold.
//!
//! A source tells complete lists: a file of nodes ([`file::NodesFile`]), leases in etcd
//! ([`etcd::EtcdSource`]), or Kubernetes' Node objects ([`kubernetes::KubernetesNodes`]). A source that learns by watching keeps its own picture and tells it as a
//! whole, after its first complete read and after each change, so that the rest of the daemon needs
//! to know only one kind of evidence: absence from a complete list.

pub mod etcd;
pub mod file;
pub mod kubernetes;
pub mod nodes;
pub mod pause;

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use kernel::MacAddress;

use crate::tunnel::{Vteps, derived_mac};

/// One node of the cluster, as a source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's name; unique in a list.
    pub name: String,
    /// The addresses by which other nodes reach it: at most one a family.
    pub addresses: Vec<IpAddr>,
    /// The Pod ranges it claims. Not yet judged: see [`crate::claims`].
    pub pod_cidrs: Vec<IpNetwork>,
    /// Its ends of the tunnel. None if the source does not know them: then they are those that
    /// follow from its addresses.
    pub vteps: Option<Vteps>,
}

impl Node {
    /// The address that can be the gateway to `cidr`: the one of the same family.
    pub fn gateway_for(&self, cidr: IpNetwork) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == cidr.is_ipv4())
    }

    /// The end of the tunnel by which `cidr` can be reached, if there is one.
    pub fn vtep_for(&self, cidr: IpNetwork) -> Option<MacAddress> {
        let gateway = self.gateway_for(cidr)?;
        match self.vteps {
            Some(told) => told.of_family(gateway),
            None => Some(derived_mac(gateway)),
        }
    }
}

/// A node that the source no longer names, but whose going it does not believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldNode {
    /// The node, as it was.
    pub node: Node,
    /// Since when it is held.
    pub since: String,
}

/// A complete, well-formed list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The nodes there are.
    pub nodes: Vec<Node>,
    /// The nodes whose going the source itself does not believe.
    pub held: Vec<HeldNode>,
    /// The ranges of the whole cluster, if the source knows them.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// What is wrong, though the list is complete.
    pub problems: Vec<String>,
    /// What else people may want to know.
    pub notes: Vec<String>,
    /// Whether the source has evidence for each node that was in the list before and is missing
    /// now. Without it, a list that lost most of its nodes at once is not believed.
    pub absence_is_proven: bool,
}

impl From<Vec<Node>> for List {
    fn from(nodes: Vec<Node>) -> Self {
        Self { nodes, ..Self::default() }
    }
}

/// What a source tells.
#[derive(Debug)]
pub enum Update {
    /// It replaces the list before. A node that is neither in it nor held is gone.
    Nodes(List),
    /// What the source remembers from before, and cannot vouch for yet: no route goes for it.
    Remembered(List),
    /// The facts cannot be read now. This is no evidence of anything: the last list stays.
    Broken(SourceError),
    /// This node must not take part; the daemon ends, and the routes stay.
    Refused(SourceError),
}

/// Until when a source takes this node for alive. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Term(Arc<Mutex<Option<Instant>>>);

impl Term {
    /// The node has given a sign of life that counts for so long.
    pub fn renew(&self, ttl: Duration) {
        if let Ok(mut until) = self.0.lock() {
            *until = Some(Instant::now() + ttl);
        }
    }

    /// The time that is left; zero if it is over, none if it never began.
    pub fn left(&self) -> Option<Duration> {
        let until = *self.0.lock().ok()?;
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// A source of facts.
pub trait Source {
    /// How long the source takes this node for alive, if it does so for a time only.
    fn term(&self) -> Option<Term> {
        None
    }

    /// Waits for the next [`Update`]; the first call answers with the state as it is.
    ///
    /// Cancel-safe: a dropped future has lost no update.
    fn next(&mut self) -> impl Future<Output = Update>;
}

/// Why a source cannot tell the facts.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The nodes file.
    #[error(transparent)]
    File(#[from] file::FileError),
    /// Etcd.
    #[error(transparent)]
    Etcd(#[from] etcd::error::EtcdError),
    /// The Kubernetes API server.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::error::KubernetesError),
    /// Another node has this one's address.
    #[error(transparent)]
    SameAddress(#[from] etcd::own::SameAddress),
}
