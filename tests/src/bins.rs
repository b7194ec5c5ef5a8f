//! Where the binaries under test are.
//!
//! Black-box tests run what was built, not what they link. `CBR0_BIN_DIR` names the folder; without
//! it, the target folder that the running executable itself was built into is used. The plugins may
//! come from another folder, `CBR0_PLUGIN_DIR`: so the same tests run on another suite of plugins.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Context, LabError, Result};

/// The folder of the plugins under test, for `CNI_PATH`.
///
/// # Errors
/// The running executable cannot be found.
pub fn plugin_dir() -> Result<PathBuf> {
    match env::var_os("CBR0_PLUGIN_DIR") {
        Some(dir) => Ok(dir.into()),
        None => bin_dir(),
    }
}

/// The plugin binary of this name.
///
/// # Errors
/// [`LabError::NotBuilt`] when it is not there.
pub fn plugin(name: &str) -> Result<PathBuf> {
    existing(plugin_dir()?.join(name))
}

/// The route syncer.
///
/// # Errors
/// [`LabError::NotBuilt`] when it is not there.
pub fn route_syncer() -> Result<PathBuf> {
    existing(bin_dir()?.join("route-syncer"))
}

/// Another program of ours.
///
/// # Errors
/// [`LabError::NotBuilt`] when it is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    existing(bin_dir()?.join(name))
}

/// The demo.
///
/// # Errors
/// [`LabError::NotBuilt`] when it is not there.
pub fn demo() -> Result<PathBuf> {
    existing(bin_dir()?.join("demo"))
}

fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("CBR0_BIN_DIR") {
        return Ok(dir.into());
    }
    let running = env::current_exe().context(|| "find the running executable".to_owned())?;
    let folder = running.parent().unwrap_or(Path::new("/"));
    // Cargo puts test executables one folder below the binaries.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    if path.is_file() { Ok(path) } else { Err(LabError::NotBuilt(path)) }
}
