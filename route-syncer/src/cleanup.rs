//! `cleanup`: what daemons left on this node goes, and nothing else.

use std::path::Path;

use kernel::Rtnl;
use nix::libc;
use tracing::error;

use crate::apply::apply;
use crate::difference::Change;
use crate::error::Error;
use crate::host::accept;
use crate::masquerade;
use crate::memory;
use crate::observed::{Observed, Route};
use crate::replace;
use crate::run_dir::RunDir;
use crate::source::etcd::state::StateFile;
use crate::status::Report;
use crate::tunnel::{device, words};

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// What went, in words.
    pub words: Vec<String>,
    /// Whether all went that is ours.
    pub complete: bool,
}

/// Removes our routes, the tunnel's devices with all that is on them, the masquerade table, what lets
/// Pods through the packet filter, and the daemon's files in both folders. What cannot be
/// removed stops nothing else; it is logged.
///
/// Without a protocol the routes are those of the number that the last daemon had, or `default`.
///
/// # Errors
/// A daemon is running: it would make all of it again.
pub fn cleanup(
    run_dir: &RunDir,
    state_dir: &Path,
    protocol: Option<u8>,
    default: u8,
) -> Result<Done, Error> {
    let lock = run_dir.lock()?;
    let protocol = protocol.or_else(|| last_protocol(run_dir)).unwrap_or(default);
    let mut done = Done { words: Vec::new(), complete: true };
    done.note(remove(protocol, |_| true));
    done.note(remove_tunnel());
    done.note(remove_table());
    done.note(remove_way_through());
    // Last: until all else is gone they tell what there is.
    if done.complete {
        done.note(run_dir.remove_files(&lock).map(files).map_err(Error::from));
        done.note(StateFile::remove(state_dir).map(files).map_err(Error::from));
        done.note(forget_list(&state_dir.join(memory::KUBERNETES)));
    }
    Ok(done)
}

impl Done {
    fn note(&mut self, part: Result<Vec<String>, Error>) {
        match part {
            Ok(words) => self.words.extend(words),
            Err(problem) => {
                error!("{problem}");
                self.complete = false;
            }
        }
    }
}

/// Removes our routes that make ranges of this node and of the cluster unreachable, of the protocol number that the
/// last daemon had, or `default`. Returns what went, in words. Only while no daemon runs.
///
/// # Errors
/// The kernel refuses.
pub fn remove_unreachable(run_dir: &RunDir, default: u8) -> Result<Vec<String>, Error> {
    let protocol = last_protocol(run_dir).unwrap_or(default);
    remove(protocol, |route| route.kind == libc::RTN_UNREACHABLE)
}

/// The number in the status of the last daemon, if it can be read.
fn last_protocol(run_dir: &RunDir) -> Option<u8> {
    let text = run_dir.read_status().ok().flatten()?;
    Some(serde_json::from_str::<Report>(&text).ok()?.protocol)
}

/// Removes the routes of the protocol that are meant.
fn remove(protocol: u8, is_meant: impl Fn(&Route) -> bool) -> Result<Vec<String>, Error> {
    let mut rtnl = Rtnl::open()?;
    let routes = Observed::read(&mut rtnl)?.routes.into_iter();
    let changes: Vec<Change> = routes
        .filter(|route| route.protocol == protocol && is_meant(route))
        .map(Change::Delete)
        .collect();
    for answer in apply(&mut rtnl, &changes)? {
        answer?;
    }
    let count = changes.len();
    Ok((count > 0)
        .then(|| format!("removed {count} routes of protocol {protocol}"))
        .into_iter()
        .collect())
}

fn remove_tunnel() -> Result<Vec<String>, Error> {
    let mut rtnl = Rtnl::open()?;
    let removal = device::removal(&Observed::read(&mut rtnl)?.tunnel);
    let mut words = Vec::new();
    for change in removal {
        rtnl.request(&change.message())?;
        words.push(format!("removed the tunnel ({})", words::of_device(&change)));
    }
    Ok(words)
}

fn remove_table() -> Result<Vec<String>, Error> {
    let removed = masquerade::remove()?;
    Ok(removed.then(|| "removed the masquerade rules".to_owned()).into_iter().collect())
}

fn forget_list(path: &Path) -> Result<Vec<String>, Error> {
    let removed = replace::remove(path);
    let removed = removed.map_err(|source| Error::Memory { path: path.into(), source })?;
    Ok(files(removed.then(|| path.to_owned())))
}

fn remove_way_through() -> Result<Vec<String>, Error> {
    let removed = accept::remove()?;
    let words = || format!("removed the chains {} and the rules that lead there", accept::OURS);
    Ok(removed.then(words).into_iter().collect())
}

fn files(paths: impl IntoIterator<Item = std::path::PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| format!("removed {}", path.display())).collect()
}
