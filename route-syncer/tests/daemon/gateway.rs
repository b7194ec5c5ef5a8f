//! What the kernel answers while a route is replaced.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::NetNs;
use kernel::netlink::{Message, Protocol, Socket};
use nix::libc;

use crate::lab::{Node, entry, ip, moved};

/// The length of `struct rtmsg`, and where it has the kind of the route.
const HEADER: usize = 12;
const KIND: usize = 7;
const MOVES: usize = 50;

/// P6, for somebody who asks all the time.
#[test]
fn p06_at_no_instant_of_a_move_is_there_no_way_or_another() {
    let node = Node::new(&format!("[{}, {}]", entry(1), entry(2)));
    let _daemon = node.start();
    let mut monitor = node.monitor();
    let is_over = AtomicBool::new(false);
    let ways = std::thread::scope(|scope| {
        let (is_over, ns) = (&is_over, &node.ns);
        let ask = |to| scope.spawn(move || ask_until(is_over, ns, ip(to)));
        let asking = ["10.0.2.9", "fd00:2::9"].map(ask);
        for number in 0..MOVES {
            let address = if number % 2 == 0 { 9 } else { 2 };
            node.list(&format!("[{}, {}]", entry(1), moved(2, address)));
            monitor.wait_for_new("10.0.2.0/24");
            monitor.wait_for_new("fd00:2::/64");
            monitor.writes();
        }
        is_over.store(true, Ordering::Relaxed);
        asking.map(|thread| thread.join().unwrap())
    });
    let both = |family: [&str; 2]| BTreeSet::from(family.map(|one| format!("via {one}")));
    let expected = [both(["10.100.0.2", "10.100.0.9"]), both(["fd00:100::2", "fd00:100::9"])];
    assert_eq!(ways, expected);
}

/// All the ways that the kernel tells to an address, asked again and again.
fn ask_until(is_over: &AtomicBool, ns: &NetNs, to: IpAddr) -> BTreeSet<String> {
    let mut socket = ns.run(|| Socket::open(Protocol::Route).unwrap()).unwrap();
    let mut ways = BTreeSet::new();
    while !is_over.load(Ordering::Relaxed) {
        ways.insert(way(&mut socket, to));
    }
    ways
}

fn way(socket: &mut Socket, to: IpAddr) -> String {
    let (family, octets, bits) = match to {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec(), 32),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec(), 128),
    };
    let mut header = [0; HEADER];
    (header[0], header[1]) = (family as u8, bits);
    let question = Message::new("ask for a way", libc::RTM_GETROUTE, 0, &header);
    let question = question.put(libc::RTA_DST, &octets);
    match socket.get(&[question]).unwrap().remove(0) {
        Err(refused) => format!("none: {refused}"),
        Ok(way) if way.u8_at(KIND) != libc::RTN_UNICAST => format!("kind {}", way.u8_at(KIND)),
        Ok(way) => match way.attributes(HEADER).get(libc::RTA_GATEWAY).map(|via| via.value) {
            Some(via) => format!("via {}", address(via)),
            None => "without a gateway".to_owned(),
        },
    }
}

fn address(octets: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(octets) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(octets).unwrap().into(),
    }
}
