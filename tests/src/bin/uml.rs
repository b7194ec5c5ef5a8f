//! Runs a test executable inside user-mode Linux, as a runner of cargo: see `scripts/uml`.
//!
//! It writes what the executable wrote and ends as it did, but fails also when a test skips itself
//! for want of something that this kernel has.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode};
use std::time::Duration;

use cbr0_tests::error::Context as _;
use cbr0_tests::uml::{End, Ran, Uml};
use cbr0_tests::{LabError, Result};

/// Several times what the longest suite takes.
const DEADLINE: Duration = Duration::from_secs(1800);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("cannot run tests: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run() -> Result<bool> {
    let mut words = env::args_os().skip(1);
    let program: OsString =
        words.next().ok_or_else(|| LabError::Wrong("give a test executable".to_owned()))?;
    let nowhere = || LabError::Wrong("there is no user-mode Linux here".to_owned());
    let uml = Uml::find()?.ok_or_else(nowhere)?;
    let ran = uml.run(Command::new(program).args(words), DEADLINE)?;
    show(&ran)?;
    hand_on_skips(&ran.skipped)?;
    let mut well = ran.end == End::Exited(0);
    if !well {
        say(&ran.end.to_string());
    }
    for skip in ran.needless_skips() {
        say(&format!("nobody but this kernel can run it: {skip}"));
        well = false;
    }
    Ok(well)
}

fn show(ran: &Ran) -> Result<()> {
    let what = || "write what the tests wrote".to_owned();
    io::stderr().write_all(ran.errors.as_bytes()).context(what)?;
    let mut output = ran.output.clone();
    // The test that runs when all ends is the one that nothing is said of yet.
    if !output.is_empty() && !output.ends_with('\n') {
        output.push_str("FAILED\n");
    }
    io::stdout().write_all(output.as_bytes()).context(what)
}

/// To the file of who started this; the same test may run outside, under the name alone.
fn hand_on_skips(skipped: &str) -> Result<()> {
    let Some(log) = env::var_os("CBR0_SKIP_LOG") else { return Ok(()) };
    let lines = skipped.replace("SKIPPED ", "SKIPPED uml/");
    let log = OpenOptions::new().append(true).create(true).open(log);
    log.and_then(|mut log| log.write_all(lines.as_bytes()))
        .context(|| "write to CBR0_SKIP_LOG".to_owned())
}

fn say(words: &str) {
    // There is nothing left to do about a standard error that takes nothing.
    let _ = writeln!(io::stderr(), "uml: {words}");
}
