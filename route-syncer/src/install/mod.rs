//! `install` puts the plugins where container runtimes look, and `uninstall` takes them away again.
//!
//! Both look at what is there ([`place`]), decide what to do ([`plan`]), and do it step by step
//! ([`step`]). Each step happens as a whole or not at all, and what to do follows from what is
//! there alone. So what one run did not finish, the next one does; a plugin that was in the folder
//! is in it at every moment; and what others put there is put back in the end.

mod error;
mod place;
mod plan;
mod step;

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

pub use error::InstallError;
use place::{Place, Source};
use step::Step;

/// Where container runtimes look for plugins unless told otherwise.
pub const BIN_DIR: &str = "/opt/cni/bin";

/// The plugins that are built beside this program.
const PLUGINS: &[&str] = &[
    "bandwidth",
    "bridge",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];

/// Puts the plugins in `from` into `bin_dir`. Says to `out` what it does, a line a step; a dry run
/// says the same and does nothing.
///
/// # Errors
/// What was done until then stays, and the next run goes on from there.
pub fn install(
    bin_dir: &Path,
    from: Option<PathBuf>,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), InstallError> {
    let from = from.map_or_else(folder_of_this_program, Ok)?;
    let sources = PLUGINS.iter().map(|name| Source::read(from.join(name)));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    if !bin_dir.exists() {
        carry_out(&[Step::MakeFolder { folder: bin_dir.to_owned() }], dry_run, out)?;
    }
    let _lock = lock(bin_dir, dry_run)?;
    let mut steps = Vec::new();
    for (name, source) in PLUGINS.iter().zip(&sources) {
        steps.extend(plan::install(&Place::look(bin_dir.join(name))?, source)?);
    }
    carry_out(&steps, dry_run, out)
}

/// Takes the plugins out of `bin_dir`, and puts back what was there before them. With a path to a
/// conflist, removes that one first, if a route syncer wrote it.
///
/// # Errors
/// As [`install`].
pub fn uninstall(
    bin_dir: &Path,
    conflist: Option<&Path>,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), InstallError> {
    let _lock = lock(bin_dir, dry_run)?;
    let mut steps = Vec::new();
    if let Some(path) = conflist {
        // It goes first: a runtime that has it starts Pods with the plugins.
        steps.extend(plan::remove_conflist(&Place::look_at_conflist(path.to_owned())?));
    }
    for name in PLUGINS {
        steps.extend(plan::uninstall(&Place::look(bin_dir.join(name))?));
    }
    carry_out(&steps, dry_run, out)
}

fn carry_out(steps: &[Step<'_>], dry_run: bool, out: &mut impl Write) -> Result<(), InstallError> {
    for step in steps {
        // Whoever closed the pipe has read enough, and wants the plugins all the same.
        let _ = writeln!(out, "{step}");
        if !dry_run {
            step.carry_out()?;
        }
    }
    Ok(())
}

fn folder_of_this_program() -> Result<PathBuf, InstallError> {
    let program = std::env::current_exe().map_err(InstallError::ThisProgram)?;
    Ok(program.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Keeps two runs apart, until the value ends. In a folder that is not there is nothing to do at
/// the same time, and a dry run does nothing.
fn lock(bin_dir: &Path, dry_run: bool) -> Result<Option<File>, InstallError> {
    if dry_run {
        return Ok(None);
    }
    let folder = match File::open(bin_dir) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(InstallError::io(bin_dir, "open it", source)),
    };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(InstallError::Busy { folder: bin_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(InstallError::io(bin_dir, "lock it", source)),
    }
}
