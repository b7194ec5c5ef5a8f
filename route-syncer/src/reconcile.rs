//! One sync, from facts to routes: read the kernel, judge the claims, apply the difference, and
//! say how it went. The same path serves start, change and repair.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use tracing::{debug, error, info, warn};

use crate::apply::apply;
use crate::backoff::{Backoff, Retry};
use crate::claims::{Judged, Surroundings, Verdict, claims, held_claims, judge};
use crate::clock;
use crate::desired::Desired;
use crate::difference::{Change, Difference, Foreign, difference};
use crate::error::Error;
use crate::forwarding::{self, Families};
use crate::masquerade::{self, Outcome, Scope};
use crate::node_files::{Facts, NodeFiles};
use crate::observed::{Observed, Route};
use crate::readiness;
use crate::roster::Roster;
use crate::run_dir::RunDir;
use crate::source::{List, Node, SourceError, Update, nodes};
use crate::status::{Report, Row, rows};

/// What the administrator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Ranges that are in the cluster: what Pods send there is not masqueraded.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Ranges that no claim may touch.
    pub service_cidrs: Vec<IpNetwork>,
    /// The number that marks our routes.
    pub protocol: u8,
    /// The daemon's folder.
    pub run_dir: PathBuf,
    /// The network configuration to write for container runtimes.
    pub conflist: Option<PathBuf>,
    /// The file to write this node's subnet to, as flannel does.
    pub subnet_env: Option<PathBuf>,
}

/// Why the source cannot be read, and since when.
struct SourceTrouble {
    words: String,
    since: String,
}

/// What a source says beside the nodes.
#[derive(Default)]
struct Told {
    cluster_cidrs: Vec<IpNetwork>,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Told {
    fn of(list: &List) -> Self {
        Self {
            cluster_cidrs: list.cluster_cidrs.clone(),
            problems: list.problems.clone(),
            notes: list.notes.clone(),
        }
    }
}

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
    /// What was seen to be masqueraded; none if that has to be looked at.
    in_place: Option<Scope>,
    backoff: Backoff,
    /// Set while something else than single routes fails.
    retry: Option<Retry>,
    /// Whether plugins have been told that the routes are there.
    announced: bool,
    node_files: NodeFiles,
    /// What was said last, to say only what is new.
    said: Option<Report>,
    said_shadowed: BTreeSet<(IpNetwork, Foreign)>,
}

impl Reconciler {
    /// Starts from what is remembered: the last list that was believed, and the kernel's routes.
    ///
    /// # Errors
    /// The kernel or the folder cannot be read.
    pub fn remember(settings: Settings, run_dir: RunDir) -> Result<Self, Error> {
        let observed = Observed::read(&mut Rtnl::open()?)?;
        let own: Vec<&Route> =
            observed.routes.iter().filter(|route| route.protocol == settings.protocol).collect();
        let last_good = run_dir.read_last_good()?.map(|text| nodes::parse(&text));
        let last_good = last_good.transpose().unwrap_or_else(|error| {
            warn!("the remembered list of nodes is left aside: {error}");
            None
        });
        Ok(Self {
            informed: last_good.is_some(),
            roster: Roster::remembered(last_good.unwrap_or_default(), &own),
            node_files: NodeFiles::new(settings.conflist.clone(), settings.subnet_env.clone()),
            settings,
            run_dir,
            listed: false,
            source_error: None,
            told: Told::default(),
            desired: Desired::default(),
            in_place: None,
            backoff: Backoff::default(),
            retry: None,
            announced: false,
            said: None,
            said_shadowed: BTreeSet::new(),
        })
    }

    /// Takes what the source tells.
    ///
    /// # Errors
    /// The source refuses this node.
    pub fn take(&mut self, update: Update) -> Result<(), Error> {
        match update {
            Update::Nodes(list) => self.take_list(list),
            Update::Remembered(list) => {
                info!("{} nodes are remembered", list.nodes.len() + list.held.len());
                self.informed = true;
                self.told = Told::of(&list);
                self.roster.remember(list);
            }
            Update::Broken(problem) => self.note_trouble(&problem),
            Update::Refused(problem) => return Err(Error::Source(problem)),
        }
        Ok(())
    }

    fn note_trouble(&mut self, problem: &SourceError) {
        let words = problem.to_string();
        let before = self.source_error.take();
        if before.as_ref().is_none_or(|before| before.words != words) {
            error!("the source is broken, the last good list of nodes is kept: {words}");
        }
        let since = before.map_or_else(clock::now, |before| before.since);
        self.source_error = Some(SourceTrouble { words, since });
    }

