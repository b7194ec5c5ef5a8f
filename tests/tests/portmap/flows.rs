//! Flows that the kernel remembers, when a port goes from one Pod to another.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use cbr0_tests::probe::PORT;
use cbr0_tests::topology::node_addresses;
use cbr0_tests::{Outcome, Result};
use kernel::NetNs;
use serde_json::{Value, json};

use crate::fixture::{Scene, Server};

fn udp(host_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": PORT, "protocol": "udp"})
}

fn socket(netns: &NetNs, address: &str) -> Result<UdpSocket> {
    let socket = netns.run(|| UdpSocket::bind(address))?.unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    Ok(socket)
}

#[track_caller]
fn assert_arrives(from: &UdpSocket, at: &UdpSocket, word: &str) {
    from.send(word.as_bytes()).unwrap();
    let mut buffer = [0; 16];
    let length = at.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}"));
    assert_eq!(&buffer[..length], word.as_bytes());
}

#[track_caller]
fn assert_refused(from: &UdpSocket, word: &str) {
    from.send(word.as_bytes()).unwrap();
    let refusal = from.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::ConnectionRefused, "{word}: {refusal}");
}

#[test]
fn a_flow_of_udp_moves_with_the_port_at_its_next_packet() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    // Refusals are counted upon here.
    for key in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
        scene.node().netns().run(|| kernel::sysctl::set(key, "0"))?.unwrap();
    }
    for (any, address) in ["0.0.0.0:0", "[::]:0"].into_iter().zip(node_addresses(1)) {
        let to = SocketAddr::new(address, 5353);
        let client = socket(scene.topology.outside.netns(), any)?;
        // A flow that leads to nobody is remembered, too. Its packet has come when it is refused.
        client.connect(to).unwrap();
        assert_refused(&client, "early");
        let mut runtime = scene.runtime()?;
        let pods = ["first", "second", "third"].map(|id| Server::new(id, json!([udp(5353)])));
        for (number, server) in pods.into_iter().enumerate() {
            let server = server?;
            runtime.add(&network, &server.attachment)?;
            let inside = socket(server.pod.netns(), &format!("[::]:{PORT}"))?;
            assert_arrives(&client, &inside, &format!("first {number}"));
            assert_arrives(&client, &inside, &format!("second {number}"));
            runtime.del(&network, &server.attachment)?;
            // By the node itself: towards the Pod, nobody would answer.
            assert_refused(&client, "late");
        }
    }
    Ok(())
}
