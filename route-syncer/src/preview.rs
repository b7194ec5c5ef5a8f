//! `diff` and `run --dry-run`: what the daemon would do, in words. The decision is the daemon's own;
//! nothing is written, neither to the kernel nor to files nor to the source.

use std::io::{self, Write};

use ipnetwork::IpNetwork;
use kernel::Rtnl;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::commands::commands;
use crate::decision;
use crate::desired::Desired;
use crate::error::Error;
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::observed::Observed;
use crate::off_link::{OffLink, OffLinkNodes};
use crate::roster::Roster;
use crate::run_dir::RunDir;
use crate::settings::Settings;
use crate::source::{Source, Update};
use crate::tunnel::words;

/// What stands for no commands at all, where there were some.
const NOTHING: &str = "# nothing to do";

/// What a daemon would know.
struct Preview {
    settings: Settings,
    roster: Roster,
    /// Whether it is known from a list, of this life or the last, what belongs to the cluster.
    informed: bool,
    /// Whether the source has told a complete list.
    listed: bool,
    /// The ranges of the cluster that the source knows.
    told_cidrs: Vec<IpNetwork>,
}

/// The commands by which a daemon that starts now would change the routes; none if there is
/// nothing to do.
///
/// # Errors
/// The source or the kernel cannot be read.
pub async fn difference(mut source: impl Source, settings: Settings) -> Result<Vec<String>, Error> {
    let mut preview = Preview::new(settings)?;
    while !preview.listed {
        if let Some(trouble) = preview.take(source.next().await)? {
            return Err(Error::Source(trouble));
        }
    }
    preview.commands()
}

/// Tells the commands whenever they change, until told to stop.
///
/// # Errors
/// It cannot start, or hears no more events of the kernel.
pub async fn follow(
    mut source: impl Source,
    settings: Settings,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    let mut monitor = Monitor::open()?;
    info!("a dry run: nothing is written");
    let mut preview = Preview::new(settings)?;
    let mut told = None;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            update = source.next() => {
                if let Some(trouble) = preview.take(update)? {
                    error!("the source is broken, the last good list of nodes is kept: {trouble}");
                }
            }
            events = monitor.next() => {
                events?;
            }
        }
        let commands = preview.commands()?;
        if told.as_ref() != Some(&commands) && tell(&commands, out).is_err() {
            // Whoever closed the pipe has read enough.
            return Ok(());
        }
        told = Some(commands);
    }
}

fn tell(commands: &[String], out: &mut impl Write) -> io::Result<()> {
    let text = if commands.is_empty() { NOTHING.to_owned() } else { commands.join("\n") };
    writeln!(out, "{text}")?;
    out.flush()
}

impl Preview {
    fn new(settings: Settings) -> Result<Self, Error> {
        let observed = Observed::read(&mut Rtnl::open()?)?;
        let run_dir = RunDir::new(&settings.run_dir);
        let Memory { roster, has_list } =
            Memory::recall(&run_dir, settings.memory.as_deref(), &observed, settings.protocol)?;
        let told_cidrs = Vec::new();
        Ok(Self { settings, roster, informed: has_list, listed: false, told_cidrs })
    }

    /// Takes what the source tells; returns its trouble.
    fn take(&mut self, update: Update) -> Result<Option<crate::source::SourceError>, Error> {
        match update {
            Update::Nodes(list) => {
                for words in list.problems.iter().chain(&list.notes) {
                    info!("{words}");
                }
                self.listed = true;
                self.informed = true;
                self.told_cidrs.clone_from(&list.cluster_cidrs);
                self.roster.take(list, &self.settings.node);
            }
            Update::Remembered(list) => {
                self.informed = true;
                self.told_cidrs.clone_from(&list.cluster_cidrs);
                self.roster.remember(list);
            }
            Update::Broken(trouble) => return Ok(Some(trouble)),
            Update::Refused(trouble) => return Err(Error::Source(trouble)),
        }
        Ok(None)
    }

    fn commands(&self) -> Result<Vec<String>, Error> {
        let mut observed = Observed::read(&mut Rtnl::open()?)?;
        let (told, none) = (&self.told_cidrs, Desired::default());
        let judged = decision::judge_all(&self.roster, told, &none, &observed, &self.settings);
        if let Some(nodes) = OffLinkNodes::of(&judged)
            && self.settings.off_link == OffLink::Fail
        {
            return Err(nodes.into());
        }
        let mut all = words::of_devices(&judged, &mut observed, self.settings.off_link);
        let cluster = decision::cluster_cidrs(&self.settings, &self.told_cidrs);
        let cluster = if self.informed { cluster } else { Vec::new() };
        let desired = decision::desired(&judged, &cluster, &observed, &self.settings);
        let protocol = self.settings.protocol;
        let difference = decision::changes(&desired, &observed, protocol, self.listed);
        all.extend(words::before_routes(&desired, &observed));
        all.extend(commands(&difference, &observed));
        if self.listed {
            all.extend(words::behind_routes(&desired, &observed, self.settings.off_link));
        }
        Ok(all)
    }
}
