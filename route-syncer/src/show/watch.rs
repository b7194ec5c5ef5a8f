//! `status --watch`: the answer of `status`, and again whenever it is another.
//!
//! It sleeps until something may have changed: what the daemon says is in files of its folder, the
//! routes make events, and a daemon that starts writes its lock file and one that ends closes it.

use std::io::{self, IsTerminal, Write};

use futures_util::{FutureExt, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::signal::unix::{SignalKind, signal};

use super::{Shown, ask};
use crate::error::Error;
use crate::monitor::Monitor;
use crate::run_dir::{RunDir, RunDirError};

/// Room for several events with the longest name.
const EVENTS: usize = 4096;
/// To the upper left corner, and away with what was there.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The table: in the place of the one before on a terminal, else with an empty line between.
    Table,
    /// A JSON document a line.
    Json,
}

/// Tells the answer, and again whenever it changes, until told to stop.
///
/// # Errors
/// There is nothing to show, or it cannot be watched.
pub async fn follow(run_dir: &RunDir, form: Form, out: &mut impl Write) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    // Listening comes first: what changes after the first answer is an event then.
    let mut files = files(run_dir)?;
    let mut monitor = Monitor::open()?;
    let mut told = None;
    loop {
        let text = render(&ask(run_dir)?, form)?;
        if told.as_ref() != Some(&text) && tell(&text, form, told.is_none(), out).is_err() {
            // Whoever closed the pipe has read enough.
            return Ok(());
        }
        told = Some(text);
        tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = files.next() => while let Some(Some(_)) = files.next().now_or_never() {},
            events = monitor.next() => drop(events?),
        }
    }
}

fn files(run_dir: &RunDir) -> Result<EventStream<[u8; EVENTS]>, Error> {
    let events =
        WatchMask::MOVED_TO | WatchMask::DELETE | WatchMask::MODIFY | WatchMask::CLOSE_WRITE;
    let watch = || {
        let inotify = Inotify::init()?;
        inotify.watches().add(run_dir.folder(), events)?;
        inotify.into_event_stream([0; EVENTS])
    };
    watch().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoStatus,
        _ => RunDirError::Io { path: run_dir.folder().into(), what: "watch it", source }.into(),
    })
}

fn render(shown: &Shown, form: Form) -> Result<String, Error> {
    match form {
        Form::Table => Ok(shown.table()),
        Form::Json => Ok(serde_json::to_string(shown).map_err(Error::Render)? + "\n"),
    }
}

fn tell(text: &str, form: Form, is_first: bool, out: &mut impl Write) -> io::Result<()> {
    let before = match form {
        Form::Json => "",
        Form::Table if io::stdout().is_terminal() => CLEAR,
        Form::Table if is_first => "",
        Form::Table => "\n",
    };
    write!(out, "{before}{text}")?;
    out.flush()
}
