//! The network of DESIGN.md: nodes on a switch, a router beside them, and the outside behind it.
//!
//! ```text
//!   node1 10.100.0.2   node2 10.100.0.3  …      router 10.100.0.1 │ 192.0.2.1
//!        └────────────── switch ──────────────────────┘           │
//!                                                       outside 192.0.2.10
//! ```
//!
//! All of it in IPv6 too. The nodes' default route leads to the router, which knows no route to any
//! Pod: what leaves a node with a Pod's address never comes back, unless it was masqueraded.
//!
//! A node can be put behind the router instead ([`attach_behind_router`]): in 10.101.0.0/24.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::link::{Bridge, Veth, VethPeer};
use kernel::route::Route;
use kernel::{MacAddress, NetNs, Rtnl, address, link, route, sysctl};

use crate::error::{LabError, Result};
use crate::node::Node;

/// The name of a node's link to the switch.
pub const UPLINK: &str = "eth0";

/// The network of DESIGN.md, running.
#[derive(Debug)]
pub struct Topology {
    /// The wire between the nodes.
    pub switch: Node,
    /// The way out.
    pub router: Node,
    /// A host of the world, with an address of [`outside_addresses`].
    pub outside: Node,
    /// The cluster; node number 1 is the first.
    pub nodes: Vec<Node>,
}

/// IPv4 and IPv6, in this order, wherever a host has both.
pub type DualStack<T> = [T; 2];

/// The addresses of node number `number`, counted from 1: `10.100.0.2` and `fd00:100::2` first.
pub fn node_addresses(number: u8) -> DualStack<IpAddr> {
    underlay(u16::from(number) + 1)
}

/// The addresses of a host with an etcd, which is on the switch too.
pub fn etcd_addresses() -> DualStack<IpAddr> {
    underlay(250)
}

/// The name of node number `number`: `node1` first.
pub fn node_name(number: u8) -> String {
    format!("node{number}")
}

/// The Pod ranges of node number `number`: `10.0.1.0/24` and `fd00:0:0:1::/64` first.
pub fn pod_ranges(number: u8) -> DualStack<IpNetwork> {
    [
        network(Ipv4Addr::new(10, 0, number, 0), 24),
        network(Ipv6Addr::new(0xfd00, 0, 0, number.into(), 0, 0, 0, 0), 64),
    ]
}

/// The addresses of the host behind the router.
pub fn outside_addresses() -> DualStack<IpAddr> {
    beyond(10)
}

/// The addresses of node number `number` if it is behind the router: `10.101.0.2` and `fd00:101::2`
/// first.
pub fn addresses_behind_router(number: u8) -> DualStack<IpAddr> {
    behind(u16::from(number) + 1)
}

const ROUTER: u16 = 1;

fn underlay(host: u16) -> DualStack<IpAddr> {
    in_networks(Ipv4Addr::new(10, 100, 0, 0), 0x100, host)
}

fn behind(host: u16) -> DualStack<IpAddr> {
    in_networks(Ipv4Addr::new(10, 101, 0, 0), 0x101, host)
}

fn in_networks(v4: Ipv4Addr, v6: u16, host: u16) -> DualStack<IpAddr> {
    let v4 = Ipv4Addr::from_bits(v4.to_bits() + u32::from(host));
    [v4.into(), Ipv6Addr::new(0xfd00, v6, 0, 0, 0, 0, 0, host).into()]
}

fn beyond(host: u8) -> DualStack<IpAddr> {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into());
    [Ipv4Addr::new(192, 0, 2, host).into(), v6.into()]
}

impl Topology {
    /// Builds it of throw-away hosts.
    ///
    /// # Errors
    /// The process may not make namespaces, or the kernel refuses a link, an address or a route.
    pub fn create(nodes: u8) -> Result<Self> {
        Self::build(nodes, Node::create)
    }

    /// Builds it of throw-away hosts, with the last node behind the router.
    ///
    /// # Errors
    /// As [`Topology::create`].
    pub fn create_with_one_behind(nodes: u8) -> Result<Self> {
        Self::build_with(nodes, Some(nodes), Node::create)
    }

