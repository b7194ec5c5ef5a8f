//! STATUS: whether the next ADD would work, in constant time.

use std::path::Path;

use cni_conf::plugin::Upkeep;
use nix::unistd::{AccessFlags, access};
use plugin_interface::{Error, Result};

use crate::conf::{self, Conf};

/// Looks at the configuration, and whether a backup could be written, if it would be.
pub(crate) fn status(upkeep: &Upkeep) -> Result<()> {
    let not_ready = |error: Error| Error::NotReady(error.to_string());
    let conf = Conf::parse(&upkeep.conf, "", "IFNAME").map_err(not_ready)?;
    if conf.link.is_empty() {
        return Ok(());
    }
    let data_dir = conf::data_dir(&upkeep.conf).map_err(not_ready)?;
    // ADD makes the folder, in the nearest that is there.
    let nearest = data_dir.ancestors().find(|path| path.symlink_metadata().is_ok());
    let nearest = nearest.unwrap_or(Path::new("/"));
    let usable = nearest.is_dir() && access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if usable {
        return Ok(());
    }
    Err(Error::NotReady(format!(
        "{nearest:?} is no folder that can be written to; \"dataDir\" {data_dir:?} must be one"
    )))
}