    fn take_list(&mut self, list: List) {
        info!("the source names {} nodes", list.nodes.len());
        // A source with a problem says for itself why this node is not in its list.
        let is_named = list.nodes.iter().any(|node| node.name == self.settings.node);
        if !is_named && list.problems.is_empty() {
            warn!(
                "the list does not name this node, {:?}: give its name with --node, or add it; \
                 until then its own Pods are not masqueraded",
                self.settings.node
            );
        }
        self.source_error = None;
        self.listed = true;
        self.informed = true;
        self.told = Told::of(&list);
        let is_proven = list.absence_is_proven;
        self.roster.take(list, &self.settings.node);
        if !self.roster.held.is_empty() && !is_proven {
            error!(
                "{} nodes are missing from the list at once; their routes are held until they are \
                 listed again, or removed in steps of at most half of the nodes",
                self.roster.held.len()
            );
        }
        let text = nodes::render(&self.roster.baseline).map_err(Error::Render);
        let written = text.and_then(|text| Ok(self.run_dir.write_last_good(&(text + "\n"))?));
        if let Err(problem) = written {
            error!("the list of nodes cannot be remembered: {problem}");
        }
    }

    /// Something that may have been the cause of failures has changed.
    pub fn hurry(&mut self) {
        self.backoff.hurry(Instant::now());
    }

    /// Makes the next sync look at everything, also at what makes no events.
    pub fn distrust(&mut self) {
        self.in_place = None;
        self.node_files.distrust();
    }

    /// Whether a route of this protocol to this destination is any of our business.
    pub fn concerns(&self, destination: Option<IpNetwork>, protocol: u8) -> bool {
        protocol == self.settings.protocol
            || destination.is_some_and(|to| self.desired.routes.contains_key(&to))
    }

    /// When a sync is due even if nothing happens.
    pub fn due(&self) -> Option<Instant> {
        self.backoff.due().into_iter().chain(self.retry.map(|retry| retry.due())).min()
    }

    /// Makes the kernel's state the desired one, as far as it can be made so now.
    pub fn sync(&mut self) {
        let now = Instant::now();
        let well = self.try_sync(now).unwrap_or_else(|problem| {
            error!("a sync failed, it is tried again: {problem}");
            false
        });
        self.retry = if well { None } else { Some(Retry::after(self.retry, now)) };
    }