    /// Builds it of hosts that `host` makes by name.
    ///
    /// # Errors
    /// As [`Topology::create`], or `host` fails.
    pub fn build(nodes: u8, host: impl FnMut(&str) -> Result<Node>) -> Result<Self> {
        Self::build_with(nodes, None, host)
    }

    /// As [`Topology::build`], with the node of this number behind the router.
    ///
    /// # Errors
    /// As [`Topology::build`].
    pub fn build_with(
        nodes: u8,
        behind: Option<u8>,
        mut host: impl FnMut(&str) -> Result<Node>,
    ) -> Result<Self> {
        let switch = host("switch")?;
        make_switch(&switch)?;
        let router = host("router")?;
        let outside = host("outside")?;
        attach(&switch, &router, underlay(ROUTER))?;
        make_way_out(&router, &outside)?;
        let nodes = (1..=nodes).map(|number| {
            let node = host(&node_name(number))?;
            match behind {
                Some(behind) if behind == number => attach_behind_router(&router, &node, number)?,
                _ => attach_node(&switch, &node, number)?,
            }
            Ok(node)
        });
        Ok(Topology { nodes: nodes.collect::<Result<_>>()?, switch, router, outside })
    }
}

const BRIDGE: &str = "switch";

fn make_switch(switch: &Node) -> Result<()> {
    let bridge = Bridge { name: BRIDGE, mac: mac(0xff, 0), mtu: None };
    Ok(switch.rtnl()?.request(&bridge.create())?)
}

/// Makes a host the node of this number: with its addresses on the switch, and the way out.
///
/// # Errors
/// The kernel refuses a link, an address or a route.
pub fn attach_node(switch: &Node, host: &Node, number: u8) -> Result<()> {
    attach(switch, host, node_addresses(number))?;
    default_routes(host, UPLINK, underlay(ROUTER))
}

/// Makes a host the node of this number, behind the router: the wire is the router's own, and nobody
/// else is on it.
///
/// # Errors
/// The kernel refuses a link, an address or a route.
pub fn attach_behind_router(router: &Node, host: &Node, number: u8) -> Result<()> {
    let peer = VethPeer { namespace: host.netns(), name: UPLINK, mac: Some(mac(number, 4)) };
    let wire = Veth { name: &host.name, mac: mac(number, 5), master: None, mtu: None, peer };
    router.rtnl()?.request(&wire.create())?;
    address_link(router, &host.name, behind(ROUTER))?;
    address_link(host, UPLINK, addresses_behind_router(number))?;
    default_routes(host, UPLINK, behind(ROUTER))
}

/// Lets a host on the switch reach what is behind the router.
///
/// # Errors
/// The kernel refuses a route.
pub fn add_way_out(host: &Node) -> Result<()> {
    default_routes(host, UPLINK, underlay(ROUTER))
}

/// The addresses of a host's uplink, wherever it is.
///
/// # Errors
/// It does not have one a family.
pub fn uplink_addresses(host: &Node) -> Result<DualStack<IpAddr>> {
    let mut rtnl = host.rtnl()?;
    let link = index(&mut rtnl, UPLINK)?;
    let own = rtnl.addresses(link)?.into_iter().filter(|own| !own.link_local);
    let mut own: Vec<IpAddr> = own.map(|own| own.address.ip()).collect();
    own.sort_by_key(IpAddr::is_ipv6);
    let wrong = |own: Vec<IpAddr>| LabError::Wrong(format!("{} has {own:?}", host.name));
    own.try_into().map_err(wrong)
}

/// Takes the wire between the switch and a host away, by the host's name.
///
/// # Errors
/// The kernel refuses.
pub fn detach(switch: &Node, host: &str) -> Result<()> {
    let mut rtnl = switch.rtnl()?;
    match rtnl.link_by_name(host)? {
        Some(port) => Ok(rtnl.request(&link::delete(port.index))?),
        None => Ok(()),
    }
}

