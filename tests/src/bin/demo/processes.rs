//! Processes that outlive the one that started them: recorded so that they can be ended later, and
//! nobody else in their place.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one with the same number by the time it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    /// In clock ticks since boot: field 22 of `/proc/PID/stat`.
    started: u64,
}

impl Process {
    /// The process that has this number now, unless it has ended.
    pub(crate) fn running(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = state_and_start(&stat)?;
        (state != "Z").then_some(Process { pid, started })
    }

    /// Writes it down.
    pub(crate) fn record(self, file: &Path) -> Result<()> {
        let text = format!("{} {}\n", self.pid, self.started);
        fs::write(file, text).context(|| format!("write {}", file.display()))
    }

    /// Reads what [`Process::record`] wrote; `None` if the writer was killed over it.
    pub(crate) fn recorded(file: &Path) -> Result<Option<Self>> {
        let text = fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
        let mut numbers = text.split_whitespace();
        let (pid, started) = (numbers.next(), numbers.next());
        Ok(pid
            .and_then(|pid| pid.parse().ok())
            .zip(started.and_then(|started| started.parse().ok()))
            .map(|(pid, started)| Process { pid, started }))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(self) -> bool {
        Self::running(self.pid) == Some(self)
    }

    /// Its number.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// Asks it to end, and ends it if it does not.
    pub(crate) fn end(self) -> Result<()> {
        for (signal, patience) in
            [(Signal::SIGTERM, Duration::from_secs(3)), (Signal::SIGKILL, Duration::from_secs(10))]
        {
            if !self.is_running() {
                return Ok(());
            }
            match kill(Pid::from_raw(self.pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno).context(|| format!("end process {}", self.pid)),
            }
            if self.ended_within(patience) {
                return Ok(());
            }
        }
        Err(LabError::Timeout {
            what: format!("process {}", self.pid),
            deadline: Duration::from_secs(13),
        })
    }

    /// The process may be another's child by now, so that its end has to be asked for.
    fn ended_within(self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// The fields behind the name, which is in parentheses and may hold anything.
fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    Some((*fields.first()?, fields.get(19)?.parse().ok()?))
}

/// Starts a program and records it *before* it runs: killed in between, we leave nothing behind
/// that nobody knows of. A shell waits for a line, becomes the program when it comes (with the same
/// process number and start time), and ends when we are gone. Returns the file of its output.
pub(crate) fn start_recorded(command: &Command, file: &Path) -> Result<PathBuf> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "read -r go && exec \"$@\" </dev/null", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let log = file.with_extension("log");
    let output = File::create(&log).context(|| format!("make {}", log.display()))?;
    let errors = output.try_clone().context(|| format!("open {}", log.display()))?;
    shell.stdin(Stdio::piped()).stdout(output).stderr(errors);
    let mut child = shell.spawn().context(|| format!("start {name}"))?;
    if let Err(error) = release(&mut child, file) {
        // Its input is closed, so it ends by itself.
        child.wait().context(|| format!("wait for {name}"))?;
        return Err(error);
    }
    Ok(log)
}

fn release(child: &mut Child, file: &Path) -> Result<()> {
    let gone = || io::Error::other("it has ended already");
    // Taken, so that the pipe closes on every way out.
    let mut line =
        child.stdin.take().ok_or_else(gone).context(|| "write to a new process".to_owned())?;
    let process = i32::try_from(child.id()).ok().and_then(Process::running);
    process.ok_or_else(gone).context(|| "record a new process".to_owned())?.record(file)?;
    line.write_all(b"go\n").context(|| "write to a new process".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let fields: Vec<String> = (4..=30).map(|number| number.to_string()).collect();
        let stat = format!("17 (a) (b) S {}", fields.join(" "));
        assert_eq!(state_and_start(&stat), Some(("S", 22)));
    }

    #[test]
    fn a_recorded_process_is_ended_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tail");
        let mut command = Command::new("tail");
        command.args(["-f", "/dev/null"]);
        start_recorded(&command, &file).unwrap();
        let process = Process::recorded(&file).unwrap().unwrap();
        assert!(process.is_running());
        // The same number, another start: somebody else's.
        let other = Process { started: process.started + 1, ..process };
        other.end().unwrap();
        assert!(process.is_running());
        process.end().unwrap();
        assert!(!process.is_running());
    }
}
