//! Bridges and their ports.

use nix::libc;

use super::{HEADER, IFLA_BRPORT_MODE, IFLA_INFO_SLAVE_DATA, RTM_NEWLINK, header};
use crate::MacAddress;
use crate::netlink::Message;

/// A bridge to be made.
#[derive(Clone, Debug)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address. One given at creation stays; without, a bridge takes the lowest
    /// address of its ports, and changes it as they come and go.
    pub mac: MacAddress,
    /// Its MTU; the kernel's choice (the lowest of the ports') if none is given.
    pub mtu: Option<u32>,
}

impl Bridge<'_> {
    /// Makes the bridge and brings it up; `EEXIST` if the name is taken.
    pub fn create(&self) -> Message {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let up: [u8; HEADER] = header(0, libc::IFF_UP, libc::IFF_UP);
        Message::new(format!("create bridge {:?}", self.name), RTM_NEWLINK, flags, &up)
            .put_text(libc::IFLA_IFNAME, self.name)
            .put(libc::IFLA_ADDRESS, &self.mac.0)
            .put_some(libc::IFLA_MTU, self.mtu.map(u32::to_ne_bytes).as_ref().map(|mtu| &mtu[..]))
            .nest(libc::IFLA_LINKINFO, |info| info.put_text(libc::IFLA_INFO_KIND, "bridge"))
    }
}

/// Lets frames leave by the bridge port that they came in by, or not.
pub fn set_hairpin(port: u32, on: bool) -> Message {
    let what = format!("set hairpin mode of bridge port {port}");
    Message::new(what, RTM_NEWLINK, 0, &header(port, 0, 0)).nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_SLAVE_KIND, "bridge")
            .nest(IFLA_INFO_SLAVE_DATA, |data| data.put(IFLA_BRPORT_MODE, &[u8::from(on)]))
    })
}
