//! Where the facts come from: which nodes there are, how to reach them, and which Pods they hold.
//!
//! A source tells complete lists. Today there is one, a file of nodes ([`file::NodesFile`]); a
//! source that learns by watching (a key-value store, an API server) keeps its own picture and
//! tells it as a whole, after its first complete read and after each change, so that the rest of
//! the daemon needs to know only one kind of evidence: absence from a complete list.

pub mod file;
pub mod nodes;

use std::future::Future;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// One node of the cluster, as a source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's name; unique in a list.
    pub name: String,
    /// The addresses by which other nodes reach it: at most one a family.
    pub addresses: Vec<IpAddr>,
    /// The Pod ranges it claims. Not yet judged: see [`crate::claims`].
    pub pod_cidrs: Vec<IpNetwork>,
}

impl Node {
    /// The address that can be the gateway to `cidr`: the one of the same family.
    pub fn gateway_for(&self, cidr: IpNetwork) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == cidr.is_ipv4())
    }
}

/// What a source tells.
#[derive(Debug)]
pub enum Update {
    /// A complete, well-formed list: it replaces the one before. A node that is not in it is gone.
    Nodes(Vec<Node>),
    /// The facts cannot be read now. This is no evidence of anything: the last list stays.
    Broken(SourceError),
}

/// A source of facts.
pub trait Source {
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
}
