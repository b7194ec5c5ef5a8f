//! The demo's namespaces by name, as `ip netns` has them: mounted on files in `/run/netns`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};
use kernel::NetNs;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where `ip netns` looks.
pub(crate) const FOLDER: &str = "/run/netns";
/// What every name begins with; whatever bears it is the demo's.
const PREFIX: &str = "cbr0-demo-";

/// The file of a host or Pod.
pub(crate) fn path(host: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{PREFIX}{host}"))
}

/// Makes a namespace under a name. It lives until [`remove`].
pub(crate) fn create(host: &str) -> Result<NetNs> {
    let path = path(host);
    let what = || format!("name a network namespace {}", path.display());
    let netns = NetNs::create()?;
    File::create_new(&path).context(what)?;
    let nothing = None::<&Path>;
    mount(Some(&netns.path()), &path, nothing, MsFlags::MS_BIND, nothing).context(what)?;
    Ok(netns)
}

/// Opens the namespace of a host or Pod.
pub(crate) fn open(host: &str) -> Result<NetNs> {
    if !path(host).exists() {
        return Err(LabError::Wrong(format!(
            "there is no {host:?} here; \"demo status\" lists what is, after \"demo --keep\""
        )));
    }
    Ok(NetNs::open(&path(host))?)
}

/// The hosts and Pods that have a name, in order.
pub(crate) fn all() -> Result<Vec<String>> {
    let entries = match fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| format!("list {FOLDER}")),
    };
    let entries: io::Result<Vec<_>> = entries.collect();
    let entries = entries.context(|| format!("list {FOLDER}"))?;
    let name =
        |entry: &fs::DirEntry| entry.file_name().to_str()?.strip_prefix(PREFIX).map(str::to_owned);
    let mut names: Vec<_> = entries.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Takes all the names away; a namespace dies once nothing is inside any more.
pub(crate) fn remove_all() -> Result<()> {
    all()?.iter().try_for_each(|host| remove(host))
}

/// Takes one name away.
pub(crate) fn remove(host: &str) -> Result<()> {
    let path = path(host);
    let what = || format!("remove {}", path.display());
    // Not mounted if its creator was killed in between.
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL) => fs::remove_file(&path).context(what),
        Err(errno) => Err(errno).context(what),
    }
}
