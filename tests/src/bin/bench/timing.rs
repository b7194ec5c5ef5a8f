//! How long a call takes, as the caller sees it.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::{LabError, Result};
use nix::errno::Errno;
use nix::sys::wait::wait;

use crate::watch::{self, Watch};

/// What a timed call left.
pub(crate) struct Timed {
    /// When the plugin was started.
    pub(crate) begun: Instant,
    /// When it had ended and nobody held its output any more: runtimes wait for both.
    pub(crate) ended: Instant,
    /// What it printed.
    pub(crate) stdout: String,
}

impl Timed {
    /// How long it took.
    pub(crate) fn milliseconds(&self) -> f64 {
        milliseconds(self.ended - self.begun)
    }
}

/// A time as the tables show it.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs a call inside the host, and then waits for what it left running.
///
/// # Errors
/// It cannot be run, or fails.
pub(crate) fn time(call: &Call, host: &Node) -> Result<Timed> {
    let _watch = Watch::over(command_name(call), watch::CALL);
    let timed = host.netns().run(|| run(call))??;
    settle()?;
    Ok(timed)
}

/// Runs calls at once; their outputs in their order, and the time from the first one's start to the
/// last one's end in milliseconds.
///
/// # Errors
/// One cannot be run, or fails.
pub(crate) fn time_all(calls: &[Call], host: &Node) -> Result<(f64, Vec<String>)> {
    let _watch = calls.first().map(|call| Watch::over(command_name(call), watch::CALL));
    let start = Barrier::new(calls.len());
    let one = |call| {
        host.netns().run(|| {
            start.wait();
            run(call)
        })
    };
    let timed = thread::scope(|scope| {
        let runs: Vec<_> = calls.iter().map(|call| scope.spawn(move || one(call))).collect();
        let died = |_| LabError::Wrong("a thread of the bench died".to_owned());
        runs.into_iter().map(|run| run.join().map_err(died)??).collect::<Result<Vec<Timed>>>()
    })?;
    settle()?;
    let begun = timed.iter().map(|timed| timed.begun).min();
    let ended = timed.iter().map(|timed| timed.ended).max();
    let wall = begun.zip(ended).map_or(Duration::ZERO, |(begun, ended)| ended - begun);
    Ok((milliseconds(wall), timed.into_iter().map(|timed| timed.stdout).collect()))
}

/// What plugins read and print fits into a pipe, so that it needs no threads, which would cost more
/// than they measure.
fn run(call: &Call) -> Result<Timed> {
    let mut command = call.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = || command_name(call);

    let begun = Instant::now();
    let mut child = command.spawn().context(|| format!("start {}", name()))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(call.input()).context(|| format!("write to {}", name()))?;
    }
    let (mut stdout, mut stderr) = (String::new(), String::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut stdout).context(|| format!("read from {}", name()))?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut stderr).context(|| format!("read from {}", name()))?;
    }
    let status = child.wait().context(|| format!("wait for {}", name()))?;
    let ended = Instant::now();

    if status.success() {
        Ok(Timed { begun, ended, stdout })
    } else {
        Err(LabError::Wrong(format!("{} ended with {status}: {stdout}{stderr}", name())))
    }
}

fn command_name(call: &Call) -> String {
    call.command().get_program().to_string_lossy().into_owned()
}

/// Waits for what calls have left running, which is now this process's: it must not slow down the
/// next one.
fn settle() -> Result<()> {
    loop {
        match wait() {
            Err(Errno::ECHILD) => return Ok(()),
            ended => ended.context(|| "wait for what a plugin left running".to_owned())?,
        };
    }
}
