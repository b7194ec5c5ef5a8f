//! The link by which the host reaches the world.

use kernel::Rtnl;
use kernel::link::Link;
use kernel::route::{Route, TABLE_MAIN};

use crate::error::Result;

/// The link of the default route, IPv4 before IPv6 and the lower metric first; `None` on a host
/// without one.
///
/// # Errors
/// The routes cannot be read.
pub fn find(host: &mut Rtnl) -> Result<Option<Link>> {
    let rank = |route: &&Route| (route.destination.is_ipv6(), route.priority);
    let routes = host.routes(TABLE_MAIN)?;
    let defaults = routes.iter().filter(|route| route.destination.prefix() == 0);
    let best = defaults.filter(|route| route.link.is_some()).min_by_key(rank);
    match best.and_then(|route| route.link) {
        Some(link) => Ok(host.link_by_index(link)?),
        None => Ok(None),
    }
}
