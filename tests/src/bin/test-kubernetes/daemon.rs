//! A program that goes on running on a machine, and its log.

use std::fs;
use std::process::{Child, Stdio};

use cbr0_tests::error::Context as _;
use cbr0_tests::machine::Machine;
use cbr0_tests::{LabError, Result};

/// A program, running on a machine.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
}

/// Runs the words behind its first, which is the name of the files for its number and its log.
const RUN: &str = r#"name=$1; shift; echo $$ >"/run/$name.pid"; exec "$@" >>"/run/$name.log" 2>&1"#;

impl Daemon {
    /// Starts it.
    pub(crate) fn start(machine: &Machine, name: &'static str, words: &[&str]) -> Result<Self> {
        let mut command = machine.command(&with_files(name, words));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context(|| format!("start {name}"))?;
        Ok(Daemon { name, child })
    }

    /// Starts it, and returns when it says that it serves, as it would say to systemd.
    pub(crate) fn serve(machine: &Machine, name: &'static str, words: &[&str]) -> Result<Self> {
        match machine.serve(&with_files(name, words)) {
            Ok(child) => Ok(Daemon { name, child }),
            Err(error) => Err(LabError::Wrong(format!("{error}\n{}", log(machine, name)))),
        }
    }

    /// Ends it with a signal, and waits until it has ended.
    pub(crate) fn stop(mut self, machine: &Machine, signal: &str) -> Result<()> {
        // It may have ended by itself.
        let kill = format!("kill -{signal} $(cat /run/{}.pid) || true", self.name);
        machine.run(&["sh", "-c", &kill])?;
        self.child.wait().context(|| format!("wait for {}", self.name)).map(drop)
    }
}

fn with_files<'a>(name: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    ["sh", "-c", RUN, "sh", name].into_iter().chain(words.iter().copied()).collect()
}

/// The end of what a program has written.
pub(crate) fn log(machine: &Machine, name: &str) -> String {
    const LINES: usize = 40;
    let text = fs::read_to_string(machine.path(&format!("/run/{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    format!("the end of the log of {name}:\n{}\n", end.join("\n"))
}
