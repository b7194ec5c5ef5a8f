//! The daemon: one task that owns the routes, and what wakes it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::error::Error;
use crate::monitor::{Event, Monitor};
use crate::off_link::OffLink;
use crate::reconcile::Reconciler;
use crate::run_dir::RunDir;
use crate::serve::{self, answers::Desk, pulse};
use crate::settings::Settings;
use crate::source::{Source, Term};

/// Events come in bursts; what comes within this time after the first is handled with it.
const BURST: Duration = Duration::from_millis(5);
/// Routes that were mended need no look at once. It comes so long after the first of them.
const LOOK: Duration = Duration::from_millis(100);
/// The net below: how often everything is read even if nothing was heard.
const SAFETY: Duration = Duration::from_secs(60);

/// Keeps the routes until told to stop. They stay when it returns, and when it is killed.
///
/// # Errors
/// It cannot start, or hears no more events of the kernel; or nodes behind routers are refused, and
/// there is one.
pub async fn run(mut source: impl Source, settings: Settings) -> Result<(), Error> {
    let run_dir = RunDir::new(&settings.run_dir);
    let _lock = run_dir.lock()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    // Listening comes first: what changes after the kernel was read is an event then.
    let mut monitor = open_monitor(settings.off_link)?;
    info!("node {:?}, routes of protocol {}", settings.node, settings.protocol);
    let address = settings.serve.metrics_listen;
    let mut reconciler = Reconciler::remember(settings, run_dir)?;
    let (mut pulse, hand) = pulse::pulse();
    if let Some(address) = address {
        answer_at(address, hand, source.term(), &reconciler).await?;
    }
    let mut safety = Instant::now() + SAFETY;
    let mut look = None;
    loop {
        pulse.beat();
        let due = [Some(safety), look, reconciler.due().map(Into::into)];
        let due = due.into_iter().flatten().min().unwrap_or(safety);
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            update = source.next() => reconciler.take(update)?,
            // Before the events, which may never end.
            () = sleep_until(due) => {}
            events = monitor.next() => {
                let events = events?;
                if !note(&mut reconciler, &events) {
                    continue;
                }
                if reconciler.mend(&events) {
                    look.get_or_insert_with(|| Instant::now() + LOOK);
                    continue;
                }
                rest_of_burst(&mut monitor, &mut reconciler).await?;
            }
            () = pulse.asked() => continue,
        }
        look = None;
        if safety <= Instant::now() {
            reconciler.distrust();
            safety = Instant::now() + SAFETY;
        }
        reconciler.sync()?;
    }
    info!("stopped; all routes stay");
    Ok(())
}

fn open_monitor(off_link: OffLink) -> Result<Monitor, Error> {
    match off_link {
        OffLink::Vxlan => Monitor::open_with_neighbours(),
        OffLink::Skip | OffLink::Fail => Monitor::open(),
    }
}

/// Answers over HTTP from now on.
async fn answer_at(
    address: SocketAddr,
    hand: pulse::Hand,
    term: Option<Term>,
    reconciler: &Reconciler,
) -> Result<(), Error> {
    let listener = serve::listen(address).await?;
    let desk = Desk::new(hand, reconciler.snapshots(), term, reconciler.meters());
    tokio::spawn(serve::answer(listener, desk));
    Ok(())
}

/// Whether one of the events is a reason to look.
fn note(reconciler: &mut Reconciler, events: &[Event]) -> bool {
    if events.contains(&Event::Overrun) {
        warn!("the kernel had more events than could be held; reading it anew");
        reconciler.meters().overruns.inc();
    }
    if events.contains(&Event::Link) {
        reconciler.hurry();
    }
    if events.iter().any(|event| matches!(event, Event::Host | Event::Overrun)) {
        reconciler.distrust_host();
    }
    events.iter().any(|event| match *event {
        Event::Link | Event::Host | Event::Overrun => true,
        Event::Neighbour(link) => reconciler.has_tunnel(link),
        Event::Route { ref route, gone } => reconciler.concerns(route, gone),
    })
}

async fn rest_of_burst(monitor: &mut Monitor, reconciler: &mut Reconciler) -> Result<(), Error> {
    let end = Instant::now() + BURST;
    while let Ok(events) = timeout_at(end, monitor.next()).await {
        note(reconciler, &events?);
    }
    Ok(())
}
