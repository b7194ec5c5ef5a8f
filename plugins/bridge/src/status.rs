//! STATUS: whether the next ADD would work, in constant time.

use cni_conf::error::{CniError, Code};
use cni_conf::plugin::Upkeep;
use cni_conf::sync_status::is_synced_since_boot;
use ipam::Ipam;
use kernel::Rtnl;

use crate::bridge;
use crate::conf::Conf;
use crate::error::{Error, Result};

/// A node that answers "not available" loses its Pods after some minutes, so only what would make
/// an ADD fail is told: the route syncer counts until its first sync after boot, and not later.
pub(crate) fn status(upkeep: &Upkeep) -> Result<()> {
    let not_ready = |error: Error| match error {
        Error::Cni(error)
            if matches!(error.code, Code::NotAvailable | Code::LimitedConnectivity) =>
        {
            error.into()
        }
        error => Error::NotReady(error.to_string()),
    };
    let conf = Conf::parse(&upkeep.conf, &upkeep.env).map_err(not_ready)?;
    bridge::find(&mut Rtnl::open().map_err(Error::from).map_err(not_ready)?, &conf.bridge)
        .map_err(not_ready)?;
    if let Some(path) = &conf.sync_status
        && !is_synced_since_boot(path)?
    {
        let reason = format!(
            "{path:?} does not say that the route syncer has synced since boot; is route-syncer running?"
        );
        return Err(Error::NotReady(reason));
    }
    let ask = |ipam: Option<Ipam>| -> std::result::Result<(), CniError> {
        ipam.map_or(Ok(()), |ipam| ipam.status(upkeep))
    };
    Ipam::resolve(&upkeep.conf, &upkeep.env).and_then(ask).map_err(Error::from).map_err(not_ready)
}
