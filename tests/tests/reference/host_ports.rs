//! Ports of the host that the reference's portmap mapped, in each of its ways, end with our DEL or GC.

use std::net::SocketAddr;
use std::time::Duration;

use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{self, Endpoint, PORT};
use cbr0_tests::runtime::{Attachment, Network};
use cbr0_tests::strace::Strace;
use cbr0_tests::topology::node_addresses;
use cbr0_tests::{LabError, Outcome, Result, bins};
use serde_json::{Value, json};

use crate::fixture::{Backend, Scene, assert_same, interface, wrong};

const SUBNETS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// The reference does not wait until a bridge with its first port knows its neighbours in IPv6, which
/// takes seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a runtime maps: a port of each protocol, and one at one address of the host.
fn mappings(host_port: u16) -> Value {
    json!([
        {"hostPort": host_port, "containerPort": PORT, "protocol": "tcp"},
        {"hostPort": host_port, "containerPort": 53, "protocol": "udp"},
        {"hostPort": host_port + 1, "containerPort": 81, "protocol": "tcp", "hostIP": "10.100.0.2"},
    ])
}

/// The attachment, for which the runtime maps ports.
pub(crate) fn mapped(attachment: Attachment, host_port: u16) -> Attachment {
    let mut attachment = attachment;
    attachment.capability_args.insert("portMappings".into(), mappings(host_port));
    attachment
}

/// A network with these subnets and the reference's portmap behind its bridge.
pub(crate) fn network(scene: &Scene, backend: Backend, name: &str, subnets: &[&str]) -> Network {
    let mut network = scene.network_with(name, subnets, &json!({"ipMasq": false}));
    let portmap = json!({
        "type": "portmap", "backend": backend.name(), "capabilities": {"portMappings": true},
    });
    network.plugins.push(portmap.as_object().unwrap().clone());
    network
}

/// An ADD and a DEL by the reference, after which only what attachments own may change.
pub(crate) fn warm_up(scene: &Scene, network: &Network) -> Result<()> {
    let pod = Pod::create("warm-up")?;
    let (mut theirs, attachment) = (scene.theirs(), mapped(pod.attachment(), 9000));
    theirs.add(network, &attachment)?;
    theirs.del(network, &attachment)?;
    scene.ours()?.del(network, &pod.attachment())
}

/// A Pod that answers, added by the reference.
pub(crate) struct Server {
    pub(crate) pod: Pod,
    _endpoint: Endpoint,
}

impl Server {
    pub(crate) fn add(scene: &Scene, network: &Network, id: &str, port: u16) -> Result<Server> {
        let pod = Pod::create(id)?;
        scene.theirs().add(network, &mapped(pod.attachment(), port))?;
        let server = Server { _endpoint: Endpoint::serve(pod.netns())?, pod };
        assert_reached(scene, port)?;
        Ok(server)
    }
}

/// Asserts that somebody answers at the node's port in both families.
pub(crate) fn assert_reached(scene: &Scene, port: u16) -> Result<()> {
    for address in node_addresses(1) {
        let to = SocketAddr::new(address, port);
        let answer = probe::call_port(scene.topology.outside.netns(), to, DEADLINE);
        answer.map_err(|error| wrong(&format!("{to}: {error}")))?;
    }
    Ok(())
}

/// A second Pod of the reference stands beside it all the time. The runtime has neither a result nor
/// mappings to hand down.
fn del_needs_the_names_alone(backend: Backend) -> Outcome {
    let Some(scene) = Scene::new(backend)? else { return Ok(()) };
    let network = network(&scene, backend, "net", &SUBNETS);
    warm_up(&scene, &network)?;
    let _stays = Server::add(&scene, &network, "stays", 8000)?;
    let before = scene.rules()?;
    let mut ours = scene.ours()?;
    for with_netns in [true, false] {
        let goes = Server::add(&scene, &network, "goes", 8100)?;
        assert_ne!(scene.rules()?, before);
        let attachment = goes.pod.attachment();
        let attachment = if with_netns { attachment } else { attachment.without_netns() };
        for turn in ["DEL", "a second DEL"] {
            ours.del(&network, &attachment)?;
            let when = format!("{turn}, {backend:?}, namespace: {with_netns}");
            assert_same(&before, &scene.rules()?, &when);
        }
    }
    Ok(assert_reached(&scene, 8000)?)
}

#[test]
fn iptables_nft() -> Outcome {
    del_needs_the_names_alone(Backend::IptablesNft)
}

