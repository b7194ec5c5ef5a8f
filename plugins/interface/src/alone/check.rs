//! CHECK: whether the interface is there, and as it was made.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::Rtnl;

use super::Alone;
use crate::check::{self, Expected, demand};
use crate::container_end::Container;
use crate::error::{Error, Result};

/// Compares the kernel with the result of ADD.
pub(super) fn check<K: Alone>(call: &Call, netns: &Path) -> Result<()> {
    let kind = K::parse(&call.conf, &call.env)?;
    let expected = Expected::of(call, netns)?;
    let mut container = Container::open(call, netns)?;
    let link = check::container_end(&mut container, netns, &expected, None)?;
    let name = &link.name;
    demand(link.kind == K::KIND, || format!("{name:?} is a {:?}, no {}", link.kind, K::KIND))?;
    // The default route, or the plugin before this one in the chain, may name another by now.
    if let Some(master) = kind.master().filter(|master| master.name.is_some()) {
        let mut host = Rtnl::open()?;
        let rtnl = if master.in_container { &mut container.rtnl } else { &mut host };
        let lower = master.find(rtnl).map_err(|error| Error::Different(error.to_string()))?;
        demand(link.peer == Some(lower.index), || {
            format!("{name:?} is not on top of {:?}", lower.name)
        })?;
    }
    match kind.difference(&link) {
        Some(difference) => Err(Error::Different(difference)),
        None => Ok(()),
    }
}
