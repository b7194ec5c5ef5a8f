//! STATUS: whether the next ADD would work, in constant time.

use cni_conf::plugin::Upkeep;
use plugin_interface::{Error, Result, record};

use crate::conf::{self, Conf};

/// Looks at the configuration, and whether a backup could be written, if it would be.
pub(crate) fn status(upkeep: &Upkeep) -> Result<()> {
    let not_ready = |error: Error| Error::NotReady(error.to_string());
    let conf = Conf::parse(&upkeep.conf, "", "IFNAME").map_err(not_ready)?;
    if conf.link.is_empty() {
        return Ok(());
    }
    record::demand(&conf::data_dir(&upkeep.conf).map_err(not_ready)?)
}
