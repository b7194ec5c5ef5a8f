//! The process that does the work: subject by subject, and then the files of results.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::record::{Record, SubjectRecord};
use crate::subject::{self, Case, Setting, Subject};
use crate::suite::Suite;
use crate::{Cli, aims, drive, plot, table};

/// Measures what was asked for.
pub(crate) fn run(supervisor: i32, cli: &Cli) -> Result<ExitCode> {
    end_with(supervisor)?;
    // A plugin may leave work to a child of its own; it is waited for before the next turn.
    prctl::set_child_subreaper(true).context(|| "become a subreaper".to_owned())?;
    let setting = Setting { suites: Suite::all(&cli.peer)?, short: cli.short, runs: cli.runs() };
    let mut record = Record::new(&setting);
    print!("{}", table::heading(&record));
    for subject in subject::all() {
        let name = subject.name();
        if cli.subjects.is_empty() || cli.subjects.iter().any(|wanted| wanted == name) {
            record.subjects.push(measure(&*subject, &setting, cli.case.as_deref())?);
        }
    }
    print!("{}", aims::aims(&record));
    if let Some(file) = &cli.json {
        write(file, &record.to_json()?)?;
    }
    if let Some(file) = &cli.svg {
        write(file, &plot::svg(&record))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the plot of results from earlier.
pub(crate) fn plot(file: &Path, cli: &Cli) -> Result<ExitCode> {
    let text = fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
    let mut record = Record::from_json(&text)?;
    if let Some(words) = &cli.case {
        record = record.only(words);
        if record.subjects.iter().all(|subject| subject.cases.is_empty()) {
            let why = format!("{}: no title has {words:?} in it", file.display());
            return Err(LabError::Wrong(why));
        }
    }
    if let Some(file) = &cli.svg {
        write(file, &plot::svg(&record))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    subject: &dyn Subject,
    setting: &Setting,
    wanted: Option<&str>,
) -> Result<SubjectRecord> {
    let mut measured = SubjectRecord::new(subject);
    let is_wanted = |case: &Case| wanted.is_none_or(|words| case.title.contains(words));
    for case in subject.cases(setting).into_iter().filter(is_wanted) {
        let case = drive::measure(subject.name(), case, setting.runs)?;
        print!("{}", table::case(subject.name(), &case));
        measured.cases.push(case);
    }
    for case in subject.long_cases(setting).into_iter().filter(is_wanted) {
        let case = drive::measure_once(subject.name(), case)?;
        print!("{}", table::case(subject.name(), &case));
        measured.cases.push(case);
    }
    if wanted.is_none() {
        measured.costs = subject.costs(setting)?;
    }
    print!("{}", table::costs(subject.name(), &measured.costs));
    Ok(measured)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).context(|| format!("write {}", file.display()))
}

/// Lets this process die with its supervisor, which could not clean up after it any more.
fn end_with(supervisor: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .context(|| "tie the worker to its supervisor".to_owned())?;
    // The supervisor's mask is inherited, and would be by all that is started here.
    SigSet::empty().thread_set_mask().context(|| "unblock signals".to_owned())?;
    // The supervisor may have died before all that.
    if getppid().as_raw() == supervisor {
        Ok(())
    } else {
        Err(LabError::Wrong("the bench's supervisor is gone".to_owned()))
    }
}
