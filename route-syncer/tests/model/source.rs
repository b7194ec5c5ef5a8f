//! A source in memory, which knows when what it told has been acted on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use route_syncer::source::{Source, Update};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) struct InMemory {
    updates: UnboundedReceiver<Update>,
    done: Sender<()>,
    is_told: bool,
}

/// The other end.
pub(crate) struct Teller {
    updates: UnboundedSender<Update>,
    done: Receiver<()>,
}

pub(crate) fn source() -> (InMemory, Teller) {
    let (updates, told) = unbounded_channel();
    let (done, acted_on) = channel();
    (InMemory { updates: told, done, is_told: false }, Teller { updates, done: acted_on })
}

impl Source for InMemory {
    async fn next(&mut self) -> Update {
        // Who asks again has acted on what was told.
        if std::mem::take(&mut self.is_told) {
            let _ = self.done.send(());
        }
        match self.updates.recv().await {
            Some(update) => {
                self.is_told = true;
                update
            }
            None => std::future::pending().await,
        }
    }
}

impl Teller {
    /// Tells the daemon something, and returns when it has acted on it.
    pub(crate) fn tell(&self, update: Update, patience: Duration) -> Result<(), String> {
        let told = self.updates.send(update).map_err(|_| "the daemon has ended".to_owned());
        told.and_then(|()| {
            self.done.recv_timeout(patience).map_err(|_| "the daemon does not act".to_owned())
        })
    }
}
