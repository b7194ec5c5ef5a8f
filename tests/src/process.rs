//! Running a program to its end, with input, a deadline, and all of its output.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, LabError, Result};

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

/// Runs `command`, in the namespace of the calling thread, until its end.
///
/// # Errors
/// It cannot be started, or it (or a child that holds its output) has not ended within `deadline`;
/// it is killed then.
pub fn run(mut command: Command, stdin: &[u8], deadline: Duration) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("start {name}"))?;
    let until = Instant::now() + deadline;
    feed(child.stdin.take(), stdin.to_vec());
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    match (receive(&stdout, until), receive(&stderr, until)) {
        (Some(stdout), Some(stderr)) => {
            // Both outputs are closed, so it has ended or is about to.
            let status = child.wait().context(|| format!("wait for {name}"))?;
            Ok(Finished { status, stdout, stderr })
        }
        _ => {
            end(&mut child, &name)?;
            Err(LabError::Timeout { what: name, deadline })
        }
    }
}

/// A plugin may answer without reading its input: a broken pipe is no failure.
fn feed(pipe: Option<impl Write + Send + 'static>, input: Vec<u8>) {
    if let Some(mut pipe) = pipe {
        thread::spawn(move || pipe.write_all(&input));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe
            && pipe.read_to_end(&mut bytes).is_ok()
        {
            // The receiver is gone only after the deadline.
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        }
    });
    receiver
}

fn receive(output: &Receiver<String>, until: Instant) -> Option<String> {
    output.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

fn end(child: &mut Child, name: &str) -> Result<()> {
    child.kill().context(|| format!("kill {name}"))?;
    child.wait().context(|| format!("wait for {name}"))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_outputs_and_status_arrive() {
        let done =
            run(shell("cat; echo trouble >&2; exit 3"), b"hello", Duration::from_secs(60)).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("hello", "trouble\n"));
        assert_eq!(done.status.code(), Some(3));
    }

    #[test]
    fn input_that_nobody_reads_is_no_failure() {
        let input = vec![b'x'; 1 << 20];
        assert!(run(shell("exit 0"), &input, Duration::from_secs(60)).unwrap().status.success());
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let error = run(shell("exec cat /dev/zero >/dev/null"), b"", Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(&error, LabError::Timeout { .. }), "{error}");
        assert!(error.to_string().contains("/bin/sh"), "{error}");
    }
}
