//! Pods attached by hand, for what their packets go through: a bridge, veth pairs, addresses, routes.

use std::net::IpAddr;

use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use cbr0_tests::{LabError, Result};
use ipnetwork::IpNetwork;
use kernel::link::{Bridge, Veth, VethPeer};
use kernel::route::{self, Route};
use kernel::{MacAddress, Rtnl, address, link};

const BRIDGE: &str = "cbr0";

/// Hangs Pods on a bridge of the host, which gets the range's first address; theirs follow. The
/// Pods' addresses.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn attach(host: &Node, pods: &[Pod], range: IpNetwork) -> Result<Vec<IpAddr>> {
    let mut rtnl = host.rtnl()?;
    rtnl.request(&Bridge { name: BRIDGE, mac: mac(1, 0), mtu: None }.create())?;
    let bridge = index(&mut rtnl, BRIDGE)?;
    let gateway = numbered(range, 1)?;
    rtnl.request(&address::add(bridge, gateway, false))?;
    let mut given = Vec::new();
    for (pod, number) in pods.iter().zip(2..) {
        let name = format!("veth{number}");
        let peer = VethPeer { namespace: pod.netns(), name: "eth0", mac: Some(mac(2, number)) };
        let veth = Veth { name: &name, mac: mac(3, number), master: Some(bridge), mtu: None, peer };
        rtnl.request(&veth.create())?;
        let own = numbered(range, number)?;
        let mut inside = Rtnl::open_in(pod.netns())?;
        let eth0 = index(&mut inside, "eth0")?;
        let everything = IpNetwork::new("0.0.0.0".parse().map_err(wrong)?, 0).map_err(wrong)?;
        inside.request_all(&[
            link::set_up(eth0),
            address::add(eth0, own, false),
            route::add(&Route::new(everything).via(gateway.ip()).dev(eth0)),
        ])?;
        given.push(own.ip());
    }
    Ok(given)
}

fn index(rtnl: &mut Rtnl, name: &str) -> Result<u32> {
    let found = rtnl.link_by_name(name)?;
    found.map(|link| link.index).ok_or_else(|| LabError::Wrong(format!("{name:?} is gone")))
}

/// The address of this number in an IPv4 range.
fn numbered(range: IpNetwork, number: u8) -> Result<IpNetwork> {
    match range {
        IpNetwork::V4(v4) => {
            let [a, b, c, _] = v4.network().octets();
            IpNetwork::new([a, b, c, number].into(), v4.prefix()).map_err(wrong)
        }
        IpNetwork::V6(v6) => Err(LabError::Wrong(format!("{v6} is not of IPv4"))),
    }
}

fn wrong(error: impl std::fmt::Display) -> LabError {
    LabError::Wrong(error.to_string())
}

fn mac(role: u8, number: u8) -> MacAddress {
    MacAddress([0x02, 0xcb, 0x01, 0, role, number])
}
