//! Packets: what leaves the cluster is masqueraded, and nothing else.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel::link::{Veth, VethPeer, set_up};
use kernel::route::{Route, add};
use kernel::{MacAddress, NetNs, Rtnl, address, sysctl};

use crate::lab::{Node, cidr, entries, ip};

const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace joined to the node's by a veth pair, with an address and a default route.
pub(crate) fn neighbour(
    node: &mut Node,
    name: &str,
    here: &str,
    there: &str,
) -> (NetNs, Rtnl, u32) {
    let namespace = NetNs::create().unwrap();
    let mut inside = Rtnl::open_in(&namespace).unwrap();
    let peer = VethPeer { namespace: &namespace, name: "eth0", mac: None };
    let mac = MacAddress([2, 0, 0, 0, 1, name.len() as u8]);
    node.rtnl.request(&Veth { name, mac, master: None, mtu: None, peer }.create()).unwrap();
    let outer = node.rtnl.link_by_name(name).unwrap().unwrap().index;
    node.rtnl.request(&address::add(outer, cidr(here), false)).unwrap();
    // A router asks for its IPv6 neighbours with its link-local address, and only three times: it
    // must not have to wait for that one.
    let detection = format!("net/ipv6/conf/{name}/accept_dad");
    node.ns.run(|| sysctl::set(&detection, "0").unwrap()).unwrap();

    let eth0 = inside.link_by_name("eth0").unwrap().unwrap().index;
    let lo = inside.link_by_name("lo").unwrap().unwrap().index;
    let default = if cidr(here).is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let requests = [
        set_up(lo),
        set_up(eth0),
        address::add(eth0, cidr(there), false),
        add(&Route::new(cidr(default)).via(cidr(here).ip()).dev(eth0)),
    ];
    inside.request_all(&requests).unwrap();
    (namespace, inside, lo)
}

/// The source address that a packet from the Pod arrives with.
fn seen_as(pod: &NetNs, from: &str, other: &NetNs, to: &str) -> IpAddr {
    let receiver = other.run(|| UdpSocket::bind(SocketAddr::new(ip(to), 0)).unwrap()).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = pod.run(|| UdpSocket::bind(SocketAddr::new(ip(from), 0)).unwrap()).unwrap();
    sender.send_to(b"who am I?", receiver.local_addr().unwrap()).unwrap();
    let (_, source) = receiver.recv_from(&mut [0; 16]).unwrap();
    source.ip()
}

fn check(pod_address: &str, bridge: &str, uplink: [&str; 2], pod2: &str, outside: &str) {
    let mut node = Node::new(&entries(&[1, 2]));
    node.delete_addresses();
    let (pod, ..) = neighbour(&mut node, "pod", bridge, pod_address);
    let (other, mut inside, lo) = neighbour(&mut node, "uplink", uplink[0], uplink[1]);
    for text in [pod2, outside] {
        inside.request(&address::add(lo, cidr(text), false)).unwrap();
    }
    let link = node.rtnl.link_by_name("uplink").unwrap().unwrap().index;
    let way_out = Route::new(cidr(outside)).via(cidr(uplink[1]).ip()).dev(link);
    node.rtnl.request(&add(&way_out)).unwrap();
    let _daemon = node.start();

    let text = |network: &str| cidr(network).ip().to_string();
    let pod_address = text(pod_address);
    let seen = |to: &str| seen_as(&pod, &pod_address, &other, &text(to)).to_string();
    assert_eq!(seen(pod2), pod_address, "to a Pod");
    assert_eq!(seen(uplink[1]), pod_address, "to a node");
    assert_eq!(seen(outside), text(uplink[0]), "out of the cluster");
}

#[test]
fn only_what_leaves_the_cluster_is_masqueraded() {
    let uplink = ["10.100.0.1/24", "10.100.0.2/24"];
    check("10.0.1.7/24", "10.0.1.1/24", uplink, "10.0.2.7/32", "192.0.2.1/32");
}

#[test]
fn only_what_leaves_the_cluster_is_masqueraded_in_ipv6() {
    let uplink = ["fd00:100::1/64", "fd00:100::2/64"];
    check("fd00:1::7/64", "fd00:1::1/64", uplink, "fd00:2::7/128", "2001:db8::1/128");
}
