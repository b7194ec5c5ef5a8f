//! The demo's processes, which must be found again whoever was killed in between.
//!
//! A worker leads a process group, and all that it starts is in this group from birth. So the only
//! processes that are recorded are workers: the first, and one for each change of a kept demo.
//! Nobody else is ever ended: a process is told from a later one with the same number by the time it
//! was started, and a member of the group by the namespace it is in.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::names;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    /// In clock ticks since boot.
    started: u64,
    /// The number of the process that leads its group.
    group: i32,
}

/// What is asked to end first, and what ends without being asked.
const WAYS: [(Signal, Duration); 2] =
    [(Signal::SIGTERM, Duration::from_secs(3)), (Signal::SIGKILL, Duration::from_secs(10))];

impl Process {
    /// The process that has this number now, unless it has ended.
    fn running(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let [state, group, started] = stat_fields(&stat)?;
        let (group, started) = (group.parse().ok()?, started.parse().ok()?);
        (state != "Z").then_some(Process { pid, started, group })
    }

    /// The calling process.
    pub(crate) fn own() -> Result<Self> {
        let own = i32::try_from(std::process::id()).ok().and_then(Self::running);
        own.ok_or_else(|| LabError::Wrong("/proc does not show this process".to_owned()))
    }

    /// Writes it down.
    pub(crate) fn record(self, file: &Path) -> Result<()> {
        let text = format!("{} {} {}\n", self.pid, self.started, self.group);
        fs::write(file, text).context(|| format!("write {}", file.display()))
    }

    /// Reads what [`Process::record`] wrote; `None` if it never did, or was killed over it.
    pub(crate) fn recorded(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.context(|| format!("read {}", file.display()))?,
        };
        let numbers: Vec<_> = text.split_whitespace().collect();
        let [pid, started, group] = numbers[..] else { return Ok(None) };
        let read = || {
            let (pid, group) = (pid.parse().ok()?, group.parse().ok()?);
            Some(Process { pid, started: started.parse().ok()?, group })
        };
        Ok(read())
    }

    /// Whether it still runs.
    fn is_running(self) -> bool {
        Self::running(self.pid) == Some(self)
    }

    /// The living processes of the group that this process leads or led, but for itself: those that
    /// are inside a namespace of the demo.
    pub(crate) fn followers(self) -> Result<Vec<Self>> {
        self.inside(&names::all()?)
    }

    /// Those of the followers that are inside these hosts.
    fn inside(self, hosts: &[String]) -> Result<Vec<Self>> {
        let namespaces: HashSet<_> =
            hosts.iter().filter_map(|name| identity(&names::path(name))).collect();
        let ours = |process: &Process| {
            let netns = identity(&PathBuf::from(format!("/proc/{}/ns/net", process.pid)));
            process.group == self.pid && netns.is_some_and(|netns| namespaces.contains(&netns))
        };
        let entries = fs::read_dir("/proc").context(|| "list /proc".to_owned())?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(pids.filter(|pid| *pid != self.pid).filter_map(Self::running).filter(ours).collect())
    }

    /// Ends it, and then all its followers.
    pub(crate) fn end_all(self) -> Result<()> {
        self.end()?;
        // A follower may have started another while it was ended.
        loop {
            let followers = self.followers()?;
            if followers.is_empty() {
                return Ok(());
            }
            followers.into_iter().try_for_each(Self::end)?;
        }
    }

    /// Ends its followers inside one host.
    pub(crate) fn end_inside(self, host: &str) -> Result<()> {
        self.inside(&[host.to_owned()])?.into_iter().try_for_each(Self::end)
    }

    /// Asks it to end, and ends it if it does not.
    fn end(self) -> Result<()> {
        for (signal, patience) in WAYS {
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
        let [(_, asked), (_, told)] = WAYS;
        Err(LabError::Timeout { what: format!("process {}", self.pid), deadline: asked + told })
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

/// `4711 route-syncer run …`, for people.
impl std::fmt::Display for Process {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        write!(out, "{} {}", self.pid, words.collect::<Vec<_>>().join(" ").trim_end())
    }
}

/// State, group and start time (`proc_pid_stat(5)`, fields 3, 5 and 22), behind the name, which is
/// in parentheses and may hold anything.
fn stat_fields(stat: &str) -> Option<[&str; 3]> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    Some([fields.first()?, fields.get(2)?, fields.get(19)?])
}

fn identity(namespace: &Path) -> Option<(u64, u64)> {
    fs::metadata(namespace).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let fields: Vec<String> = (4..=30).map(|number| number.to_string()).collect();
        let stat = format!("17 (a) (b) S {}", fields.join(" "));
        assert_eq!(stat_fields(&stat), Some(["S", "5", "22"]));
    }

    #[test]
    fn a_recorded_process_is_ended_and_no_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new("tail").args(["-f", "/dev/null"]).spawn().unwrap();
        Process::running(child.id() as i32).unwrap().record(file.path()).unwrap();
        let process = Process::recorded(file.path()).unwrap().unwrap();
        // The same number, another start: somebody else's.
        let other = Process { started: process.started + 1, ..process };
        other.end().unwrap();
        assert!(process.is_running());
        process.end().unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn what_is_in_the_group_but_not_in_a_namespace_of_the_demo_is_not_followed() {
        let own = Process::own().unwrap();
        let leader = Process { pid: own.group, ..own };
        assert!(!leader.followers().unwrap().contains(&own));
    }
}
