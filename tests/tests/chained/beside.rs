//! On a node that Docker, kube-proxy and firewalld have rules on: theirs stay as they are, and work.

use std::net::{IpAddr, SocketAddr};

use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{self, Endpoint, PORT};
use cbr0_tests::runtime::Network;
use cbr0_tests::{Outcome, Result};
use kernel::{NetNs, Rtnl, address};
use serde_json::json;

use crate::firewall::fixture::{Answering, Host, assert_same, world};

/// The world's addresses: one that firewalld lets packets to, and one that it does not.
const ALLOWED: &str = "192.0.2.1";
const FORBIDDEN: &str = "192.0.2.9";
/// The node's address for the world.
const NODE: &str = "192.0.2.2";

/// What Docker has for a container with a published port, on a bridge `br7`.
const DOCKER: &str = "\
*nat
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.0.7.0/24 ! -o br7 -j MASQUERADE
-A DOCKER ! -i br7 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 10.0.7.2:7000
COMMIT
*filter
:DOCKER -
:DOCKER-FORWARD -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -o br7 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -o br7 -j DOCKER
-A DOCKER-FORWARD -i br7 -j ACCEPT
-A DOCKER -d 10.0.7.2/32 ! -i br7 -o br7 -p tcp -m tcp --dport 7000 -j ACCEPT
COMMIT
";

/// What kube-proxy has for a service with one Pod, the first of network 1.
const KUBE_PROXY: &str = "\
*nat
:KUBE-SERVICES -
:KUBE-SVC-ERIFXISQEP7F7OF4 -
:KUBE-SEP-5XVDPW5HZJ7XKHQK -
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment \"a service\" -m tcp --dport 443 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SVC-ERIFXISQEP7F7OF4 -j KUBE-SEP-5XVDPW5HZJ7XKHQK
-A KUBE-SEP-5XVDPW5HZJ7XKHQK -p tcp -m tcp -j DNAT --to-destination 10.0.1.2:7000
COMMIT
*filter
:KUBE-FORWARD -
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
";

/// What firewalld has, with a policy against one address.
const FIREWALLD: &str = "
table inet firewalld {
    chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; }
    chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname \"lo\" accept
        ip daddr 192.0.2.9 reject with icmpx type admin-prohibited
    }
}
";

/// A node of theirs, with a container of Docker's and the world.
struct Scene {
    host: Host,
    world: NetNs,
    _outside: Endpoint,
    _docker: Answering,
}

impl Scene {
    fn new() -> Result<Option<Scene>> {
        let Some(host) = Host::closed()? else { return Ok(None) };
        let world = world(&host.node)?;
        let mut beyond = Rtnl::open_in(&world)?;
        let link = beyond.link_by_name("far0")?.unwrap().index;
        let forbidden = format!("{FORBIDDEN}/24").parse().unwrap();
        beyond.request(&address::add(link, forbidden, false))?;
        let _docker = Answering::add(&mut host.ours()?, &host.bridge(7), "docker")?;
        for text in [DOCKER, KUBE_PROXY] {
            host.iptables_restore(text)?;
        }
        host.nft(&["-f", "-"], FIREWALLD)?;
        Ok(Some(Scene { _outside: Endpoint::serve(&world)?, host, world, _docker }))
    }

    /// Bridge, portmap and firewall.
    fn network(&self) -> Network {
        let mut network = self.host.network(1, &json!({"ingressPolicy": "same-bridge"}));
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        network.plugins.insert(1, portmap.as_object().unwrap().clone());
        network
    }

    /// Asserts that Docker's published port leads to its container.
    fn assert_published(&self, when: &str) {
        let answer = reach(&self.world, NODE, 9000);
        assert!(answer.is_ok(), "{when}: Docker's port: {answer:?}");
    }
}

fn reach(from: &NetNs, to: &str, port: u16) -> Result<IpAddr> {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    Ok(probe::call_port(from, to, probe::DEADLINE)?.seen)
}

#[test]
fn the_rules_of_others_stay_and_work_and_so_do_ours() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let host = &scene.host;
    let network = scene.network();
    let before = host.ruleset()?;
    scene.assert_published("before");

    let mut runtime = host.ours()?;
    let server = Answering::of(Pod::create("server")?)?;
    let mut attachment = server.pod.attachment();
    let ports = json!([{"hostPort": 8000, "containerPort": PORT, "protocol": "tcp"}]);
    attachment.capability_args.insert("portMappings".into(), ports);
    runtime.add(&network, &attachment)?;
    let caller = Pod::create("caller")?;
    runtime.add(&network, &caller.attachment())?;
    let with_pods = host.ruleset()?;
    let lost: Vec<_> = before.difference(&with_pods).collect();
    assert!(lost.is_empty(), "lost {lost:#?}");

    scene.assert_published("with Pods");
    let caller_s = reach(caller.netns(), ALLOWED, PORT);
    assert!(caller_s.is_ok(), "a Pod to the world: {caller_s:?}");
    let forbidden = reach(caller.netns(), FORBIDDEN, PORT);
    assert!(forbidden.is_err(), "firewalld's rule does not hold: {forbidden:?}");
    let service = reach(caller.netns(), "10.96.0.10", 443);
    assert!(service.is_ok(), "kube-proxy's service: {service:?}");
    let own = reach(host.node.netns(), NODE, 8000);
    assert!(own.is_ok(), "our port: {own:?}");
    runtime.check(&network, &attachment)?;

    runtime.del(&network, &attachment)?;
    runtime.del(&network, &caller.attachment())?;
    let after = host.ruleset()?;
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "lost with DEL: {lost:#?}");
    scene.assert_published("after DEL");

    // What stays is shared, and not more with the next Pod.
    runtime.add(&network, &attachment)?;
    runtime.gc(&network, &[])?;
    assert_same(&after, &host.ruleset()?, "ADD and GC");
    assert!(host.pod_rules()?.is_empty());
    scene.assert_published("after GC");
    Ok(())
}

/// Who comes later finds its own rules in the order that it made them in.
#[test]
fn the_way_to_our_chain_is_put_before_the_others_once() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let forward = || -> Result<Vec<String>> {
        let saved = scene.host.iptables("iptables-nft", &["-S", "FORWARD"])?;
        Ok(saved.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect())
    };
    let before = forward()?;
    let mut runtime = scene.host.ours()?;
    for number in 0..3 {
        let pod = Pod::create(&format!("pod{number}"))?;
        runtime.add(&scene.network(), &pod.attachment())?;
        let now = forward()?;
        assert_eq!(now.len(), before.len() + 1);
        assert!(now[0].ends_with("-j CNI-FORWARD"), "{now:?}");
        assert_eq!(now[1..], before[..]);
    }
    Ok(())
}
