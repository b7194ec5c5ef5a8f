//! One sync, from facts to routes: read the kernel, judge the claims, apply the difference, and
//! say how it went. The same path serves start, change and repair.

mod effects;
mod facts;
mod mend;
mod meter;
mod off_link;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use tokio::sync::watch;
use tracing::{error, info};

use self::facts::{SourceTrouble, Told};
use self::meter::Reasons;
use crate::backoff::{Backoff, Retry};
use crate::claims::Judged;
use crate::decision;
use crate::desired::Desired;
use crate::difference::{Difference, Foreign};
use crate::error::Error;
use crate::fight::Fights;
use crate::host::keeper::Keeper;
use crate::masquerade::{Masquerade, Scope};
use crate::memory::Memory;
use crate::node_files::{Facts, NodeFiles, uplink_mtu};
use crate::observed::{Observed, Route};
use crate::readiness;
use crate::roster::Roster;
use crate::run_dir::RunDir;
use crate::serve::meters::Meters;
use crate::serve::snapshot::Snapshot;
use crate::settings::Settings;
use crate::status::{Report, rows};
use crate::tunnel;
use crate::tunnel::seen::Seen;

/// The owner of the routes.
pub struct Reconciler {
    settings: Settings,
    run_dir: RunDir,
    roster: Roster,
    /// Whether a source has told a complete list in this life. Before, nothing is evidence enough
    /// to remove a route.
    listed: bool,
    /// Whether it is known from a list, of this life or the last, what belongs to the cluster.
    informed: bool,
    source_error: Option<SourceTrouble>,
    /// What the source says beside the nodes.
    told: Told,
    desired: Desired,
    /// The tunnel as it was seen last.
    tunnel: Seen,
    /// Whether no node was behind a router, once that was known; asked if there must be none.
    is_flat: bool,
    /// What was seen to be masqueraded; none if that has to be looked at.
    in_place: Option<Scope>,
    host: Keeper,
    masquerade: Masquerade,
    backoff: Backoff,
    fights: Fights,
    /// Set while something else than single routes fails.
    retry: Option<Retry>,
    /// Whether plugins have been told that the routes are there.
    announced: bool,
    node_files: NodeFiles,
    /// What was said last, to say only what is new.
    said: Option<Arc<Report>>,
    said_shadowed: BTreeSet<(IpNetwork, Foreign)>,
    reasons: Reasons,
    meters: Meters,
    snapshots: watch::Sender<Snapshot>,
}

impl Reconciler {
    /// Starts from what is remembered: the last list that was believed, and the kernel's routes.
    ///
    /// # Errors
    /// The kernel or the folder cannot be read.
    pub fn remember(settings: Settings, run_dir: RunDir) -> Result<Self, Error> {
        let observed = Observed::read(&mut Rtnl::open()?)?;
        let memory = settings.memory.as_deref();
        let Memory { roster, has_list } =
            Memory::recall(&run_dir, memory, &observed, settings.protocol)?;
        let host = Keeper::new(settings.host.skip_host_setting.clone());
        Ok(Self {
            informed: has_list,
            roster,
            node_files: NodeFiles::new(settings.conflist.clone(), settings.subnet_env.clone()),
            settings,
            run_dir,
            listed: false,
            source_error: None,
            told: Told::default(),
            desired: Desired::default(),
            tunnel: Seen::default(),
            is_flat: false,
            in_place: None,
            host,
            masquerade: Masquerade::default(),
            backoff: Backoff::default(),
            fights: Fights::default(),
            retry: None,
            announced: false,
            said: None,
            said_shadowed: BTreeSet::new(),
            reasons: Reasons::default(),
            meters: Meters::default(),
            snapshots: watch::Sender::default(),
        })
    }

    /// Something that may have been the cause of failures has changed.
    pub fn hurry(&mut self) {
        self.reasons.link = true;
        self.backoff.hurry(Instant::now());
    }

    /// Makes the next sync look at everything, also at what makes no events.
    pub fn distrust(&mut self) {
        self.reasons.periodic = true;
        self.in_place = None;
        self.host.distrust();
        self.node_files.distrust();
    }

    /// Makes the next sync look at the packet filter and at the host's settings.
    pub fn distrust_host(&mut self) {
        self.in_place = None;
        self.host.distrust();
    }

