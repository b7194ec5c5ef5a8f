//! STATUS: whether the next ADD would work, in constant time.

use cni_conf::plugin::Upkeep;
use cni_conf::sync_status::is_synced_since_boot;
use kernel::Rtnl;
use plugin_interface::{Error, Result, status};

use crate::bridge;
use crate::conf::Conf;

/// The route syncer counts until its first sync after boot, and not later.
pub(crate) fn status(upkeep: &Upkeep) -> Result<()> {
    status::answer(upkeep, look(upkeep))
}

fn look(upkeep: &Upkeep) -> Result<()> {
    let conf = Conf::parse(&upkeep.conf, &upkeep.env)?;
    let mut host = Rtnl::open()?;
    let bridge = bridge::find(&mut host, &conf.bridge)?;
    conf.refuse_what_bridge_cannot(bridge.as_ref())?;
    conf.mtu.resolve(&mut host)?;
    match &conf.sync_status {
        Some(path) if !is_synced_since_boot(path)? => Err(Error::NotReady(format!(
            "{path:?} does not say that the route syncer has synced since boot; is route-syncer running?"
        ))),
        _ => Ok(()),
    }
}
