//! A machine for a real runtime: its programs at their fixed paths, and nothing of it outside.
//!
//! Debian's packages, unpacked, lie over the real root, and over both lies memory, where everything
//! goes that is written. That is so in namespaces (mount, PID, network, cgroup) that end with the
//! first process of the machine, which ends with this value or with the process that holds it.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use kernel::NetNs;

use crate::bins;
use crate::error::{Context, LabError, Result};
use crate::node::Node;
use crate::{process, wait};

/// Many times what a start or a command takes, even while much else runs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Where what runs in a machine writes its log.
const LOG: &str = "/run/log";

/// A machine, running.
#[derive(Debug)]
pub struct Machine {
    supervisor: Child,
    /// The machine ends when this is closed.
    life: Option<ChildStdin>,
    /// The number of its first process, outside.
    init: String,
}

impl Machine {
    /// Starts one with a folder of packages over its root.
    ///
    /// # Errors
    /// The process may not make namespaces, or the kernel refuses a mount.
    pub fn start(overlay: &Path) -> Result<Self> {
        let overlay = fs::canonicalize(overlay);
        let overlay = overlay.context(|| "find the folder of packages".to_owned())?;
        let mut supervisor = Command::new("sh")
            .args(["-c", include_str!("machine/supervise.sh"), "supervise"])
            .arg(include_str!("machine/init.sh"))
            .arg(overlay)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the tests; the machine ends after them.
            .process_group(0)
            .spawn()
            .context(|| "start a machine".to_owned())?;
        let life = supervisor.stdin.take();
        let stdout = supervisor.stdout.take();
        let mut machine = Machine { supervisor, life, init: String::new() };
        if let Some(stdout) = stdout {
            machine.init = first_line(stdout, "the machine")?;
        }
        Ok(machine)
    }

    /// The number of its first process, outside: by it people enter its namespaces.
    pub fn init(&self) -> &str {
        &self.init
    }

