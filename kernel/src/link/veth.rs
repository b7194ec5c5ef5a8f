//! Veth pairs (`veth(4)`).

use std::os::fd::AsRawFd;

use nix::libc;

use super::{RTM_NEWLINK, header};
use crate::netlink::Message;
use crate::{MacAddress, NetNs};

const VETH_INFO_PEER: u16 = 1;
/// How many queues an end has each way. A veth uses one unless it is told otherwise, but without this
/// the kernel makes one for each CPU, and waits for a grace period when it takes the others away.
const QUEUES: u32 = 1;

/// A veth pair to be made in one request: this end here, the other directly in its namespace.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    /// This end's name.
    pub name: &'a str,
    /// This end's hardware address.
    pub mac: MacAddress,
    /// The bridge that this end becomes a port of, by index.
    pub master: Option<u32>,
    /// The MTU of both ends; the kernel's default if none is given.
    pub mtu: Option<u32>,
    /// The other end.
    pub peer: VethPeer<'a>,
}

/// The other end of a veth pair.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    /// Where it is made.
    pub namespace: &'a NetNs,
    /// Its name there.
    pub name: &'a str,
    /// Its hardware address; the kernel's random choice if none is given.
    pub mac: Option<MacAddress>,
}

impl Veth<'_> {
    /// Makes the pair and brings this end up (the kernel refuses to do so for the other, which
    /// does not exist yet). `EEXIST` if either name is taken; then nothing was made.
    pub fn create(&self) -> Message {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let number = |value: Option<u32>| value.map(u32::to_ne_bytes);
        let (mtu, master) = (number(self.mtu), number(self.master));
        let what = format!(
            "create veth {:?} with {:?} in the container's namespace",
            self.name, self.peer.name
        );
        Message::new(what, RTM_NEWLINK, flags, &header(0, libc::IFF_UP, libc::IFF_UP))
            .put_text(libc::IFLA_IFNAME, self.name)
            .put_u32(libc::IFLA_NUM_TX_QUEUES, QUEUES)
            .put_u32(libc::IFLA_NUM_RX_QUEUES, QUEUES)
            .put(libc::IFLA_ADDRESS, &self.mac.0)
            .put_some(libc::IFLA_MTU, mtu.as_ref().map(|mtu| &mtu[..]))
            .put_some(libc::IFLA_MASTER, master.as_ref().map(|master| &master[..]))
            .nest(libc::IFLA_LINKINFO, |info| {
                info.put_text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |peer| {
                        peer.raw(&header(0, 0, 0))
                            .put_text(libc::IFLA_IFNAME, self.peer.name)
                            .put_u32(libc::IFLA_NUM_TX_QUEUES, QUEUES)
                            .put_u32(libc::IFLA_NUM_RX_QUEUES, QUEUES)
                            .put_some(
                                libc::IFLA_ADDRESS,
                                self.peer.mac.as_ref().map(|mac| &mac.0[..]),
                            )
                            .put_some(libc::IFLA_MTU, mtu.as_ref().map(|mtu| &mtu[..]))
                            .put(
                                libc::IFLA_NET_NS_FD,
                                &self.peer.namespace.as_raw_fd().to_ne_bytes(),
                            )
                    })
                })
            })
    }
}
