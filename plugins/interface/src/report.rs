//! The interfaces in a result.

use std::path::Path;

use cni_conf::result::Interface;
use kernel::MacAddress;
use kernel::link::Link;

/// A link of the host.
pub fn on_host(link: &Link) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        ..Interface::default()
    }
}

/// The interface of the container.
pub fn in_container(
    name: &str,
    mac: Option<MacAddress>,
    mtu: Option<u32>,
    netns: &Path,
) -> Interface {
    Interface {
        name: name.to_owned(),
        mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu,
        sandbox: netns.to_string_lossy().into_owned(),
        ..Interface::default()
    }
}