#[test]
fn iptables_legacy() -> Outcome {
    del_needs_the_names_alone(Backend::IptablesLegacy)
}

#[test]
fn nftables() -> Outcome {
    del_needs_the_names_alone(Backend::Nftables)
}

/// A runtime keeps its results when its plugins are replaced.
#[test]
fn check_sees_what_the_reference_mapped_and_nothing_else() -> Outcome {
    for backend in Backend::ALL {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let network = network(&scene, backend, "net", &SUBNETS);
        let pod = Pod::create("pod")?;
        let attachment = mapped(pod.attachment(), 8000);
        let mut runtime = scene.theirs();
        runtime.add(&network, &attachment)?;
        runtime.cni_path = vec![bins::plugin_dir()?];
        runtime.check(&network, &attachment)?;
        let differs =
            |attachment: &Attachment, when: &str| match runtime.check(&network, attachment) {
                Err(LabError::Plugin(failure)) => {
                    let text = format!("{backend:?}, {when}: {failure}");
                    assert_eq!(failure.error.code, 102, "{text}");
                    assert!(failure.error.msg.contains("does not lead to"), "{text}");
                }
                other => panic!("{backend:?}, {when}: {other:?}"),
            };
        differs(&mapped(pod.attachment(), 8001), "another port");
        match backend {
            Backend::IptablesNft => {
                scene.iptables("ip6tables-nft", &["-t", "nat", "-F", "CNI-HOSTPORT-DNAT"])?
            }
            Backend::IptablesLegacy => {
                scene.iptables("ip6tables-legacy", &["-t", "nat", "-F", "CNI-HOSTPORT-DNAT"])?
            }
            Backend::Nftables => {
                scene.nft(&["flush", "chain", "ip6", "cni_hostport", "hostports"])?
            }
        };
        differs(&attachment, "without the rules of IPv6");
    }
    Ok(())
}

/// The rules in nftables do not name the network.
#[test]
fn gc_removes_what_is_not_valid_and_of_this_network_only() -> Outcome {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let net = network(&scene, backend, "net", &SUBNETS);
        // Its name begins with the other's.
        let other = network(&scene, backend, "net2", &["10.2.0.0/24", "fd00:2::/64"]);
        warm_up(&scene, &net)?;
        warm_up(&scene, &other)?;
        let valid = Server::add(&scene, &net, "valid", 8000)?;
        let _foreign = Server::add(&scene, &other, "foreign", 8100)?;
        let before = scene.rules()?;

        let _stale = Server::add(&scene, &net, "stale", 8200)?;
        scene.ours()?.gc(&net, &[&valid.pod.attachment()])?;
        assert_same(&before, &scene.rules()?, &format!("GC, {backend:?}"));
        for port in [8000, 8100] {
            assert_reached(&scene, port)?;
        }
    }
    Ok(())
}

/// The program may have been taken away while its table is still loaded.
#[test]
fn without_the_legacy_program_del_succeeds_all_the_same() -> Outcome {
    let Some(scene) = Scene::new(Backend::IptablesLegacy)? else { return Ok(()) };
    let network = network(&scene, Backend::IptablesLegacy, "net", &SUBNETS);
    let server = Server::add(&scene, &network, "server", 8000)?;
    let mut ours = scene.ours()?;
    ours.path = Some("/nowhere".to_owned());
    let del = ours.call(&network, 1, "DEL", Some(&server.pod.attachment()))?;
    assert_eq!(del.run(scene.node())?.failure(), None);
    Ok(())
}

/// Who has nothing costs two questions: one for its own record, and one for all chains that there might
/// be. No program is run for a table that is not there.
#[test]
fn del_of_who_has_nothing_asks_once_for_what_the_reference_may_have_made() -> Outcome {
    let Some(scene) = Scene::new(Backend::IptablesNft)? else { return Ok(()) };
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let network = network(&scene, Backend::IptablesNft, "net", &SUBNETS);
    let _stays = Server::add(&scene, &network, "stays", 8000)?;
    let pod = Pod::create("pod")?;
    let ours = scene.ours()?;
    let del = || ours.call(&network, 1, "DEL", Some(&interface(&pod, "eth0")));
    let (answer, log) = strace.log(del()?, scene.node())?;
    assert_eq!(answer.failure(), None);
    let counts = cbr0_tests::counts::Counts::of(&log);
    assert_eq!((counts.requests, counts.programs), (2, 0), "{log}");
    Ok(())
}
