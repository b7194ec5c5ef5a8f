//! `scripts/demo`: the network of DESIGN.md on one machine, and proof that it holds.
//!
//! A switch, a router, an outside host and N nodes are network namespaces; every node runs the
//! route syncer and gets M Pods from the plugins, through the conflist people copy. Then everybody
//! calls everybody and says what source address the other end saw. Of a demo that is kept, nodes
//! can leave ([`change`]), and others join, and things can be broken ([`breaking`]).
//!
//! One process makes all of it ([`worker`]), another only watches it and cleans up
//! ([`supervisor`]): so nothing stays behind, however the first one ends. What must be found again
//! for that is in one folder and under one prefix ([`state`], [`names`]).
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the demo's output is what it is for")]

mod breaking;
mod calls;
mod change;
mod commands;
mod lab;
mod matrix;
mod member;
mod names;
mod pings;
mod processes;
mod show;
mod state;
mod supervisor;
mod table;
mod worker;

use std::ffi::OsString;
use std::io::Write as _;
use std::iter;
use std::process::ExitCode;

use cbr0_tests::LabError;
use clap::builder::RangedI64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::lab::{OffLink, Source};

/// Shows the cbr0 network on this machine: nodes and Pods in network namespaces, and who sees whom.
///
/// The machine's own network is not touched. Needs root.
#[derive(Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    plan: Plan,
}

/// What to build.
#[derive(Args, Clone, Copy)]
struct Plan {
    /// Where the route syncers learn of each other's Pods.
    #[arg(long, value_enum, default_value_t = Source::File)]
    source: Source,
    /// Number of nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = up_to_100())]
    nodes: u8,
    /// Number of Pods a node.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = up_to_100())]
    pods: u8,
    /// IPv6 beside IPv4, for nodes and Pods; with =false the Pods have IPv4 alone.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          action = ArgAction::Set, default_value_t = true, default_missing_value = "true")]
    dual_stack: bool,
    /// Puts the last node behind the router, and has the others reach it by this.
    #[arg(long, value_enum)]
    off_link: Option<OffLink>,
    /// Leave everything running at the end, for `demo exec`, until `demo down`.
    #[arg(long)]
    keep: bool,
}

/// Ranges and addresses are numbered by one byte.
fn up_to_100() -> RangedI64ValueParser<u8> {
    RangedI64ValueParser::new().range(1..=100)
}

#[derive(Subcommand)]
enum Command {
    /// Runs a command inside a host or Pod of a kept demo: `demo exec node1 -- ip route`.
    Exec {
        /// Its name, as `demo status` lists them: node1, node1-pod1, switch, router, outside,
        /// etcd.
        host: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Lists what a kept demo consists of.
    Status,
    /// Adds a node with its Pods to a kept demo, while the Pods of the others go on calling.
    ///
    /// Fails if one of these calls is lost, or if not everybody reaches everybody afterwards.
    Join,
    /// Removes a node with its Pods from a kept demo, while the Pods of the others go on calling.
    ///
    /// Fails if one of these calls is lost, or if not everybody reaches everybody afterwards.
    Leave {
        /// Its name, such as node2 [default: the last one]
        node: Option<String>,
    },
    /// Breaks things on the first node of a kept demo: a route, all routes, the uplink, and etcd if
    /// the demo has one, while all Pods ping each other.
    ///
    /// Prints what was lost meanwhile and when the routes were back. Fails if they do not come back,
    /// or if not everybody reaches everybody afterwards.
    Break,
    /// Removes a kept demo, or what is left of one that was killed.
    Down,
    /// The process that does the work; the demo starts it itself.
    #[command(hide = true)]
    Worker {
        /// The process without which it must not go on.
        supervisor: i32,
        /// What that process was asked for.
        #[arg(last = true)]
        asked: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        None => supervisor::run(cli.plan),
        Some(Command::Join | Command::Leave { .. } | Command::Break) => supervisor::change(),
        Some(Command::Worker { supervisor, asked }) => {
            let asked = iter::once("demo".into()).chain(asked);
            worker::run(supervisor, Cli::parse_from(asked))
        }
        Some(Command::Exec { host, command }) => commands::exec(&host, &command),
        Some(Command::Status) => commands::status(),
        Some(Command::Down) => commands::down(),
    };
    ended.unwrap_or_else(|error: LabError| {
        say(&format!("demo: {error}"));
        ExitCode::FAILURE
    })
}

/// Writes a line to the standard error. Nobody may be there to read it, which is no failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
