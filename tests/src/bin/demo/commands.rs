//! What can be asked of a demo that was kept.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};

use crate::names;
use crate::state::{self, State};

/// Becomes a command inside a host or Pod.
pub(crate) fn exec(host: &str, command: &[String]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
    let failed = names::open(host)?.run(|| Command::new(program).args(arguments).exec())?;
    Err(failed).context(|| format!("run {program} inside {host}"))
}

/// Lists hosts, Pods and processes.
pub(crate) fn status() -> Result<ExitCode> {
    if !state::exists() {
        return Err(LabError::Wrong(
            "there is no demo on this machine: start one with \"demo --keep\"".to_owned(),
        ));
    }
    println!(
        "{}\n",
        if state::is_kept() {
            "A demo is being kept."
        } else {
            "A demo is running, or was killed."
        }
    );
    println!("Namespaces, for \"demo exec NAME -- COMMAND\":");
    for host in names::all()? {
        println!("  {host:<14} {}", names::path(&host).display());
    }
    println!("\nProcesses:");
    for leader in state::leaders()? {
        for process in leader.followers()? {
            println!("  {process}");
        }
    }
    println!("\nFiles: {}", state::path("").display());
    Ok(ExitCode::SUCCESS)
}

/// Removes a demo that was kept or killed.
pub(crate) fn down() -> Result<ExitCode> {
    State::claim()?.remove_everything()?;
    Ok(ExitCode::SUCCESS)
}
