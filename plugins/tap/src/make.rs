//! Making the tap, with what only a tap has.

use kernel::link;
use plugin_interface::alone::New;
use plugin_interface::{Container, Error, Result};

use crate::conf::Tap;

/// Makes the tap in the container, and a port of the container's bridge if it shall be one.
pub(crate) fn make(tap: &Tap, container: &mut Container, new: &New<'_>) -> Result<()> {
    let bridge = tap.bridge.as_deref().map(|name| bridge(container, name)).transpose()?;
    let device = kernel::tun::Tap {
        name: new.name,
        multi_queue: tap.multi_queue,
        owner: tap.owner,
        group: tap.group,
    };
    container.netns.run(|| device.create())??;
    let made = container.rtnl.link_by_name(new.name)?;
    let made = made.ok_or_else(|| Error::Vanished { thing: format!("tap {:?}", new.name) })?.index;
    let mac = new.mac.map(|mac| link::set_mac(made, mac));
    let mtu = new.mtu.map(|mtu| link::set_mtu(made, mtu));
    let port = bridge.map(|bridge| link::set_master(made, Some(bridge)));
    let settings: Vec<_> = mac.into_iter().chain(mtu).chain(port).collect();
    let set = container.rtnl.request_all(&settings);
    // Either all of it is there afterwards or nothing is.
    set.map_err(|error| {
        let removed = container.rtnl.request(&link::delete(made)).map_err(Error::from);
        Error::from(error).undone(removed)
    })
}

fn bridge(container: &mut Container, name: &str) -> Result<u32> {
    let found = container.rtnl.link_by_name(name)?;
    let wrong = |reason: &str| Error::Config {
        key: "bridge",
        value: format!("{name:?}"),
        reason: reason.into(),
    };
    match found {
        Some(bridge) if bridge.kind == "bridge" => Ok(bridge.index),
        Some(_) => Err(wrong("is no bridge")),
        None => Err(wrong("there is no such bridge in the container")),
    }
}
