//! Plugins that stand still behind one of their system calls, so that others can come in between.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use crate::error::{Context, LabError, Result};
use crate::node::Node;
use crate::plugin::{Answer, Call};
use crate::process::Finished;
use crate::strace::{Strace, Syscall};
use crate::wait;

/// Longer than any plugin takes to get somewhere.
const DEADLINE: Duration = Duration::from_secs(60);

/// A call that is under way.
#[derive(Debug)]
pub struct Paused {
    /// `strace`; none when all is done.
    child: Option<Child>,
    /// The plugin, if it stands still.
    stopped: Option<Pid>,
    story: Story,
}

/// What `strace` tells, while it does.
#[derive(Debug)]
struct Story {
    pipe: File,
    _folder: TempDir,
}

impl Strace {
    /// Starts a call, which stops when it has made this system call. One that makes fewer of its name
    /// comes to its end.
    ///
    /// # Errors
    /// The call cannot be started, or neither stops nor ends.
    pub fn pause_behind(&self, syscall: &Syscall, call: Call, host: &Node) -> Result<Paused> {
        let folder = TempDir::new().context(|| "make a temporary folder".to_owned())?;
        let path = folder.path().join("story");
        mkfifo(&path, Mode::S_IRWXU).context(|| format!("make {}", path.display()))?;
        let pipe = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let pipe = pipe.context(|| format!("open {}", path.display()))?;
        let Syscall { name, turn } = syscall;
        let (trace, inject) =
            (format!("trace={name}"), format!("inject={name}:signal=STOP:when={turn}"));
        let path = path.to_string_lossy();
        let call = self.wrap(call, &["-o", &path, "-e", &trace, "-e", &inject]);
        let child = host.netns().run(|| start(&call))??;
        let mut paused =
            Paused { child: Some(child), stopped: None, story: Story { pipe, _folder: folder } };
        paused.stopped = paused.story.read_to("stopped by SIGSTOP")?;
        Ok(paused)
    }
}

impl Paused {
    /// Whether it stands still now, and has not come to its end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Lets it go on to its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn resume(mut self) -> Result<Answer> {
        if let Some(plugin) = self.stopped.take() {
            kill(plugin, Signal::SIGCONT).context(|| "continue a plugin".to_owned())?;
            self.story.read_to_end()?;
        }
        let ended = || LabError::Wrong("a call was continued twice".to_owned());
        let child = self.child.take().ok_or_else(ended)?;
        let output = child.wait_with_output().context(|| "wait for a plugin".to_owned())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(Answer::from(Finished { status: output.status, stdout, stderr }))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Only when a test has failed: `strace` ends when what it follows does.
        if let Some(plugin) = self.stopped {
            let _ = kill(plugin, Signal::SIGKILL);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Story {
    /// Reads to the line that has these words; the process that it is about. `None` at the end.
    fn read_to(&mut self, words: &str) -> Result<Option<Pid>> {
        let mut told = String::new();
        loop {
            let found = told.lines().find(|line| line.contains(words));
            if let Some(line) = found {
                let process = line.split(' ').next().and_then(|number| number.parse().ok());
                let process: Option<i32> = process;
                let wrong = || LabError::Wrong(format!("strace told {line:?}"));
                return process.map(|process| Some(Pid::from_raw(process))).ok_or_else(wrong);
            }
            match self.more()? {
                Some(more) => told.push_str(&more),
                None => return Ok(None),
            }
        }
    }

    fn read_to_end(&mut self) -> Result<()> {
        while self.more()?.is_some() {}
        Ok(())
    }

    /// What is told next; `None` at the end.
    fn more(&mut self) -> Result<Option<String>> {
        let until = Instant::now() + DEADLINE;
        let mut bytes = [0; 4096];
        loop {
            if !wait::readable(&self.pipe, until)? {
                let what = "a plugin under strace".to_owned();
                return Err(LabError::Timeout { what, deadline: DEADLINE });
            }
            match self.pipe.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    return Ok(Some(String::from_utf8_lossy(&bytes[..count]).into_owned()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context(|| "read from strace".to_owned()),
            }
        }
    }
}

/// Starts a call and gives it its input, which fits into a pipe.
fn start(call: &Call) -> Result<Child> {
    let mut child = call
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| "start a plugin under strace".to_owned())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(call.input()).context(|| "give a plugin its input".to_owned())?;
    }
    Ok(child)
}