    /// Whether a route that came or went is any of our business, and not as it should be. What we
    /// do ourselves is told too, and is no reason to look.
    pub fn concerns(&self, route: &Route, gone: bool) -> bool {
        self.desired.is_disturbed(route, gone, self.settings.protocol)
    }

    /// When a sync is due even if nothing happens.
    pub fn due(&self) -> Option<Instant> {
        let retry = self.retry.map(|retry| retry.due());
        [self.backoff.due(), self.fights.due(), retry].into_iter().flatten().min()
    }

    /// Makes the kernel's state the desired one, as far as it can be made so now.
    ///
    /// # Errors
    /// There are nodes that must not be. Nothing was changed.
    pub fn sync(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let well = match self.try_sync(now) {
            Err(refused @ Error::OffLink(_)) => return Err(refused),
            Err(problem) => {
                error!("a sync failed, it is tried again: {problem}");
                false
            }
            Ok(well) => well,
        };
        self.hand_out();
        self.retry = if well { None } else { Some(Retry::after(self.retry, now)) };
        Ok(())
    }

    /// Returns whether all is well but for single routes, which are retried for themselves.
    fn try_sync(&mut self, now: Instant) -> Result<bool, Error> {
        self.fights.begin(now);
        let mut rtnl = Rtnl::open()?;
        let mut observed = self.read(&mut rtnl)?;
        let judged = decision::judge_all(
            &self.roster,
            &self.told.cluster_cidrs,
            &self.desired,
            &observed,
            &self.settings,
        );
        let mut problems = self.refuse_off_link(&judged)?;
        problems.extend(self.make_devices(&mut rtnl, &judged, &mut observed)?);
        // Before it is known which nodes there are, none is unknown.
        let cluster = if self.informed { self.cluster_cidrs() } else { Vec::new() };
        self.desired = decision::desired(&judged, &cluster, &observed, &self.settings);
        problems.extend(self.settle_host(&judged, &observed));
        let (may_add, problem) = self.exempt(&judged);
        problems.extend(problem);
        let (changed, problem) = self.set_peers(&mut rtnl, &observed)?;
        problems.extend(problem);
        let changed = self.apply(&mut rtnl, &observed, may_add, now)? || changed;
        self.fights.end(now);
        let (gone, problem) = self.forget_peers(&mut rtnl, &observed)?;
        problems.extend(problem);
        if changed || gone {
            // What counts is not what was sent but what is there.
            observed = self.read(&mut rtnl)?;
        }
        self.tunnel.clone_from(&observed.tunnel);
        let left = self.difference(&observed);
        self.backoff.keep_only(&left.changes.iter().map(|c| c.route().destination).collect());
        let rows = rows(&judged, &self.desired, &left, &observed, &self.backoff);
        if self.informed && !self.announced {
            // Who hears of the first sync may ask at once how it went.
            self.say(problems.clone(), rows.clone(), &left)?;
            self.announce()?;
        }
        if self.announced {
            problems.extend(self.write_node_files(&judged, &observed));
        }
        let well = problems.is_empty();
        self.say(problems, rows, &left)?;
        Ok(well)
    }

    fn read(&self, rtnl: &mut Rtnl) -> kernel::Result<Observed> {
        self.meters.readings.inc();
        Observed::read(rtnl)
    }

    /// Tells plugins that it is known what the routes should be, and that they are there.
    fn announce(&mut self) -> Result<(), Error> {
        readiness::announce(&self.run_dir.synced(), &self.settings.node)?;
        info!("the first sync is done, {} routes are wanted", self.desired.routes.len());
        self.announced = true;
        Ok(())
    }

    fn write_node_files(&mut self, judged: &[Judged], observed: &Observed) -> Vec<String> {
        // What Pods send must fit into a tunnel, too.
        let overhead = tunnel::overhead(judged, self.settings.off_link);
        let uplink = || uplink_mtu(judged, observed).map(|mtu| mtu.saturating_sub(overhead));
        let facts = Facts::of(judged, self.cluster_cidrs(), self.settings.mtu.or_else(uplink));
        self.node_files.write(facts, &self.run_dir.synced())
    }

    /// The ranges of the cluster: those of the command line, and those that the source knows.
    fn cluster_cidrs(&self) -> Vec<IpNetwork> {
        decision::cluster_cidrs(&self.settings, &self.told.cluster_cidrs)
    }

    fn difference(&self, observed: &Observed) -> Difference {
        decision::changes(&self.desired, observed, self.settings.protocol, self.listed)
    }
}
