//! Taking a link down, which no other plugin needs.

use kernel::netlink::Message;

/// `RTM_SETLINK` of `linux/rtnetlink.h`.
const RTM_SETLINK: u16 = 19;
/// `IFF_UP` of `linux/if.h`.
const IFF_UP: u32 = 1;

/// Takes the link of this index down.
pub(crate) fn set_down(index: u32) -> Message {
    // struct ifinfomsg: family, type, index, flags, and which of the flags to change
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    Message::new(format!("take down link {index}"), RTM_SETLINK, 0, &header)
}
