//! What a call costs whatever the machine: counted under `strace`, and the peak of its memory.

use cbr0_tests::Result;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::strace::{Strace, names_a_file};

use crate::job::Job;
use crate::memory;
use crate::record::Cost;
use crate::watch::{self, Watch};

/// Counts a verb. `call` makes a call that can be made now, and is asked twice; `undo` makes it
/// possible once more.
///
/// # Errors
/// The plugin fails.
pub(crate) fn count(
    strace: &Strace,
    job: &Job,
    (title, verb): (&str, &str),
    host: &Node,
    call: impl Fn() -> Call,
    undo: impl Fn() -> Result<()>,
) -> Result<Cost> {
    let name = format!("{title}: counting {verb} of {}", job.suite.label);
    let _watch = Watch::over(name, watch::PREPARATION);
    let (answer, names) = strace.names(call(), host)?;
    if let Some(error) = answer.failure() {
        return Err(job.failed(verb, &error.to_string()));
    }
    undo()?;
    let memory = memory::peak(&call(), host)?;
    let of = |wanted: &[&str]| names.iter().filter(|name| wanted.contains(&name.as_str())).count();
    Ok(Cost {
        title: title.to_owned(),
        verb: verb.to_owned(),
        suite: job.suite.label.clone(),
        requests: of(&["sendto", "sendmsg"]),
        files: names.iter().filter(|name| names_a_file(name)).count(),
        syscalls: names.len(),
        programs: of(&["execve"]),
        memory,
        binary: job.binary_size()?,
    })
}
