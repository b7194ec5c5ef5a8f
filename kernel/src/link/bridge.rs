//! Bridges and their ports.

use nix::errno::Errno;
use nix::libc;

use super::{
    HEADER, IFLA_BR_VLAN_FILTERING, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_MODE, IFLA_INFO_SLAVE_DATA,
    RTM_NEWLINK, header,
};
use crate::netlink::{Message, Result};
use crate::{MacAddress, Rtnl};

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

/// What few bridges are told besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeOptions {
    /// The group that it is in from its first instant (`ip link … group`); 0 for none.
    pub group: u32,
    /// Whether its ports pass only frames of their VLANs.
    pub vlan_filtering: bool,
}

impl Bridge<'_> {
    /// Makes the bridge and brings it up; `EEXIST` if the name is taken.
    pub fn create(&self) -> Message {
        self.create_with(BridgeOptions::default())
    }

    /// As [`Bridge::create`]; `EOPNOTSUPP` if the kernel shall filter by VLAN and cannot. Then
    /// nothing was made.
    pub fn create_with(&self, options: BridgeOptions) -> Message {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let up: [u8; HEADER] = header(0, libc::IFF_UP, libc::IFF_UP);
        Message::new(format!("create bridge {:?}", self.name), RTM_NEWLINK, flags, &up)
            .put_text(libc::IFLA_IFNAME, self.name)
            .put(libc::IFLA_ADDRESS, &self.mac.0)
            .put_some(libc::IFLA_MTU, self.mtu.map(u32::to_ne_bytes).as_ref().map(|mtu| &mtu[..]))
            .put_u32(libc::IFLA_GROUP, options.group)
            .nest(libc::IFLA_LINKINFO, |info| {
                let info = info.put_text(libc::IFLA_INFO_KIND, "bridge");
                if options.vlan_filtering {
                    info.nest(libc::IFLA_INFO_DATA, |data| data.put(IFLA_BR_VLAN_FILTERING, &[1]))
                } else {
                    info
                }
            })
    }
}

/// Lets frames leave by the bridge port that they came in by, or not.
pub fn set_hairpin(port: u32, on: bool) -> Message {
    set_port(format!("set hairpin mode of bridge port {port}"), port, IFLA_BRPORT_MODE, on)
}

/// Keeps frames between a bridge port and other isolated ports from passing, or not.
pub fn set_isolated(port: u32, on: bool) -> Message {
    set_port(format!("set isolation of bridge port {port}"), port, IFLA_BRPORT_ISOLATED, on)
}

fn set_port(what: String, port: u32, setting: u16, on: bool) -> Message {
    Message::new(what, RTM_NEWLINK, 0, &header(port, 0, 0)).nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_SLAVE_KIND, "bridge")
            .nest(IFLA_INFO_SLAVE_DATA, |data| data.put(setting, &[u8::from(on)]))
    })
}

impl Rtnl {
    /// Whether the kernel's bridges can filter by VLAN. One is made to find out: this is for a
    /// namespace that is thrown away.
    ///
    /// # Errors
    /// The kernel refuses for another reason.
    pub fn knows_vlan_filtering(&mut self) -> Result<bool> {
        let (name, mac) = ("probe", MacAddress([2, 0, 0, 0, 0, 1]));
        let options = BridgeOptions { vlan_filtering: true, group: 0 };
        match self.request(&Bridge { name, mac, mtu: None }.create_with(options)) {
            Err(error) if error.is(Errno::EOPNOTSUPP) => Ok(false),
            done => done.map(|()| true),
        }
    }
}
