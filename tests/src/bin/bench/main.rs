//! `scripts/bench`: what the plugins cost, beside the reference and the kernel's own floor.
//!
//! Real processes are called as a runtime calls them, in throw-away network namespaces; those that
//! are compared take turns ([`drive`]), so that what the machine does besides hits all alike. What
//! is measured is a *subject*, a file with one implementation of [`subject::Subject`]. The results
//! go to the terminal ([`table`]), to a file ([`record`]) and to a plot made of that ([`plot`]).
//!
//! One process measures, another only watches it and cleans up ([`supervisor`]): so nothing stays
//! behind, however the first one ends.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

mod aims;
mod bridge;
mod by_hand;
mod chain;
mod costs;
mod crowd;
mod data_path;
mod drive;
mod filter;
mod held;
mod ipam;
mod job;
mod list;
mod mappings;
mod memory;
mod plot;
mod pods;
mod portmap;
mod profile;
mod progress;
mod ptp;
mod rates;
mod record;
mod removal;
mod rival;
mod routes;
mod statistics;
mod subject;
mod suite;
mod supervisor;
mod table;
mod timing;
mod watch;
mod worker;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use cbr0_tests::LabError;
use clap::Parser;

/// Measures what a call of a plugin costs, in network namespaces of this machine.
///
/// The machine's own network is not touched. Needs root.
#[derive(Parser, Clone)]
#[command(name = "bench", version)]
struct Cli {
    /// What to measure; everything if none is named.
    #[arg(value_name = "SUBJECT", value_parser = subject::names())]
    subjects: Vec<String>,
    /// Only comparisons whose title has these words in it, and nothing is counted. With --from, only
    /// those are in the plot.
    #[arg(long, value_name = "WORDS")]
    case: Option<String>,
    /// A few runs of everything that needs no patience: to see that it works.
    #[arg(long)]
    short: bool,
    /// How often each is called; less often where a call takes long. [default: 200, short: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// A folder of other plugins to compare with.
    #[arg(long, value_name = "DIR")]
    peer: Vec<PathBuf>,
    /// Where the results go.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the plot goes.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Makes the plot of results from earlier, and measures nothing.
    #[arg(long, value_name = "FILE", requires = "svg", conflicts_with_all = ["subjects", "json"])]
    from: Option<PathBuf>,
    /// The process that cleans up after this one, which does the work.
    #[arg(long, hide = true)]
    supervisor: Option<i32>,
}

impl Cli {
    fn runs(&self) -> usize {
        const SHORT: u32 = 3;
        const LONG: u32 = 200;
        let default = if self.short { SHORT } else { LONG };
        usize::try_from(self.runs.unwrap_or(default)).unwrap_or(usize::MAX)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match (&cli.from, cli.supervisor) {
        (Some(record), _) => worker::plot(record, &cli),
        (None, Some(supervisor)) => worker::run(supervisor, &cli),
        (None, None) => supervisor::run(),
    };
    ended.unwrap_or_else(|error: LabError| {
        say(&format!("bench: {error}"));
        ExitCode::FAILURE
    })
}

/// Writes a line to the standard error. Nobody may be there to read it, which is no failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
