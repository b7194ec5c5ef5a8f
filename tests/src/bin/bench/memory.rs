//! The peak of a call's resident memory.
//!
//! What a parent is told at a child's end (`ru_maxrss`) includes the child's moments before its
//! execution, when it still shared the parent's memory: a small program called by a larger one
//! always seems as large. So the kernel's mark of the program itself is read (`VmHWM`), at the last
//! moment at which it is there: `ptrace` stops each process at the beginning of its exit.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use cbr0_tests::Result;
use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Runs a call; the largest peak, in KiB, of its process and of those that this one started. `None`
/// if the process went away unseen.
///
/// # Errors
/// It cannot be run, or not be traced.
pub(crate) fn peak(call: &Call, host: &Node) -> Result<Option<u64>> {
    let mut command = call.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = host.netns().run(|| command.spawn())?;
    let mut child = spawned.context(|| "start a plugin".to_owned())?;
    let stdin = child.stdin.take();
    // It cannot get past its input, which it is given when it is traced.
    seize(Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()))?;
    if let Some(mut pipe) = stdin {
        pipe.write_all(call.input()).context(|| "write to a plugin".to_owned())?;
    }
    follow()
}

/// Traces all threads of a process, and whatever they start from now on.
fn seize(process: Pid) -> Result<()> {
    let options = Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK;
    let mut seized = HashSet::new();
    loop {
        let new: Vec<_> = threads(process).into_iter().filter(|&id| seized.insert(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            match ptrace::seize(thread, options) {
                // Gone meanwhile; or started by one that is traced, and so traced already.
                Err(Errno::ESRCH | Errno::EPERM) => {}
                seized => seized.context(|| format!("trace {process}"))?,
            }
        }
    }
}

fn threads(process: Pid) -> Vec<Pid> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let id = |name: &str| name.parse().ok().map(Pid::from_raw);
    entries.filter_map(|entry| id(&entry.file_name().to_string_lossy())).collect()
}

/// Lets what is traced go on until nothing is left of it; the largest peak that was seen.
fn follow() -> Result<Option<u64>> {
    let mut peak = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(Errno::ECHILD) => return Ok(peak),
            Ok(WaitStatus::PtraceEvent(process, _, event)) => {
                if event == libc::PTRACE_EVENT_EXIT {
                    peak = peak.max(high_water_mark(process));
                }
                go_on(ptrace::cont(process, None))?;
            }
            Ok(WaitStatus::Stopped(process, signal)) => go_on(ptrace::cont(process, signal))?,
            ended => {
                ended.context(|| "wait for what is traced".to_owned())?;
            }
        }
    }
}

/// One that was killed meanwhile cannot go on.
fn go_on(continued: nix::Result<()>) -> Result<()> {
    match continued {
        Err(Errno::ESRCH) => Ok(()),
        continued => continued.context(|| "let a traced process go on".to_owned()),
    }
}

/// In KiB, though it says "kB".
fn high_water_mark(process: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
