//! The story of the Kubernetes source: list the Nodes, watch them, and go on from there on a new
//! connection whenever that breaks. Only when the API server no longer knows what changed since are
//! they listed anew.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use kube::api::WatchEvent;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::access::Access;
use super::api::{Events, Nodes};
use super::error::{self, KubernetesError};
use super::object::NodeObject;
use super::picture::Picture;
use crate::clock;
use crate::source::pause::{self, Pause};
use crate::source::{SourceError, Update};

/// A watch that was closed sooner was not closed because it had lasted long enough.
const SHORTEST: Duration = Duration::from_secs(1);

/// Keeps the picture.
pub(super) struct Follower {
    access: Access,
    picture: Picture,
    /// Of which version of the cluster's state that is; empty if there has to be a list first.
    version: String,
    /// Whether the picture has changed since it was told.
    untold: bool,
    /// Why a session ended, after which nothing was told but that.
    ended: Option<String>,
    /// When and why the Nodes were listed anew.
    note: Option<String>,
    pause: Pause,
}

/// Why a session ended.
enum End {
    /// It can be tried again.
    Failed(KubernetesError),
    /// Nobody listens any more.
    Deaf,
}

impl From<KubernetesError> for End {
    fn from(error: KubernetesError) -> Self {
        End::Failed(error)
    }
}

impl Follower {
    /// Knows nothing yet.
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            picture: Picture::default(),
            version: String::new(),
            untold: false,
            ended: None,
            note: None,
            pause: Pause::default(),
        }
    }

    /// Runs until nobody listens.
    pub(super) async fn run(mut self, updates: Sender<Update>) {
        while let Err(End::Failed(failed)) = self.session(&updates).await {
            if matches!(failed, KubernetesError::Gone { .. }) {
                self.version.clear();
            }
            // What came before the failure counts.
            if self.untold && self.tell(&updates, true).await.is_err() {
                return;
            }
            self.ended = Some(failed.to_string());
            let broken = Update::Broken(SourceError::Kubernetes(failed));
            if updates.send(broken).await.is_err() {
                return;
            }
            self.pause.take().await;
        }
    }

    /// One client, from the list, if there has to be one, to the end of a watch before its time.
    async fn session(&mut self, updates: &Sender<Update>) -> Result<(), End> {
        let nodes = self.access.connect().await?;
        if self.version.is_empty() {
            self.list(&nodes, updates).await?;
        }
        loop {
            let began = Instant::now();
            let watched = self.watch(&nodes, updates).await;
            // A server that answers for a moment, again and again, is not asked at once each time.
            if began.elapsed() > pause::LONGEST {
                self.pause = Pause::default();
            }
            watched?;
            if began.elapsed() < SHORTEST {
                return Err(KubernetesError::Ended { server: nodes.server }.into());
            }
        }
    }

    async fn list(&mut self, nodes: &Nodes, updates: &Sender<Update>) -> Result<(), End> {
        let (objects, version) = nodes.list().await?;
        if let Some(why) = &self.ended {
            self.note = Some(format!("the Nodes were listed anew at {}, for {why}", clock::now()));
        }
        self.picture = Picture::of(objects);
        self.version = version;
        self.tell(updates, false).await
    }

    /// One watch, to its end in time.
    async fn watch(&mut self, nodes: &Nodes, updates: &Sender<Update>) -> Result<(), End> {
        let mut events = nodes.watch(&self.version).await?;
        if self.ended.is_some() {
            self.tell(updates, true).await?;
        }
        while self.hear(&mut events, &nodes.server).await? {
            if self.untold {
                self.tell(updates, true).await?;
            }
        }
        Ok(())
    }

    /// Waits for an event, and takes all that are there. Returns whether there may be more.
    async fn hear(&mut self, events: &mut Events, server: &str) -> Result<bool, KubernetesError> {
        let mut event = events.next().await;
        loop {
            let Some(heard) = event else { return Ok(false) };
            self.take(heard?, server)?;
            match events.next().now_or_never() {
                Some(next) => event = next,
                None => return Ok(true),
            }
        }
    }

    /// Takes an event into the picture.
    fn take(&mut self, event: WatchEvent<NodeObject>, server: &str) -> Result<(), KubernetesError> {
        self.version = match event {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                let version = node.metadata.resource_version.clone();
                self.untold |= self.picture.put(node);
                version
            }
            WatchEvent::Deleted(node) => {
                self.untold |= self.picture.remove(&node.metadata.name);
                node.metadata.resource_version
            }
            WatchEvent::Bookmark(mark) => mark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(error::refusal(&status, server)),
        };
        Ok(())
    }

    /// Tells the picture. `is_proven`: whoever is missing in it was deleted, as the watch told.
    async fn tell(&mut self, updates: &Sender<Update>, is_proven: bool) -> Result<(), End> {
        let mut list = self.picture.list();
        list.absence_is_proven = is_proven;
        list.notes.extend(self.note.clone());
        updates.send(Update::Nodes(list)).await.map_err(|_| End::Deaf)?;
        (self.untold, self.ended) = (false, None);
        Ok(())
    }
}
