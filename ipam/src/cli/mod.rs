//! `host-local` for people: what is reserved, what is left, and how to free an address by hand.
//!
//! Arguments choose it; a runtime gives none. It works under the plugin's own lock, on the plugin's
//! own store, so that it may be used on a node at work.

mod arguments;
mod conf_files;
mod free;
mod ls;
mod reservations;
mod stats;
mod table;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use arguments::Command;
use serde::Serialize;

use crate::store::StoreError;

const USAGE: &str = "\
host-local, the CNI plugin: runtimes call it without arguments, and people with these:

host-local ls [--data-dir DIR] [--network NAME] [--json]
    List what is reserved: network, address, container, interface, and since when.

host-local stats [--conf-dir DIR | --conf FILE] [--json]
    For each range set of the configured networks: how many addresses it has, how many of them are
    used and free, and which was reserved last.

host-local free ADDRESS... [--network NAME] [--data-dir DIR] [--dry-run] [--json]
    Remove reservations, whosever they are. Exits with 1 if an address was not reserved.

    --data-dir DIR   where the reservations are (default: /var/lib/cni/networks)
    --network NAME   this network alone (default: all of the data directory)
    --conf-dir DIR   the folder of network configurations (default: /etc/cni/net.d)
    --conf FILE      this network configuration alone
    --dry-run        say what would be freed, and free nothing
    --json           print JSON, for programs
    --help           print this
    --version        print the version and the CNI versions
";

/// Done, though not all of it could be.
const FAILURE: u8 = 1;
/// Called wrongly: nothing was looked at.
const MISUSE: u8 = 2;

/// What goes to the terminal, and the exit code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    stdout: String,
    /// One line for each problem.
    stderr: String,
    code: u8,
}

impl Outcome {
    fn complain(&mut self, problem: impl std::fmt::Display) {
        self.stderr.push_str(&format!("host-local: {problem}\n"));
    }
}

/// Why a command was not carried out at all. Every text names the remedy.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}; host-local --help tells how it is called")]
    Usage(String),
    #[error("{source}; {}", source.remedy())]
    Store {
        #[from]
        source: StoreError,
    },
    #[error("cannot read {}: {source}; {remedy}", path.display())]
    Read { path: PathBuf, source: io::Error, remedy: &'static str },
    #[error("{address} is reserved in the networks {networks}; say which one with --network")]
    Ambiguous { address: std::net::IpAddr, networks: String },
    #[error(
        "{} is not what a plugin writes, and may be of use to somebody; look at it, and remove it by hand",
        path.display()
    )]
    Foreign { path: PathBuf },
    #[error("cannot write JSON: {0}; leave out --json")]
    Json(#[from] serde_json::Error),
}

impl CliError {
    fn code(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { MISUSE } else { FAILURE }
    }
}

/// Does what this process's arguments ask for; `None` when there are none, or when they ask for
/// what every plugin can tell (`--version`).
pub fn main() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() || arguments.first().is_some_and(|first| first == "--version") {
        return None;
    }
    let outcome = run(arguments);
    // Whoever closed the pipe has read enough.
    let _ = io::stderr().write_all(outcome.stderr.as_bytes());
    let _ = io::stdout().write_all(outcome.stdout.as_bytes());
    Some(ExitCode::from(outcome.code))
}

fn run(arguments: Vec<OsString>) -> Outcome {
    let done = arguments::parse(arguments).and_then(|command| match command {
        Command::Help => Ok(Outcome { stdout: USAGE.to_owned(), ..Outcome::default() }),
        Command::Ls(options) => ls::run(&options),
        Command::Stats(options) => stats::run(&options),
        Command::Free(options) => free::run(&options),
    });
    done.unwrap_or_else(|error| {
        let mut outcome = Outcome { code: error.code(), ..Outcome::default() };
        outcome.complain(error);
        outcome
    })
}

fn to_json(value: &impl Serialize) -> Result<String, CliError> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
