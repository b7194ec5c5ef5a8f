//! The process that people start: it has the demo built by another, and cleans up after it.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Child, Command, ExitCode, ExitStatus};

use cbr0_tests::error::Context;
use cbr0_tests::require;
use cbr0_tests::{LabError, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::state::{self, State};
use crate::{Plan, say};

/// How the worker ended.
enum End {
    Exited(ExitStatus),
    Interrupted(Signal),
}

/// Runs a demo from its beginning to its end.
pub(crate) fn run(plan: Plan) -> Result<ExitCode> {
    let signals = begin()?;
    let state = State::claim()?;
    if state::is_kept() {
        return Err(LabError::Wrong(
            "a demo is being kept: look at it with \"demo status\", remove it with \"demo down\""
                .to_owned(),
        ));
    }
    if !state.has_leftovers()? {
        return supervise(state, plan, &signals);
    }
    say("demo: removing what a demo left that was killed");
    state.remove_everything()?;
    supervise(State::claim()?, plan, &signals)
}

/// Has a demo changed that was kept. It stays, whatever becomes of the change.
pub(crate) fn change() -> Result<ExitCode> {
    let signals = begin()?;
    let nothing =
        || LabError::Wrong("there is no demo to change: start one with \"demo --keep\"".to_owned());
    if !state::is_kept() {
        return Err(nothing());
    }
    let state = State::claim()?;
    // Its end may have come just before.
    if !state::is_kept() {
        state.remove_everything()?;
        return Err(nothing());
    }
    let code = match work(&signals)? {
        End::Exited(status) => exit_code(status),
        End::Interrupted(signal) => {
            say(&format!("demo: {signal}"));
            interrupted(signal)
        }
    };
    if code != ExitCode::SUCCESS {
        say("demo: what there is stays, for you to look at; \"demo down\" removes it");
    }
    Ok(code)
}

/// Asks for the right to do all that. From here on, signals are only taken where they are waited
/// for.
fn begin() -> Result<SigSet> {
    if !require::is_root()? {
        return Err(LabError::Wrong(
            "the demo makes network namespaces: run it as root".to_owned(),
        ));
    }
    block_signals()
}

fn supervise(state: State, plan: Plan, signals: &SigSet) -> Result<ExitCode> {
    let ended = state.prepare().and_then(|()| work(signals));
    let (code, holds) = match &ended {
        Ok(End::Exited(status)) => (exit_code(*status), status.success()),
        Ok(End::Interrupted(signal)) => {
            say(&format!("demo: {signal}, removing everything"));
            (interrupted(*signal), false)
        }
        Err(_) => (ExitCode::FAILURE, false),
    };
    if holds && plan.keep {
        state.keep()?;
    } else {
        state.remove_everything()?;
    }
    ended.map(|_| code)
}

fn interrupted(signal: Signal) -> ExitCode {
    ExitCode::from(128 + signal as u8)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => {
            say(&format!("demo: the process that did the work died: {status}"));
            ExitCode::FAILURE
        }
    }
}

fn block_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block().context(|| "block signals".to_owned())?;
    Ok(signals)
}

fn work(signals: &SigSet) -> Result<End> {
    let mut worker = start_worker()?;
    let ended = wait(&mut worker, signals);
    // On every way out: with the worker alive, nothing could be removed for good.
    let _ = worker.kill();
    let status = worker.wait().context(|| "wait for the demo's worker".to_owned())?;
    Ok(ended?.map_or(End::Exited(status), End::Interrupted))
}

fn start_worker() -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("demo").args(["worker", &process::id().to_string(), "--"]);
    // It is asked for the same as this process.
    command.args(env::args_os().skip(1));
    // Its own process group, by which all that it starts can be found. And so Ctrl-C comes to the
    // supervisor alone, which then ends the worker.
    command.process_group(0).spawn().context(|| "start the demo's worker".to_owned())
}

/// The signal that interrupted the demo, or nothing once the worker has ended.
fn wait(worker: &mut Child, signals: &SigSet) -> Result<Option<Signal>> {
    loop {
        match signals.wait().context(|| "wait for a signal".to_owned())? {
            Signal::SIGCHLD => {
                let ended =
                    worker.try_wait().context(|| "wait for the demo's worker".to_owned())?;
                if ended.is_some() {
                    return Ok(None);
                }
            }
            signal => return Ok(Some(signal)),
        }
    }
}