    /// What is at this path inside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Writes a file inside.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, inside: &str, content: &str) -> Result<()> {
        let path = self.path(inside);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, content))
            .context(|| format!("write {inside} of the machine"))
    }

    /// Makes the plugins of a folder the machine's, in place of those it has.
    ///
    /// # Errors
    /// One is not there, or cannot be copied.
    pub fn install(&self, plugins: &Path, names: &[&str]) -> Result<()> {
        for name in names {
            let new = self.path(&format!("/opt/cni/bin/.{name}"));
            let from = plugins.join(name);
            fs::copy(&from, &new)
                .and_then(|_| fs::rename(&new, self.path(&format!("/opt/cni/bin/{name}"))))
                .context(|| format!("install {}", from.display()))?;
        }
        Ok(())
    }

    /// As [`Machine::install`], with the plugins under test.
    ///
    /// # Errors
    /// As [`Machine::install`].
    pub fn install_ours(&self, names: &[&str]) -> Result<()> {
        self.install(&bins::plugin_dir()?, names)
    }

    /// Makes a program of outside one of the machine's.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn install_program(&self, program: &Path) -> Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::copy(program, self.path(&format!("/usr/local/bin/{name}")))
            .context(|| format!("install {}", program.display()))?;
        Ok(())
    }

    /// Its network as a host of the laboratory, whose files are the reservations.
    ///
    /// # Errors
    /// Its namespace cannot be entered.
    pub fn node(&self, name: &str) -> Result<Node> {
        let netns = NetNs::open(Path::new(&format!("/proc/{}/ns/net", self.init)))?;
        Node::with(name, netns, &self.path("/var/lib/cni"))
    }

    /// The network namespace of a process, by its number inside.
    ///
    /// # Errors
    /// It has ended.
    pub fn netns_of(&self, process: &str) -> Result<NetNs> {
        Ok(NetNs::open(&self.path(&format!("/proc/{}/ns/net", process.trim())))?)
    }

    /// A program inside, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        // Into the cgroups too: a namespace of them only says what their names are.
        const INTO_CGROUPS: &str = "for group in /sys/fs/cgroup/cgroup.procs \
            /sys/fs/cgroup/*/cgroup.procs; do [ ! -e $group ] || echo 0 >$group || exit; done; \
            exec \"$@\"";
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init, "--cgroup", "--mount", "--net", "--pid", "--"]);
        command.args(["sh", "-c", INTO_CGROUPS, "sh"]).args(words).current_dir("/");
        command
    }

    /// Runs a program inside to its end, and returns what it prints.
    ///
    /// # Errors
    /// It fails; the message has all that it and the machine's log say.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let what = words.join(" ");
        let finished = match process::run(self.command(words), b"", DEADLINE) {
            Ok(finished) => finished,
            Err(error) => return Err(self.wrong(&format!("{what}: {error}"))),
        };
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        Err(self.wrong(&format!("{what}: {}\n{}", finished.status, finished.stderr)))
    }

    /// Starts a daemon inside, and returns when it says that it serves, as it would say to systemd.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn serve(&self, words: &[&str]) -> Result<Child> {
        const READY: &str = "/run/ready";
        let socket = self.path(READY);
        let _ = fs::remove_file(&socket);
        let ready = UnixDatagram::bind(&socket).context(|| format!("make {READY}"))?;
        let log = File::options().create(true).append(true).open(self.path(LOG));
        let log = log.context(|| format!("open {LOG}"))?;
        let mut command = self.command(words);
        command.env("NOTIFY_SOCKET", READY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = command.spawn().context(|| format!("start {}", words.join(" ")))?;
        if wait::readable(&ready, Instant::now() + DEADLINE)? {
            return Ok(daemon);
        }
        Err(self.wrong(&format!("{} does not serve within {DEADLINE:?}", words.join(" "))))
    }

    fn wrong(&self, what: &str) -> LabError {
        let log = fs::read_to_string(self.path(LOG)).unwrap_or_default();
        LabError::Wrong(format!("{what}\nthe log of the machine:\n{log}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.life.take());
        // It ends by itself now; if it could not be waited for, there would be nobody to tell.
        let _ = self.supervisor.wait();
    }
}

/// The first line that a program prints.
///
/// # Errors
/// It prints none.
pub fn first_line(mut output: impl AsFd + Read, who: &str) -> Result<String> {
    let until = Instant::now() + DEADLINE;
    let mut line = String::new();
    loop {
        if !wait::readable(&output, until)? {
            return Err(LabError::Timeout {
                what: format!("the start of {who}"),
                deadline: DEADLINE,
            });
        }
        let mut byte = [0];
        match output.read(&mut byte).context(|| format!("read the output of {who}"))? {
            1 if byte[0] != b'\n' => line.push(byte[0].into()),
            1 => return Ok(line),
            _ => {
                return Err(LabError::Wrong(format!("{who} ended before it ran, saying {line:?}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::error::Outcome;
    use crate::require;

    /// Nothing of packages is needed for that.
    fn machine() -> Result<Option<(TempDir, Machine)>> {
        if !require::root()? {
            return Ok(None);
        }
        let empty = tempfile::tempdir().context(|| "make a temporary folder".to_owned())?;
        let machine = Machine::start(empty.path())?;
        Ok(Some((empty, machine)))
    }

    #[test]
    fn what_a_machine_writes_is_its_own_and_ends_with_it() -> Outcome {
        let Some((_empty, machine)) = machine()? else { return Ok(()) };
        let own = format!("cbr0-machine-{}", machine.init);
        let file = format!("/etc/{own}");
        machine.write(&file, "here")?;
        assert_eq!(machine.run(&["cat", &file])?, "here");
        assert!(!Path::new(&file).exists());
        let orphan = machine.run(&["sh", "-c", "sleep infinity >/dev/null 2>&1 & echo $!"])?;
        let group = machine.run(&["cat", &format!("/proc/{}/cgroup", orphan.trim())])?;
        assert!(group.lines().all(|line| line.ends_with(":/")), "{group}");
        let supervisor = machine.supervisor.id();
        assert_ne!(groups_of(supervisor)?, "");
        drop(machine);
        assert_eq!(groups_of(supervisor)?, "");
        Ok(())
    }

    /// Other machines come and go meanwhile, which `find` says and survives.
    fn groups_of(supervisor: u32) -> Result<String> {
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-name", &format!("cbr0-machine-{supervisor}")]);
        Ok(process::run(find, b"", DEADLINE)?.stdout)
    }
}
