//! The story of the etcd source: remember, connect, read, take a subnet, watch, keep alive; and
//! from the start again whenever that breaks.
//!
//! What the rest of the daemon hears is always complete: this node, the members, who is held.

mod telling;
mod tenure;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::error;

use super::beat::Beat;
use super::client::Connection;
use super::config::{self, Config, ConfigError};
use super::contents::Contents;
use super::error::EtcdError;
use super::history::doubt;
use super::jitter::jitter;
use super::key::Subnet;
use super::own::{self, Lack, SameAddress};
use super::picture::Viewpoint;
use super::state::{State, StateFile};
use super::value::Identity;
use super::watch::Watch;
use crate::clock;
use crate::source::{List, SourceError, Term, Update};

/// How long to wait before connecting again: doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How often a node without a lease looks again, though nothing has changed.
const LACK_WAIT: Duration = Duration::from_secs(30);

/// Keeps this node's lease, and the picture.
pub struct Keeper {
    connection: Connection,
    file: StateFile,
    own: Identity,
    ttl: Duration,
    state: State,
    /// What the file says.
    written: State,
    /// The cluster's network, when etcd was last read.
    config: Option<Result<Config, ConfigError>>,
    /// Why this node has no lease.
    lack: Option<Lack>,
    /// The subnet that was given back, while its Pods are here.
    left: Option<Subnet>,
    /// The lease to keep alive; 0 for none.
    lease: i64,
    /// Whether this node's value was corrected since etcd was read anew. Who finds it changed again
    /// has a twin, and must not go on for ever.
    corrected: bool,
    /// Whether etcd was read in this life.
    started: bool,
    /// When and why everything was read anew.
    note: Option<String>,
    /// Why the last session ended.
    ended: Option<String>,
    wait: Duration,
    told: Option<List>,
    /// The keys that the log says are skipped, and why.
    skipped: BTreeMap<String, String>,
    /// Whether it only looks on: then it writes neither to etcd nor to the file.
    looks_on: bool,
}

/// Why a session ended.
enum End {
    /// It can be tried again.
    Failed(EtcdError),
    /// This node must not run.
    Refused(SameAddress),
    /// Nobody listens any more.
    Deaf,
}

impl From<EtcdError> for End {
    fn from(error: EtcdError) -> Self {
        End::Failed(error)
    }
}

impl Keeper {
    /// Prepares to start from what is remembered.
    pub fn new(
        connection: Connection,
        own: Identity,
        ttl: Duration,
        file: StateFile,
        state: State,
    ) -> Self {
        Self {
            connection,
            file,
            own,
            ttl,
            written: state.clone(),
            state,
            config: None,
            lack: None,
            left: None,
            lease: 0,
            corrected: false,
            started: false,
            note: None,
            ended: None,
            wait: FIRST_WAIT,
            told: None,
            skipped: BTreeMap::new(),
            looks_on: false,
        }
    }

    /// The same, but it writes nothing: neither to etcd nor to the file.
    #[must_use]
    pub fn looking_on(self) -> Self {
        Self { looks_on: true, ..self }
    }

    /// How long this node's lease holds.
    pub(super) fn term(&self) -> Term {
        self.connection.term.clone()
    }

    /// Runs until nobody listens.
    pub(super) async fn run(mut self, updates: UnboundedSender<Update>) {
        if self.state != State::default() && updates.send(Update::Remembered(self.list())).is_err()
        {
            return;
        }
        loop {
            let failed = match self.session(&updates).await {
                End::Failed(failed) => failed,
                End::Refused(same) => {
                    let _ = updates.send(Update::Refused(SourceError::SameAddress(same)));
                    return;
                }
                End::Deaf => return,
            };
            self.ended = Some(failed.to_string());
            self.told = None;
            if updates.send(Update::Broken(SourceError::Etcd(failed))).is_err() {
                return;
            }
            sleep(self.wait / 2 + jitter(self.wait / 2)).await;
            self.wait = (self.wait * 2).min(self.connection.timing.retry);
        }
    }

    /// One connection, from the reading to the end of the watch.
    async fn session(&mut self, updates: &UnboundedSender<Update>) -> End {
        match self.try_session(updates).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn try_session(&mut self, updates: &UnboundedSender<Update>) -> Result<End, End> {
        let (etcd, mut contents) = self.connection.open().await?;
        self.read_anew(&contents)?;
        let mut watch = Watch::open(&etcd, &contents).await?;
        self.settle(&etcd, &mut watch, &mut contents).await?;
        self.wait = FIRST_WAIT;
        let mut kept = self.lease;
        let mut beat = Beat::start(&etcd, kept).await?;
        loop {
            let written = self.remember(&contents);
            self.tell(updates)?;
            if written {
                // The routes come first: disks are slow.
                yield_now().await;
                self.settle_file();
            }
            if self.lease != kept {
                kept = self.lease;
                beat = Beat::start(&etcd, kept).await?;
            }
            let again = if self.lack.is_some() { LACK_WAIT } else { Duration::MAX };
            tokio::select! {
                changed = watch.next(&etcd, &mut contents) => {
                    if changed? {
                        watch.rest_of_burst(&etcd, &mut contents).await?;
                        self.judge(&contents, None);
                        self.settle(&etcd, &mut watch, &mut contents).await?;
                    }
                }
                () = beat.due() => beat.keep(&etcd, kept).await?,
                () = sleep(again) => self.settle(&etcd, &mut watch, &mut contents).await?,
            }
        }
    }

    /// Takes a complete reading.
    fn read_anew(&mut self, contents: &Contents) -> Result<(), End> {
        let doubt = doubt(&self.state, contents);
        if let Some(doubt) = &doubt {
            error!("{doubt}: nodes that it no longer names are held");
        }
        self.corrected = false;
        if let Some(why) = self.ended.take() {
            self.note = Some(format!("etcd was read anew at {}, for {why}", clock::now()));
        }
        if !self.started {
            own::check_address(&self.own, contents).map_err(End::Refused)?;
            // Who left and starts again joins anew.
            self.state.own = self.state.own.filter(|&own| !own::has_left(&self.own, own, contents));
            self.started = true;
        }
        self.judge(contents, doubt.as_deref());
        Ok(())
    }

    /// Folds what is in etcd into the picture.
    fn judge(&mut self, contents: &Contents, doubt: Option<&str>) {
        let value = contents.config.as_ref().map(|stored| stored.value.as_slice());
        let config = config::parse(&self.connection.layout.config(), value);
        if let Ok(config) = &config {
            self.state.networks.clone_from(&config.networks);
        }
        self.config = Some(config);
        let now = clock::now();
        let networks = &self.state.networks;
        let view = Viewpoint { own: &self.own, networks, doubt, now: &now };
        self.state.picture = self.state.picture.fold(contents, &view);
        self.state.history = Some((contents.cluster, contents.revision));
    }

    /// Returns whether anything was written.
    fn remember(&mut self, contents: &Contents) -> bool {
        self.state.history = Some((contents.cluster, contents.revision));
        // The revision alone is not worth a write.
        let same = self.state.is_but_for_history(&self.written);
        let same_cluster =
            self.written.history.map(|(cluster, _)| cluster) == Some(contents.cluster);
        if self.looks_on || (same && same_cluster) {
            return false;
        }
        match self.file.write(&self.state) {
            Ok(()) => {
                self.written.clone_from(&self.state);
                true
            }
            Err(problem) => {
                error!("the cluster cannot be remembered: {problem}");
                false
            }
        }
    }

    fn settle_file(&self) {
        if let Err(problem) = self.file.settle() {
            error!("what is remembered may not outlive a crash: {problem}");
        }
    }
}