/// Gives a host an uplink to the switch with these addresses.
///
/// # Errors
/// The kernel refuses a link or an address.
pub fn attach(switch: &Node, host: &Node, addresses: DualStack<IpAddr>) -> Result<()> {
    let mut rtnl = switch.rtnl()?;
    let master = rtnl.link_by_name(BRIDGE)?.map(|bridge| bridge.index);
    let number = last_byte(addresses[0]);
    let peer = VethPeer { namespace: host.netns(), name: UPLINK, mac: Some(mac(number, 1)) };
    let port = Veth { name: &host.name, mac: mac(number, 2), master, mtu: None, peer };
    rtnl.request(&port.create())?;
    address_link(host, UPLINK, addresses)
}

fn make_way_out(router: &Node, outside: &Node) -> Result<()> {
    const OUTWARD: &str = "eth1";
    let peer = VethPeer { namespace: outside.netns(), name: UPLINK, mac: Some(mac(10, 3)) };
    let wire = Veth { name: OUTWARD, mac: mac(1, 3), master: None, mtu: None, peer };
    router.rtnl()?.request(&wire.create())?;
    address_link(router, OUTWARD, beyond(1))?;
    address_link(outside, UPLINK, outside_addresses())?;
    default_routes(outside, UPLINK, beyond(1))?;
    forward(router.netns())
}

fn forward(netns: &NetNs) -> Result<()> {
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        netns.run(|| sysctl::set(setting, "1"))??;
    }
    Ok(())
}

/// Brings a link up and gives it addresses, in networks of the lab's usual sizes.
fn address_link(host: &Node, name: &str, addresses: DualStack<IpAddr>) -> Result<()> {
    let mut rtnl = host.rtnl()?;
    let link = index(&mut rtnl, name)?;
    // Without duplicate address detection, every address can be used at once, the link-local ones
    // too: a router asks for its neighbours with them.
    let setting = format!("net/ipv6/conf/{name}/accept_dad");
    host.netns().run(|| sysctl::set(&setting, "0"))??;
    rtnl.request(&link::set_up(link))?;
    for address in addresses {
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        rtnl.request(&address::add(link, network(address, prefix), false))?;
    }
    Ok(())
}

fn default_routes(host: &Node, name: &str, gateways: DualStack<IpAddr>) -> Result<()> {
    let mut rtnl = host.rtnl()?;
    let link = index(&mut rtnl, name)?;
    for gateway in gateways {
        let everything = match gateway {
            IpAddr::V4(_) => network(Ipv4Addr::UNSPECIFIED, 0),
            IpAddr::V6(_) => network(Ipv6Addr::UNSPECIFIED, 0),
        };
        rtnl.request(&route::add(&Route::new(everything).via(gateway).dev(link)))?;
    }
    Ok(())
}

fn index(rtnl: &mut Rtnl, name: &str) -> Result<u32> {
    let link = rtnl.link_by_name(name)?;
    link.map(|link| link.index).ok_or_else(|| LabError::Wrong(format!("the link {name:?} is gone")))
}

/// Addresses that are the same in every run, so that output can be compared.
fn mac(host: u8, role: u8) -> MacAddress {
    MacAddress([0x02, 0xcb, 0x00, 0x00, role, host])
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

/// An address with its prefix; one longer than the address is cut to it.
fn network(address: impl Into<IpAddr>, prefix: u8) -> IpNetwork {
    let address = address.into();
    IpNetwork::new(address, prefix).unwrap_or_else(|_| address.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;
    use crate::probe::{self, Endpoint, Source};
    use crate::require;

    #[test]
    fn nodes_reach_each_other_and_the_outside_with_their_own_addresses() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let lab = Topology::create(2)?;
        let _second = Endpoint::serve(lab.nodes[1].netns())?;
        let _outside = Endpoint::serve(lab.outside.netns())?;
        for family in 0..2 {
            let own = node_addresses(1)[family];
            let expected = Source { own, seen: own };
            let first = lab.nodes[0].netns();
            assert_eq!(probe::call(first, node_addresses(2)[family])?, expected);
            assert_eq!(probe::call(first, outside_addresses()[family])?, expected);
        }
        Ok(())
    }
}
