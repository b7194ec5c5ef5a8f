//! Many Pods on a bridge, made by hand: it is the bridge's ports and the host's links that count.

use cbr0_tests::node::Node;
use cbr0_tests::{LabError, Result};
use kernel::link::{self, Veth, VethPeer};
use kernel::{MacAddress, sysctl};

/// Hangs links on a bridge, all of whose other ends are in one namespace, which they live as long
/// as.
///
/// # Errors
/// There is no such bridge, or the kernel refuses a link.
pub(crate) fn gather(host: &Node, bridge: &str, count: u32) -> Result<Node> {
    let crowd = Node::create("crowd")?;
    // They need no addresses, and looking for duplicates of them would go on beside what is timed.
    let setting = "net/ipv6/conf/default/disable_ipv6";
    crowd.netns().run(|| sysctl::set(setting, "1"))??;
    let (mut rtnl, mut inside) = (host.rtnl()?, crowd.rtnl()?);
    let none = || LabError::Wrong(format!("there is no bridge {bridge:?}"));
    let bridge = rtnl.link_by_name(bridge)?.ok_or_else(none)?.index;
    for number in 0..count {
        let [_, _, high, low] = number.to_be_bytes();
        let mac = |side| MacAddress([0x02, 0xcb, side, 0, high, low]);
        let (name, peer_name) = (format!("crowd{number}"), format!("eth{number}"));
        let peer = VethPeer { namespace: crowd.netns(), name: &peer_name, mac: Some(mac(1)) };
        let veth = Veth { name: &name, mac: mac(2), master: Some(bridge), mtu: None, peer };
        rtnl.request(&veth.create())?;
        if let Some(link) = inside.link_by_name(&peer_name)? {
            inside.request(&link::set_up(link.index))?;
        }
    }
    Ok(crowd)
}
