//! Running another plugin, such as an IPAM (CNI spec, section 4).

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::env::{Env, Verb};
use crate::error::{CniError, Code};
use crate::json::shortened;
use crate::names::check_plugin_type;

/// How often, and how long apart, a program that is being written (ETXTBSY) is tried: an install
/// that copies over the old binary takes less than these five seconds. The kernel has no event
/// for "no writer any more".
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The first regular file of the name `plugin_type` in the folders of CNI_PATH
/// ([`Env::plugin_path`]).
///
/// # Errors
/// Code 7 if the name is a path or empty, or no folder has such a file.
pub fn find(plugin_type: &str, path: &[PathBuf]) -> Result<PathBuf, CniError> {
    check_plugin_type(plugin_type)?;
    path.iter().map(|folder| folder.join(plugin_type)).find(|file| file.is_file()).ok_or_else(
        || {
            let folders: Vec<String> =
                path.iter().map(|folder| folder.display().to_string()).collect();
            // The text is the reference's; tools match it.
            CniError::new(
                Code::InvalidConfig,
                format!("failed to find plugin {plugin_type:?} in path [{}]", folders.join(" ")),
            )
            .with_details("install it in one of these folders, or correct \"type\" or CNI_PATH")
        },
    )
}

/// Runs `program` with this verb and returns what it wrote to stdout.
///
/// It gets the same bytes on stdin, the whole environment of this process with the CNI variables
/// of `env`, and writes to this process's stderr.
///
/// # Errors
/// The plugin's own error, with its code, if it wrote one; else [`Code::Delegate`].
pub fn exec(program: &Path, verb: Verb, env: &Env, stdin: &[u8]) -> Result<Vec<u8>, CniError> {
    let failed = |what: &str, error: io::Error| {
        CniError::new(
            Code::Delegate,
            format!("plugin {}, {}: {what}: {error}", program.display(), verb.as_str()),
        )
    };
    let mut child = spawn(&mut command(program, verb, env), || thread::sleep(BUSY_PAUSE))
        .map_err(|error| failed("cannot be run", error))?;
    let stdout = exchange(&mut child, stdin);
    let status = child.wait().map_err(|error| failed("cannot be waited for", error))?;
    let stdout = stdout.map_err(|error| failed("cannot be talked to", error))?;
    if status.success() {
        return Ok(stdout);
    }
    Err(CniError::parse(&stdout).unwrap_or_else(|| {
        CniError::new(
            Code::Delegate,
            format!(
                "plugin {}, {}: failed ({status}) without a readable error: see its own output",
                program.display(),
                verb.as_str()
            ),
        )
        .with_details(format!("its stdout is {:?}", shortened(&String::from_utf8_lossy(&stdout))))
    }))
}

fn command(program: &Path, verb: Verb, env: &Env) -> Command {
    let mut command = Command::new(program);
    command
        .env("CNI_COMMAND", verb.as_str())
        .env("CNI_CONTAINERID", &env.container_id)
        .env("CNI_NETNS", &env.netns)
        .env("CNI_IFNAME", &env.ifname)
        .env("CNI_ARGS", &env.args)
        .env("CNI_PATH", &env.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if env.netns_override {
        command.env("CNI_NETNS_OVERRIDE", "1");
    } else {
        command.env_remove("CNI_NETNS_OVERRIDE");
    }
    command
}

/// Starts the program, and calls `pause` and tries again while it is being written.
fn spawn(command: &mut Command, mut pause: impl FnMut()) -> io::Result<Child> {
    for _ in 1..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => pause(),
            done => return done,
        }
    }
    command.spawn()
}

/// Writes stdin from a thread of its own while stdout is read: a plugin may fill one pipe before
/// it empties the other.
fn exchange(child: &mut Child, stdin: &[u8]) -> io::Result<Vec<u8>> {
    let (to, from) = (child.stdin.take(), child.stdout.take());
    thread::scope(|scope| {
        let writer = thread::Builder::new().spawn_scoped(scope, move || match to {
            // A plugin that exits without reading closes its end; how it exits is what counts.
            Some(mut to) => match to.write_all(stdin) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
                _ => Ok(()),
            },
            None => Ok(()),
        })?;
        let mut stdout = Vec::new();
        if let Some(mut from) = from {
            from.read_to_end(&mut stdout)?;
        }
        writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))?;
        Ok(stdout)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
