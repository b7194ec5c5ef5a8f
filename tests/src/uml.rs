//! Test executables inside Debian's user-mode Linux: another kernel than the machine's, with kinds of
//! links that test machines lack.
//!
//! It boots in two seconds, on the machine's own files, which it cannot change. What it writes, and
//! its memory, is in a tmpfs of a mount namespace, and its processes are in a PID namespace: the
//! kernel takes both away when the thread that runs it ends, in whatever way.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Context, LabError, Result};
use crate::process::{self, Finished};
use crate::require::{self, Part};

/// The tmpfs, inside and outside. A short path, since a socket's has at most 107 characters; what is
/// below it on the machine cannot be seen.
const LAB: &str = "/mnt";

/// What tests may ask for that this kernel has not; a skip for want of anything else is a mistake.
const LACKS: [&str; 1] = ["nf_tables"];

/// Whether this process is inside user-mode Linux, where [`Uml::run`] has started it.
pub fn is_inside() -> bool {
    env::var_os("CBR0_INSIDE_UML").is_some()
}

/// User-mode Linux, where it is.
#[derive(Debug, Clone)]
pub struct Uml {
    /// The folder of Debian's packages, unpacked.
    debian: PathBuf,
}

/// What became of a program inside.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
    /// What [`require`] wrote to `CBR0_SKIP_LOG`, a line a test.
    pub skipped: String,
}

/// How a program inside ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this exit code, as a shell tells it (128 and more: by a signal).
    Exited(i32),
    /// It did not, within this time.
    Hung(Duration),
    /// The kernel panicked; what it said first.
    Panicked(String),
    /// User-mode Linux ended before it did; what was on the console.
    Died(ExitStatus, String),
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(out, "the tests ended with exit code {code}"),
            End::Hung(deadline) => write!(out, "the tests did not end within {deadline:?}"),
            End::Panicked(reason) => write!(out, "the kernel under the tests panicked: {reason}"),
            End::Died(status, console) => {
                write!(out, "user-mode Linux ended ({status}) before the tests did:\n{console}")
            }
        }
    }
}

impl Ran {
    /// The tests that skipped themselves although this kernel has what they need.
    pub fn needless_skips(&self) -> impl Iterator<Item = &str> {
        self.skipped.lines().filter(|line| !LACKS.iter().any(|part| is_skip_for(line, part)))
    }
}

/// Of a line such as `SKIPPED bridge::keys::hairpin: no nf_tables: the kernel has none`.
fn is_skip_for(line: &str, part: &str) -> bool {
    line.split(": ").nth(1) == Some(&format!("no {part}"))
}

