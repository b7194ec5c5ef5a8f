//! A whole Kubernetes cluster on this machine, with cbr0 as its only network, and what must hold in
//! it: `scripts/test-kubernetes` starts this.
//!
//! Every node is a machine of its own ([`cbr0_tests::machine`]), with a real containerd, kubelet and
//! kube-proxy; etcd, the API server, the controller manager and the scheduler are on a fourth one.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what it is for, and how far it is"
)]

mod ask;
mod control;
mod daemon;
mod lab;
mod node;
mod programs;
mod scenarios;
mod table;
mod waiting;
mod watchers;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use cbr0_tests::error::Context as _;
use cbr0_tests::require;
use cbr0_tests::{LabError, Result};
use clap::Parser;

use crate::lab::Lab;
use crate::programs::Programs;

/// The scenarios of a cluster that has cbr0 as its only network.
#[derive(Parser)]
#[command(name = "test-kubernetes")]
struct Cli {
    /// The scenarios to run, by number [default: all]; the first one always runs
    #[arg(value_parser = clap::value_parser!(u8).range(1..=8))]
    scenarios: Vec<u8>,
    /// Leave the cluster running afterwards until Ctrl-C, to look around in
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("test-kubernetes: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was tried holds.
fn run(cli: &Cli) -> Result<bool> {
    if !require::is_root()? {
        let words = "the laboratory makes namespaces: run it as root";
        return Err(LabError::Wrong(words.to_owned()));
    }
    waiting::catch_interrupts()?;
    let started = Instant::now();
    let mut lab = Lab::start(Programs::find()?)?;
    say(&format!("the cluster was started in {:.0} s", started.elapsed().as_secs_f64()));
    say_where(&lab);
    scenarios::run(&mut lab, &cli.scenarios, cli.keep);
    let table =
        format!("{}, in {:.0} s; {}", lab.table, started.elapsed().as_secs_f64(), versions(&lab)?);
    writeln!(io::stdout(), "{table}").context(|| "print the table".to_owned())?;
    if cli.keep {
        say("the cluster is left running until Ctrl-C");
        while !waiting::interrupted() {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    Ok(lab.table.holds())
}

/// Of what it ran with.
fn versions(lab: &Lab) -> Result<String> {
    let info = ["kubeletVersion", "containerRuntimeVersion", "kernelVersion", "osImage"];
    let info = info.map(|name| format!("{{.status.nodeInfo.{name}}}"));
    let [kubelet, runtime, kernel, system] = info;
    let words = format!("Kubernetes {kubelet}, {runtime}, Linux {kernel}, {system}");
    lab.kubectl_anywhere(&["get", "node", node::NAMES[0], &format!("--output=jsonpath={words}")])
}

/// How to look around in it.
fn say_where(lab: &Lab) {
    say(&format!("  control: nsenter -m -n -p -t {}", lab.control.machine.init()));
    for node in &lab.nodes {
        say(&format!("  {}: nsenter -m -n -p -t {}", node.name, node.machine.init()));
    }
}

/// Writes a line to the standard error. Nobody may be there to read it, which is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
