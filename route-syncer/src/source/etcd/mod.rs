//! The etcd source: every node leases its own subnet, and learns the others', in flannel's layout.
//!
//! - [`key`], [`value`], [`backend`] and [`config`] are flannel's formats; [`contents`] is what is in etcd;
//! - [`subnet`] tells which subnets there are, [`own`] what to do about this node's;
//! - [`picture`] decides who is in the cluster, and who is held; [`state`] remembers that, and
//!   `history` tells whether etcd does;
//! - [`client`], [`lease`], [`beat`] and [`watch`] talk to etcd, as patiently as [`timing`] says;
//!   [`keeper`] is the story of all of it;
//! - [`farewell`] is what `leave` and `forget` do.

pub mod backend;
pub mod beat;
pub mod client;
pub mod config;
pub mod contents;
pub mod error;
pub mod farewell;
mod history;
pub mod identity;
mod jitter;
pub mod keeper;
pub mod key;
pub mod lease;
pub mod options;
pub mod own;
pub mod picture;
pub mod state;
pub mod subnet;
pub mod timing;
pub mod value;
pub mod watch;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use self::error::EtcdError;
use self::keeper::Keeper;
use super::{Source, SourceError, Term, Update};

/// The source, run by a task of its own: a lease must be kept alive whatever else is done.
pub struct EtcdSource {
    updates: UnboundedReceiver<Update>,
    /// What came behind a list.
    pending: Option<Update>,
    term: Term,
    task: JoinHandle<()>,
}

impl EtcdSource {
    /// Starts to keep this node's lease and the picture of the others.
    pub fn start(keeper: Keeper) -> Self {
        let (sender, updates) = unbounded_channel();
        let term = keeper.term();
        Self { updates, pending: None, term, task: tokio::spawn(keeper.run(sender)) }
    }
}

impl Source for EtcdSource {
    fn term(&self) -> Option<Term> {
        Some(self.term.clone())
    }

    async fn next(&mut self) -> Update {
        let ended = || {
            let ended = EtcdError::Watch("the task that watches has ended".to_owned());
            Update::Refused(SourceError::Etcd(ended))
        };
        let mut update = match self.pending.take() {
            Some(pending) => pending,
            None => self.updates.recv().await.unwrap_or_else(ended),
        };
        // Each list is complete: of those that have come, only the last counts.
        while matches!(update, Update::Nodes(_)) {
            match self.updates.try_recv() {
                Ok(newer @ Update::Nodes(_)) => update = newer,
                Ok(other) => {
                    self.pending = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        update
    }
}

impl Drop for EtcdSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}