    /// Returns whether all is well but for single routes, which are retried for themselves.
    fn try_sync(&mut self, now: Instant) -> Result<bool, Error> {
        let mut rtnl = Rtnl::open()?;
        let mut observed = Observed::read(&mut rtnl)?;
        let judged = self.judge(&observed);
        self.desired = Desired::fold(&judged);
        let mut problems = Vec::new();
        problems.extend(turn_on_forwarding(&judged, &observed));
        let (may_add, problem) = self.exempt(&judged);
        problems.extend(problem);
        if self.apply(&mut rtnl, &observed, may_add, now)? {
            // What counts is not what was sent but what is there.
            observed = Observed::read(&mut rtnl)?;
        }
        let left = self.difference(&observed);
        self.backoff.keep_only(&left.changes.iter().map(|c| c.route().destination).collect());
        let rows = rows(&judged, &left, &observed, &self.backoff);
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

    /// Tells plugins that it is known what the routes should be, and that they are there.
    fn announce(&mut self) -> Result<(), Error> {
        readiness::announce(&self.run_dir.synced(), &self.settings.node)?;
        info!("the first sync is done, {} routes are wanted", self.desired.routes.len());
        self.announced = true;
        Ok(())
    }

    fn write_node_files(&mut self, judged: &[Judged], observed: &Observed) -> Vec<String> {
        let facts = Facts::of(judged, observed, self.cluster_cidrs());
        self.node_files.write(facts, &self.run_dir.synced())
    }

    /// The ranges of the cluster: those of the command line, and those that the source knows.
    fn cluster_cidrs(&self) -> Vec<IpNetwork> {
        let mut cidrs = self.settings.cluster_cidrs.clone();
        let told = self.told.cluster_cidrs.iter();
        cidrs.extend(told.filter(|cidr| !self.settings.cluster_cidrs.contains(cidr)));
        cidrs
    }

    /// The claims of listed nodes come before those of held ones: a range that is claimed again
    /// belongs to whom the list says.
    fn judge(&self, observed: &Observed) -> Vec<Judged> {
        let listed = claims(&self.roster.listed);
        let around = Surroundings {
            node: &self.settings.node,
            service_cidrs: &self.settings.service_cidrs,
            links: &observed.links,
            addresses: &observed.addresses,
        };
        judge(listed.chain(held_claims(&self.roster.held)).collect(), &around)
    }

    /// Exempts the ranges from masquerading, before there are routes to them. Returns whether
    /// routes to new ranges may be made, and what went wrong.
    fn exempt(&mut self, judged: &[Judged]) -> (bool, Option<String>) {
        if !self.informed {
            // Nobody knows yet which Pods are ours: what the last daemon left is better.
            return (true, None);
        }
        let held = self.roster.held.iter().map(|held| &held.node);
        let nodes: Vec<&Node> = self.roster.listed.iter().chain(held).collect();
        let scope = Scope::new(&self.cluster_cidrs(), judged, &nodes);
        if self.in_place.as_ref() == Some(&scope) {
            return (true, None);
        }
        self.in_place = None;
        match masquerade::sync(&scope) {
            Outcome::InPlace { written } => {
                if written {
                    info!("wrote the masquerade rules");
                }
                self.in_place = Some(scope);
                (true, None)
            }
            Outcome::Stale(problem) => {
                let text = "the masquerade rules cannot be changed, new routes have to wait";
                (false, Some(format!("{text}: {problem}")))
            }
            Outcome::Absent(problem) => {
                (true, Some(format!("what leaves the cluster is not masqueraded: {problem}")))
            }
        }
    }

    fn difference(&self, observed: &Observed) -> Difference {
        let mut difference = difference(&self.desired, &observed.routes, self.settings.protocol);
        if !self.listed {
            difference.changes.retain(|change| !matches!(change, Change::Delete(_)));
        }
        difference
    }

    /// Makes what changes may be made now. Returns whether there were any.
    fn apply(
        &mut self,
        rtnl: &mut Rtnl,
        observed: &Observed,
        may_add: bool,
        now: Instant,
    ) -> Result<bool, Error> {
        let mut changes = self.difference(observed).changes;
        changes.retain(|change| {
            (may_add || !matches!(change, Change::Add(_)))
                && self.backoff.may_try(change.route().destination, now)
        });
        let mut made = [0; 3];
        for (change, answer) in changes.iter().zip(apply(rtnl, &changes)?) {
            let destination = change.route().destination;
            match answer {
                Ok(()) => {
                    debug!("made: {change:?}");
                    made[match change {
                        Change::Add(_) => 0,
                        Change::Replace(_) => 1,
                        Change::Delete(_) => 2,
                    }] += 1;
                }
                Err(problem) => {
                    if self.backoff.failed(destination, problem.to_string(), now) {
                        warn!("{problem}; it is tried again");
                    }
                }
            }
        }
        if made != [0; 3] {
            info!("routes: {} added, {} replaced, {} removed", made[0], made[1], made[2]);
        }
        Ok(!changes.is_empty())
    }

    /// Says what is new to the log, and everything to the status file.
    fn say(
        &mut self,
        mut problems: Vec<String>,
        routes: Vec<Row>,
        left: &Difference,
    ) -> Result<(), Error> {
        problems.extend(self.told.problems.iter().cloned());
        let report = Report {
            node: self.settings.node.clone(),
            protocol: self.settings.protocol,
            source_error: self.source_error.as_ref().map(|trouble| trouble.words.clone()),
            source_error_since: self.source_error.as_ref().map(|trouble| trouble.since.clone()),
            notes: self.told.notes.clone(),
            problems,
            routes,
        };
        for (destination, foreign) in left.shadowed.difference(&self.said_shadowed) {
            info!(
                "a route of protocol {} to {destination} stands by with metric {}: ours is used",
                foreign.protocol, foreign.metric
            );
        }
        self.said_shadowed.clone_from(&left.shadowed);
        if self.said.as_ref() != Some(&report) {
            let text = serde_json::to_string_pretty(&report).map_err(Error::Render)?;
            self.run_dir.write_status(&(text + "\n"))?;
            log_news(self.said.as_ref(), &report);
            self.said = Some(report);
        }
        Ok(())
    }
}

/// Turns on forwarding for the families of the claims that count. Returns what went wrong.
fn turn_on_forwarding(judged: &[Judged], observed: &Observed) -> Option<String> {
    let counts = |judged: &&Judged| !matches!(judged.verdict, Verdict::Refused(_));
    let mut families = Families::default();
    for judged in judged.iter().filter(counts) {
        families.ipv4 |= judged.claim.cidr.is_ipv4();
        families.ipv6 |= judged.claim.cidr.is_ipv6();
    }
    match forwarding::turn_on(families, observed) {
        Ok(written) => {
            for key in written {
                info!("turned on {key}");
            }
            None
        }
        Err(problem) => Some(format!("forwarding cannot be turned on: {problem}")),
    }
}

fn log_news(before: Option<&Report>, now: &Report) {
    let is_new = |problem: &&String| !before.is_some_and(|old| old.problems.contains(problem));
    for problem in now.problems.iter().filter(is_new) {
        error!("{problem}");
    }
    let said: BTreeSet<_> =
        before.iter().flat_map(|report| &report.routes).map(Row::words).collect();
    for row in now.routes.iter().filter(|row| !said.contains(&row.words())) {
        if row.state.is_ok() {
            debug!("{}", row.words());
        } else {
            warn!("{}", row.words());
        }
    }
}
