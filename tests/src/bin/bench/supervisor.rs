//! The process that people start: it has another one measure, and cleans up after it.
//!
//! Namespaces are held by the worker's descriptors and go with it. Its files are in one folder,
//! which this process removes.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Child, Command, ExitCode};

use cbr0_tests::error::Context;
use cbr0_tests::require;
use cbr0_tests::{LabError, Result};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::wait;
use nix::unistd::Pid;

use crate::say;

/// Measures from beginning to end.
pub(crate) fn run() -> Result<ExitCode> {
    if !require::is_root()? {
        return Err(LabError::Wrong(
            "the bench makes network namespaces: run it as root".to_owned(),
        ));
    }
    let signals = block_signals()?;
    let folder = tempfile::Builder::new().prefix("cbr0-bench-").tempdir();
    let folder = folder.context(|| "make a temporary folder".to_owned())?;
    // Whoever outlives the worker becomes a child of this process.
    prctl::set_child_subreaper(true).context(|| "become a subreaper".to_owned())?;

    let mut command = Command::new("/proc/self/exe");
    command.arg0("bench").args(["--supervisor", &process::id().to_string()]);
    // It is asked for the same as this process.
    command.args(env::args_os().skip(1)).env("TMPDIR", folder.path());
    // Its own process group, by which all that it starts can be found. And so Ctrl-C comes to the
    // supervisor alone, which then ends the worker.
    let mut worker =
        command.process_group(0).spawn().context(|| "start the bench's worker".to_owned())?;
    let ended = watch(&mut worker, &signals);
    end_group(&worker);
    folder.close().context(|| "remove the temporary folder".to_owned())?;
    ended
}

fn block_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block().context(|| "block signals".to_owned())?;
    Ok(signals)
}

/// Waits for the worker's end, or for a signal to end it.
fn watch(worker: &mut Child, signals: &SigSet) -> Result<ExitCode> {
    loop {
        match signals.wait().context(|| "wait for a signal".to_owned())? {
            Signal::SIGCHLD => {
                let ended =
                    worker.try_wait().context(|| "wait for the bench's worker".to_owned())?;
                if let Some(status) = ended {
                    let code = status.code().and_then(|code| u8::try_from(code).ok());
                    return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
                }
            }
            signal => {
                say(&format!("bench: {signal}, removing everything"));
                return Ok(ExitCode::from(128 + signal as u8));
            }
        }
    }
}

/// Kills what is left of the worker and of all that it started, and waits until it is gone.
fn end_group(worker: &Child) {
    if let Ok(group) = i32::try_from(worker.id()) {
        // Nobody may be left.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    while !matches!(wait(), Err(Errno::ECHILD)) {}
}
