//! The promise of an address that changes hands: whoever reached the old holder a moment ago reaches
//! the new one with the first packet. The reference loses it for up to a minute.

use std::net::IpAddr;
use std::time::Duration;

use cbr0_tests::node::Node;
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call_within};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::topology::{Topology, UPLINK, node_addresses, pod_ranges};
use cbr0_tests::{Outcome, Result, bins, require};
use kernel::route::{self, Route};
use kernel::{NetNs, sysctl};
use serde_json::json;

/// Less than the second after which TCP tries again: a lost first packet fails the call.
const ONE_TRY: Duration = Duration::from_millis(900);
const HANDS: u32 = 50;

/// A network of one bridge whose IPAM gives only the addresses that end with these numbers.
fn network(node: &Node, number: u8, name: &str, last: [u16; 2]) -> Result<Network> {
    let [v4, v6] = pod_ranges(number);
    let at = |network: IpAddr, last: u16| match network {
        IpAddr::V4(v4) => IpAddr::from((v4.to_bits() + u32::from(last)).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((v6.to_bits() + u128::from(last)).to_be_bytes()),
    };
    let range = |subnet: ipnetwork::IpNetwork| json!([{"subnet": subnet.to_string(), "rangeStart": at(subnet.ip(), last[0]), "rangeEnd": at(subnet.ip(), last[1])}]);
    let ranges = [range(v4), range(v6)];
    Network::from_value(&json!({"cniVersion": "1.0.0", "name": name, "plugins": [{
        "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "dataDir": node.data_dir(), "ranges": ranges},
    }]}))
}

/// The way from one node to the Pods of the other, which a route syncer would keep.
fn make_routes(from: &Node, to: u8) -> Result<()> {
    let mut rtnl = from.rtnl()?;
    let uplink = rtnl.link_by_name(UPLINK)?.unwrap().index;
    for (range, gateway) in pod_ranges(to).into_iter().zip(node_addresses(to)) {
        rtnl.request(&route::add(&Route::new(range).via(gateway).dev(uplink)))?;
    }
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        from.netns().run(|| sysctl::set(key, "1"))??;
    }
    Ok(())
}

/// The peers that do not reach one of the addresses with the first packet.
fn lost(peers: &[(&str, &NetNs)], addresses: &[IpAddr], when: &str) -> Vec<String> {
    let calls = peers.iter().flat_map(|peer| addresses.iter().map(move |address| (peer, address)));
    let failed =
        calls.filter(|((_, netns), address)| call_within(netns, **address, ONE_TRY).is_err());
    failed.map(|((name, _), address)| format!("{when}: {name} did not reach {address}")).collect()
}

#[test]
fn an_address_that_changes_hands_fifty_times_never_loses_a_packet() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let lab = Topology::create(2)?;
    let (first, second) = (&lab.nodes[0], &lab.nodes[1]);
    make_routes(first, 2)?;
    make_routes(second, 1)?;
    let reused = network(first, 1, "reused", [9, 9])?;
    let (neighbour, remote) = (Pod::create("neighbour")?, Pod::create("remote")?);
    let mut here = Runtime::new(first, bins::plugin_dir()?);
    here.add(&network(first, 1, "neighbours", [2, 5])?, &neighbour.attachment())?;
    let mut there = Runtime::new(second, bins::plugin_dir()?);
    there.add(&network(second, 2, "remotes", [2, 5])?, &remote.attachment())?;
    let peers = [
        ("the host", first.netns()),
        ("a Pod on the bridge", neighbour.netns()),
        ("a Pod of another node", remote.netns()),
    ];

    let mut failures = Vec::new();
    for number in 0..HANDS {
        let pod = Pod::create(&format!("holder{number}"))?;
        let result = here.add(&reused, &pod.attachment())?;
        let own = addresses(&result)?;
        let endpoint = Endpoint::serve(pod.netns())?;
        failures.extend(lost(&peers, &own, &format!("holder {number}")));
        drop(endpoint);
        here.del(&reused, &pod.attachment())?;
    }
    let all = HANDS as usize * peers.len() * 2;
    assert!(
        failures.is_empty(),
        "{} of {all} first packets were lost: {failures:#?}",
        failures.len()
    );
    Ok(())
}
