//! The story of the etcd source: remember, connect, read, take a subnet, watch, keep alive; and
//! from the start again whenever that breaks.
//!
//! What the rest of the daemon hears is always complete: this node, the members, who is held.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::beat::Beat;
use super::client::{Connection, Etcd, EtcdError};
use super::config::{self, Config, ConfigError};
use super::contents::Contents;
use super::key::Subnet;
use super::own::{self, Lack, Own, SameAddress};
use super::picture::{Picture, Viewpoint};
use super::state::{State, StateFile};
use super::value::Identity;
use super::watch::Watch;
use crate::clock;
use crate::source::{HeldNode, List, Node, SourceError, Term, Update};

/// How long to wait before connecting again: doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long who lost the race for a subnet lets others go first, at most.
const RACE_WAIT: Duration = Duration::from_millis(50);
/// How often a node without a lease looks again, though nothing has changed.
const LACK_WAIT: Duration = Duration::from_secs(30);
/// How many problems of single keys are shown.
const SHOWN: usize = 5;

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
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
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
        let doubt = self.state.history.and_then(|history| doubt(history, contents));
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

    /// Does what is to be done about this node's own lease.
    async fn settle(
        &mut self,
        etcd: &Etcd,
        watch: &mut Watch,
        contents: &mut Contents,
    ) -> Result<(), EtcdError> {
        let mut granted = 0;
        let settled = self.take_or_keep(etcd, watch, contents, &mut granted).await;
        if granted != 0 && granted != self.lease {
            etcd.revoke(granted).await;
        }
        settled
    }

    async fn take_or_keep(
        &mut self,
        etcd: &Etcd,
        watch: &mut Watch,
        contents: &mut Contents,
        granted: &mut i64,
    ) -> Result<(), EtcdError> {
        loop {
            match self.decide(contents) {
                Own::Has { subnet, .. } if self.looks_on => {
                    self.have(subnet, 0);
                    return Ok(());
                }
                Own::Take(subnet) if self.looks_on => {
                    info!("the subnet {subnet} would be taken");
                    return Ok(());
                }
                Own::Has { subnet, lease, stale: None } => {
                    self.have(subnet, lease);
                    return Ok(());
                }
                Own::Has { subnet, lease, stale: Some(_) } if self.corrected => {
                    self.have(subnet, lease);
                    self.lack = Some(Lack::Twin(subnet));
                    return Ok(());
                }
                Own::Has { subnet, lease, stale: Some(revision) } => {
                    self.corrected = true;
                    if etcd.rewrite(&self.own, subnet, lease, revision).await? {
                        self.have(subnet, lease);
                        return Ok(());
                    }
                    return Err(EtcdError::Watch("this node's lease was written to".to_owned()));
                }
                Own::Take(subnet) => {
                    if *granted == 0 {
                        *granted = etcd.grant(self.ttl).await?;
                    }
                    if etcd.take(&self.own, subnet, *granted, contents).await? {
                        info!("took the subnet {subnet}");
                        self.have(subnet, *granted);
                        return Ok(());
                    }
                    // Others look for one at the same time: what they have meanwhile is heard of.
                    watch.gather(etcd, contents, jitter(RACE_WAIT)).await?;
                    self.judge(contents, None);
                }
                Own::Lacks(lack) => {
                    if self.lack.as_ref() != Some(&lack) {
                        error!("{lack}");
                    }
                    self.lack = Some(lack);
                    self.lease = 0;
                    return Ok(());
                }
            }
        }
    }

    fn decide(&mut self, contents: &Contents) -> Own {
        if let Some(own) = self.state.own.filter(|&own| own::has_left(&self.own, own, contents)) {
            self.left = Some(own);
            self.state.own = None;
        }
        if let Some(left) = self.left {
            return Own::Lacks(Lack::Left(left));
        }
        let key = || Err(ConfigError::Missing { key: self.connection.layout.config() });
        let config = self.config.clone().unwrap_or_else(key);
        own::decide(&self.own, self.state.own, contents, &self.state.picture, &config)
    }

    fn have(&mut self, subnet: Subnet, lease: i64) {
        self.state.own = Some(subnet);
        self.lease = lease;
        self.lack = None;
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

    fn tell(&mut self, updates: &UnboundedSender<Update>) -> Result<(), End> {
        let list = self.list();
        if self.told.as_ref() == Some(&list) {
            return Ok(());
        }
        for (name, reason) in &self.state.picture.skipped {
            warn!("the lease {name:?} is skipped: {reason}");
        }
        self.told = Some(list.clone());
        updates.send(Update::Nodes(list)).map_err(|_| End::Deaf)
    }

    /// Everything that is known.
    fn list(&self) -> List {
        let picture = &self.state.picture;
        let mut list = List {
            cluster_cidrs: self.state.networks.clone(),
            problems: self.problems(),
            notes: self.note.iter().cloned().collect(),
            absence_is_proven: true,
            ..List::default()
        };
        if let Some(subnet) = self.state.own.or(self.left) {
            list.nodes.push(node(&self.own.name, &self.own, subnet.ranges()));
        }
        let mut names = std::collections::HashSet::from([self.own.name.as_str()]);
        for (key, member) in &picture.members {
            let Identity { name, .. } = &member.identity;
            // Two machines of one name are two nodes.
            let name = if names.insert(name) { name.clone() } else { format!("{name}@{key}") };
            let node = node(&name, &member.identity, member.subnet.ranges());
            match &member.held_since {
                Some(since) => list.held.push(HeldNode { node, since: since.clone() }),
                None => list.nodes.push(node),
            }
        }
        list
    }

    fn problems(&self) -> Vec<String> {
        let picture: &Picture = &self.state.picture;
        let mut problems = Vec::new();
        problems.extend(self.lack.as_ref().map(ToString::to_string));
        if let Some(Err(error)) = &self.config
            && !matches!(self.lack, Some(Lack::Config(_)))
        {
            problems.push(error.to_string());
        }
        if let Some(doubt) = &picture.doubt {
            problems.push(format!("{}, since {}", doubt.what, doubt.since));
        }
        if !picture.skipped.is_empty() {
            let count = picture.skipped.len();
            let some: Vec<String> =
                picture.skipped.iter().take(SHOWN).map(|(k, v)| format!("{k}: {v}")).collect();
            let more = if count > SHOWN { "; …" } else { "" };
            problems.push(format!("{count} leases are skipped: {}{more}", some.join("; ")));
        }
        problems
    }
}

fn node(name: &str, identity: &Identity, pod_cidrs: Vec<IpNetwork>) -> Node {
    let (name, addresses) = (name.to_owned(), identity.addresses());
    Node { name, addresses, pod_cidrs, vteps: Some(identity.backend.vteps()) }
}

/// Why etcd's history is not the one that was read before.
fn doubt((cluster, revision): (u64, i64), contents: &Contents) -> Option<String> {
    if contents.cluster != cluster {
        let new = contents.cluster;
        return Some(format!("etcd is another cluster than before ({new:x}, was {cluster:x})"));
    }
    (contents.revision < revision).then(|| {
        let new = contents.revision;
        format!("etcd went back from revision {revision} to {new}, as after a restored backup")
    })
}

/// A random time up to `most`. The keys of a new hasher are random.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