impl Uml {
    /// `None` when the test that asks must end.
    ///
    /// # Errors
    /// It is required, and not there; so for root, which its namespaces need.
    pub fn find() -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        Ok(require::part(Part::Uml)?.map(|debian| Uml { debian }))
    }

    /// Boots, runs `program` inside to its end, and ends. Of the environment here the program sees
    /// `PATH` and what begins with `CBR0_` or `RUST_`, besides what is set for it.
    ///
    /// # Errors
    /// It could not be tried. All that happens inside is in what is returned.
    pub fn run(&self, program: &Command, deadline: Duration) -> Result<Ran> {
        let here = env::current_dir().context(|| "find the current folder".to_owned())?;
        let call = call(program, &here)?;
        // Namespaces are a thread's, and so is the signal that its end sends to its child.
        let run = || {
            mount_lab()?;
            self.furnish(&call)?;
            let finished = process::run(self.command(), b"", deadline);
            Ok(Ran {
                end: ended(finished, deadline)?,
                output: read("output")?,
                errors: read("errors")?,
                skipped: read("skipped")?,
            })
        };
        thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|_| Err(LabError::Wrong("the thread of user-mode Linux died".into())))
    }

    fn furnish(&self, call: &str) -> Result<()> {
        let debian = fs::canonicalize(&self.debian);
        let debian = debian.context(|| format!("find {}", self.debian.display()))?;
        let link = Path::new(LAB).join("debian");
        symlink(debian, &link).context(|| format!("make {}", link.display()))?;
        for (name, content) in [("init.sh", include_str!("uml/init.sh")), ("call", call)] {
            let path = Path::new(LAB).join(name);
            fs::write(&path, content).context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(["unshare", "--pid", "--fork", "--kill-child", "--"]);
        // A kernel that panics aborts, which the first process of a PID namespace cannot.
        command.args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"]);
        command.arg(self.debian.join("usr/bin/linux.uml"));
        command.args(["mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]);
        command.args(["quiet", "con=null", "con0=null,fd:1", &format!("uml_dir={LAB}")]);
        command.arg(format!("init={LAB}/debian/bin/busybox"));
        command.args(["--", "sh", &format!("{LAB}/init.sh")]);
        command.env("TMPDIR", LAB);
        // What the processors of this machine have more than that kernel knows.
        command.env("LD_PRELOAD", self.debian.join("usr/lib/uml/xstate.so"));
        command
    }
}

/// Covers the folder with a tmpfs that this thread and its children alone see.
fn mount_lab() -> Result<()> {
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(nothing, "/", nothing, private, nothing))
        .and_then(|()| mount(nothing, LAB, Some("tmpfs"), MsFlags::empty(), nothing))
        .context(|| format!("mount a tmpfs on {LAB}"))
}

fn ended(finished: Result<Finished>, deadline: Duration) -> Result<End> {
    let finished = match finished {
        Err(LabError::Timeout { .. }) => return Ok(End::Hung(deadline)),
        finished => finished?,
    };
    if let Ok(code) = read("status")?.trim_end().parse() {
        return Ok(End::Exited(code));
    }
    let console = finished.stdout + &finished.stderr;
    let panic = console.lines().find_map(|line| line.split_once("Kernel panic - "));
    Ok(match panic {
        Some((_, reason)) => End::Panicked(reason.to_owned()),
        None => End::Died(finished.status, console),
    })
}

/// A file that was written inside; empty if it was not.
fn read(name: &str) -> Result<String> {
    let path = Path::new(LAB).join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).context(|| format!("read {}", path.display())),
    }
}

/// The variables that go inside: those of the project and of Rust, and where programs are.
fn is_for_tests(name: &str) -> bool {
    name == "PATH"
        || name != "CBR0_SKIP_LOG" && (name.starts_with("CBR0_") || name.starts_with("RUST_"))
}

/// What the shell inside reads: the environment, the folder, and the program as its arguments.
fn call(program: &Command, here: &Path) -> Result<String> {
    let mut script = String::new();
    let inherited = env::vars().filter(|(name, _)| is_for_tests(name));
    for (name, value) in inherited {
        script += &format!("export {name}={}\n", quoted(OsStr::new(&value))?);
    }
    for (name, value) in program.get_envs() {
        let name = name.to_string_lossy();
        script += &match value {
            Some(value) => format!("export {name}={}\n", quoted(value)?),
            None => format!("unset {name}\n"),
        };
    }
    let folder = program.get_current_dir().unwrap_or(here);
    script += &format!("cd {}\nset --", quoted(folder.as_os_str())?);
    for word in [program.get_program()].into_iter().chain(program.get_args()) {
        script += &format!(" {}", quoted(word)?);
    }
    Ok(script + "\n")
}

/// A word for the shell, whatever is in it.
fn quoted(word: &OsStr) -> Result<String> {
    let text = word.to_str().ok_or_else(|| LabError::Wrong(format!("{word:?} is no UTF-8")))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_the_shell() {
        let mut program = Command::new("/bin/a test");
        program.arg("it's $HOME").env("A", "\"b\"\n").env_remove("B").current_dir("/x y");
        let call = call(&program, Path::new("/")).unwrap();
        let script = format!("cd() {{ echo \"cd $1\"; }}\n{call}echo \"$A\"; printf '<%s>' \"$@\"");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]);
        let finished = process::run(shell, b"", Duration::from_secs(60)).unwrap();
        assert_eq!(finished.stdout, "cd /x y\n\"b\"\n\n</bin/a test><it's $HOME>");
    }

    #[test]
    fn only_skips_for_what_this_kernel_lacks_are_in_order() {
        let excused = "SKIPPED bridge::a: no nf_tables: the kernel has none";
        let needless = "SKIPPED bridge::b: no vlan: the kernel refuses nf_tables and vlan";
        let skipped = format!("{excused}\n{needless}\n");
        let (output, errors) = (String::new(), String::new());
        let ran = Ran { end: End::Exited(0), output, errors, skipped };
        assert_eq!(ran.needless_skips().collect::<Vec<_>>(), [needless]);
    }
}
