//! The Kubernetes source: every Node object is a node, with the Pod ranges that the controller
//! manager gave it (`spec.podCIDRs`) and the addresses that its kubelet has (`status.addresses`).
//!
//! - [`object`] is what of a Node counts, [`picture`] the Nodes there are;
//! - [`options`] and [`access`] tell how the API server is reached, [`api`] asks it;
//! - [`follow`] is the story: list, watch, and again.
//!
//! # What is evidence
//!
//! That a Node was deleted is told by the watch, and is evidence: somebody, or the cloud's
//! controller, said that it is gone. A watch goes on from the version that it came to, also on a new
//! connection: nothing is missed in between, so it is unbroken in this sense.
//!
//! That a Node is NotReady is nothing: it may well be alive on the data path.
//!
//! When the API server no longer knows that version, all Nodes are listed anew. Whoever is missing
//! then was deleted meanwhile; or the API server was restored from an old backup, or is of another
//! cluster. So such a list is not proof by itself, and a large shrink is held ([`crate::roster`])
//! until the Nodes are listed again, or a later list lacks fewer of them. It is the same for the
//! first list, measured against what is remembered from the last run.
//!
//! What is not noticed: an API server restored from a backup may go on with a watch from a version
//! that it has not come to yet, and be silent until it has. (Kubernetes' own clients are blind then
//! too; restore etcd with `--bump-revision`, or start the daemons again.)

pub mod access;
pub mod api;
pub mod error;
pub mod follow;
pub mod object;
pub mod options;
pub mod picture;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use self::access::Access;
use self::error::KubernetesError;
use self::follow::Follower;
use super::{Source, SourceError, Update};

/// The source, run by a task of its own: a list of many pages is not to begin again whenever the
/// kernel has an event.
pub struct KubernetesNodes {
    updates: Receiver<Update>,
    task: JoinHandle<()>,
}

impl KubernetesNodes {
    /// Starts to list and to watch.
    pub fn start(access: Access) -> Self {
        // Room for one: what happens while nobody takes it is told at once afterwards.
        let (sender, updates) = channel(1);
        Self { updates, task: tokio::spawn(Follower::new(access).run(sender)) }
    }
}

impl Source for KubernetesNodes {
    async fn next(&mut self) -> Update {
        let ended = || Update::Refused(SourceError::Kubernetes(KubernetesError::TaskEnded));
        self.updates.recv().await.unwrap_or_else(ended)
    }
}

impl Drop for KubernetesNodes {
    fn drop(&mut self) {
        self.task.abort();
    }
}
