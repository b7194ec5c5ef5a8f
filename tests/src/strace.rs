//! Plugins under `strace`: which system calls they make, and what becomes of them when one fails or
//! is the last.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use crate::error::{Context, LabError, Result};
use crate::node::Node;
use crate::plugin::{Answer, Call};
use crate::require::{self, Part};
use crate::uml;

/// `strace`, where it is.
#[derive(Debug, Clone)]
pub struct Strace {
    program: PathBuf,
}

/// One system call among all of a process: the `turn`th of its name, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syscall {
    /// Its name.
    pub name: String,
    /// Which of its name.
    pub turn: usize,
}

impl Strace {
    /// `None` when the test that asks must end.
    ///
    /// # Errors
    /// It is required, and not there.
    pub fn find() -> Result<Option<Self>> {
        Ok(require::part(Part::Strace)?.map(|program| Strace { program }))
    }

    /// Runs a call; the programs that it executed, itself the first.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn programs(&self, call: Call, host: &Node) -> Result<(Answer, Vec<PathBuf>)> {
        let (answer, trace) = self.trace(call, host, "execve")?;
        let executed = trace.lines().filter(|line| line.ends_with("= 0"));
        let program = |line: &str| line.split('"').nth(1).map(PathBuf::from);
        Ok((answer, executed.filter_map(program).collect()))
    }

    /// Runs a call; the system calls that it made once it was executed, in their order.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn syscalls(&self, call: Call, host: &Node) -> Result<(Answer, Vec<Syscall>)> {
        let (answer, names) = self.names(call, host)?;
        let mut syscalls = Vec::<Syscall>::new();
        for name in names {
            let before = syscalls.iter().filter(|syscall| syscall.name == name).count();
            syscalls.push(Syscall { name, turn: before + 1 });
        }
        syscalls.retain(|syscall| syscall.name != "execve");
        Ok((answer, syscalls))
    }

    /// As [`Strace::syscalls`], to make a case of each. In user-mode Linux, where a case takes a
    /// hundred times as long, those alone that ask the kernel or the file system to change something:
    /// what lies between two of them changes nothing.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn cases(&self, call: Call, host: &Node) -> Result<(Answer, Vec<Syscall>)> {
        let (answer, mut syscalls) = self.syscalls(call, host)?;
        if uml::is_inside() {
            syscalls.retain(|syscall| CHANGES.contains(&syscall.name.as_str()));
        }
        Ok((answer, syscalls))
    }

    /// Runs a call; the names of the system calls that it made in their order, its execution first.
    /// One that the kernel starts again, as it does with settings while the lock of all links is
    /// somebody else's, is one.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn names(&self, call: Call, host: &Node) -> Result<(Answer, Vec<String>)> {
        let (answer, trace) = self.log(call, host)?;
        let done = trace.lines().filter(|line| !line.ends_with("(To be restarted)"));
        Ok((answer, done.filter_map(syscall_name).map(str::to_owned).collect()))
    }

    /// Runs a call; all that `strace` tells of it.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn log(&self, call: Call, host: &Node) -> Result<(Answer, String)> {
        self.trace(call, host, "all")
    }

    /// Runs a call until this system call, instead of which it is killed.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn kill_at(&self, syscall: &Syscall, call: Call, host: &Node) -> Result<Answer> {
        self.inject(syscall, "signal=KILL", call, host)
    }

    /// Runs a call in which this system call fails with an error such as `ENOMEM`.
    ///
    /// # Errors
    /// The call cannot be run.
    pub fn fail_at(
        &self,
        syscall: &Syscall,
        errno: &str,
        call: Call,
        host: &Node,
    ) -> Result<Answer> {
        self.inject(syscall, &format!("error={errno}"), call, host)
    }

    fn inject(&self, syscall: &Syscall, what: &str, call: Call, host: &Node) -> Result<Answer> {
        let Syscall { name, turn } = syscall;
        let inject = format!("inject={name}:{what}:when={turn}");
        self.run(call, host, &["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject])
    }

    fn trace(&self, call: Call, host: &Node, what: &str) -> Result<(Answer, String)> {
        let file = tempfile::NamedTempFile::new().context(|| "make a temporary file".to_owned())?;
        let path = file.path().to_string_lossy().into_owned();
        let answer = self.run(call, host, &["-o", &path, "-e", &format!("trace={what}")])?;
        let trace = fs::read_to_string(&path).context(|| format!("read {path}"))?;
        Ok((answer, trace))
    }

    fn run(&self, call: Call, host: &Node, options: &[&str]) -> Result<Answer> {
        self.wrap(call, options).run(host)
    }

    /// The call under `strace` with these options.
    pub(crate) fn wrap(&self, call: Call, options: &[&str]) -> Call {
        let program = self.program.to_string_lossy();
        let words =
            [&*program, "-f", "-qq"].into_iter().chain(options.iter().copied()).chain(["--"]);
        call.under(words)
    }
}

/// Runs a case for each system call, a few at a time. Each must have a scene of its own.
///
/// # Errors
/// The first that a case ends with.
pub fn for_each(syscalls: &[Syscall], case: impl Fn(&Syscall) -> Result<()> + Sync) -> Result<()> {
    let waiting = Mutex::new(syscalls.iter());
    let next = || waiting.lock().ok()?.next();
    let worker = || std::iter::from_fn(next).try_for_each(&case);
    let count = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| LabError::Wrong("a worker thread died".to_owned()))?
        })
    })
}

/// System calls by which a plugin changes links, addresses, settings and reservations.
const CHANGES: [&str; 7] = ["sendto", "sendmsg", "linkat", "rename", "unlink", "ioctl", "write"];

/// System calls that name a file (the class `file` of `strace`), but for executions.
const FILES: [&str; 28] = [
    "access",
    "chdir",
    "chmod",
    "creat",
    "faccessat",
    "faccessat2",
    "link",
    "linkat",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "readlink",
    "readlinkat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "stat",
    "statfs",
    "statx",
    "symlinkat",
    "truncate",
    "unlink",
    "unlinkat",
];

/// Whether a system call of this name names a file, other than to execute it.
pub fn names_a_file(syscall: &str) -> bool {
    FILES.contains(&syscall)
}

/// The system call of a line such as `4711 openat(AT_FDCWD, "/etc") = 3`; `None` if it tells of
/// something else.
pub fn syscall_name(line: &str) -> Option<&str> {
    let (_pid, call) = line.split_once(' ')?;
    let (name, _) = call.trim_start().split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_calls_only() {
        assert_eq!(syscall_name("47 openat(AT_FDCWD, \"/etc\") = 3"), Some("openat"));
        assert_eq!(syscall_name("47 poll([{fd=4}], 1, 0 <unfinished ...>"), Some("poll"));
        assert_eq!(syscall_name("47 <... poll resumed>) = 1"), None);
        assert_eq!(syscall_name("47 +++ exited with 0 +++"), None);
        assert_eq!(syscall_name("47 --- SIGCHLD {si_signo=SIGCHLD} ---"), None);
    }
}
