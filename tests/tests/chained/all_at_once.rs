//! The usual list, bridge, portmap and firewall, for many Pods at once.

use std::collections::BTreeSet;
use std::thread;

use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{self, PORT};
use cbr0_tests::runtime::{Attachment, Network};
use cbr0_tests::{LabError, Outcome, Result};
use serde_json::json;

use crate::firewall::fixture::{Answering, Host};

const AT_ONCE: u16 = 64;

/// The list on a bridge of this number.
fn network(host: &Host, number: u8) -> Network {
    let mut network = host.network(number, &json!({"ingressPolicy": "same-bridge"}));
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    network.plugins.insert(1, portmap.as_object().unwrap().clone());
    network
}

/// The attachment with a port of the host that leads to it.
fn mapped(attachment: Attachment, host_port: u16) -> Attachment {
    let mut attachment = attachment;
    let ports = json!([{"hostPort": host_port, "containerPort": PORT, "protocol": "tcp"}]);
    attachment.capability_args.insert("portMappings".into(), ports);
    attachment
}

/// A Pod comes and goes.
fn warm_up(host: &Host, network: &Network) -> Result<()> {
    let pod = Pod::create("warm-up")?;
    let mut runtime = host.ours()?;
    runtime.add(network, &mapped(pod.attachment(), 9000))?;
    runtime.del(network, &pod.attachment())
}

/// Does something for each of them, all at once; what they return, in their order.
fn at_once<T: Send>(
    pods: &[(Pod, Attachment)],
    work: impl Fn(&Attachment) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> =
            pods.iter().map(|(_, attachment)| scope.spawn(move || work(attachment))).collect();
        let died = |_| LabError::Wrong("a worker thread died".to_owned());
        workers.into_iter().map(|worker| worker.join().map_err(died)?).collect()
    })
}

/// Each rule that there is once, and how often.
fn duplicates(rules: &[String]) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    rules.iter().filter(|rule| !seen.insert(*rule)).collect()
}

fn come_and_go(host: &Host, closed: bool) -> Outcome {
    let network = network(host, 1);
    warm_up(host, &network)?;
    let before = host.nft(&["-s", "list", "ruleset"], "")?;
    let pods = (0..AT_ONCE).map(|number| {
        let pod = Pod::create(&format!("pod{number}"))?;
        let attachment = mapped(pod.attachment(), 8000 + number);
        Ok((pod, attachment))
    });
    let pods: Vec<_> = pods.collect::<Result<_>>()?;
    for round in 0..2 {
        let given = at_once(&pods, |attachment| {
            let mut runtime = host.ours()?;
            let result = runtime.add(&network, attachment)?;
            runtime.check(&network, attachment)?;
            addresses(&result)
        })?;
        let given: BTreeSet<_> = given.into_iter().flatten().collect();
        assert_eq!(given.len(), 2 * usize::from(AT_ONCE), "round {round}");
        let rules = host.pod_rules()?;
        let expected = if closed { 2 * given.len() } else { 0 };
        assert_eq!((rules.len(), duplicates(&rules)), (expected, vec![]), "round {round}");
        if !closed {
            loads_again_elsewhere(host)?;
        }
        at_once(&pods, |attachment| host.ours()?.del(&network, &attachment.without_netns()))?;
        let after = host.nft(&["-s", "list", "ruleset"], "")?;
        assert_eq!(after, before, "round {round}");
        assert_eq!(host.owned()?, Vec::<String>::new(), "round {round}");
    }
    Ok(())
}

/// What is listed can be loaded where there is nothing, and is the same then.
fn loads_again_elsewhere(host: &Host) -> Result<()> {
    let Some(fresh) = Host::new()? else { return Ok(()) };
    let listing = host.nft(&["-s", "list", "ruleset"], "")?;
    fresh.nft(&["-f", "-"], &listing)?;
    assert_eq!(fresh.nft(&["-s", "list", "ruleset"], "")?, listing);
    Ok(())
}

#[test]
fn sixty_four_pods_come_and_go_where_nothing_passes_by_default() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    come_and_go(&host, true)
}

/// Without tables of iptables, whose matches `nft` does not read back.
#[test]
fn the_rules_of_sixty_four_pods_load_again() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    come_and_go(&host, false)
}

#[test]
fn two_networks_of_one_container_are_independent() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let networks = [1, 2].map(|number| {
        let mut network = network(&host, number);
        if number == 2 {
            // Only one interface of a Pod can have the default route.
            network.plugins[0].remove("isDefaultGateway");
            network.plugins[0].insert("isGateway".into(), json!(true));
        }
        network
    });
    for network in &networks {
        warm_up(&host, network)?;
    }
    let before = host.nft(&["-s", "list", "ruleset"], "")?;
    for gone in [0, 1] {
        let server = Answering::of(Pod::create("pod")?)?;
        let attachment = |number: usize| {
            let ifname = format!("eth{number}");
            let attachment = Attachment { ifname, ..server.pod.attachment() };
            mapped(attachment, if number == 0 { 8000 } else { 8100 })
        };
        let mut runtime = host.ours()?;
        let mut targets = Vec::new();
        for (number, network) in networks.iter().enumerate() {
            targets.push(addresses(&runtime.add(network, &attachment(number))?)?);
        }
        runtime.del(&networks[gone], &attachment(gone))?;
        runtime.check(&networks[1 - gone], &attachment(1 - gone))?;
        for address in &targets[1 - gone] {
            probe::call(host.node.netns(), *address)?;
        }
        runtime.del(&networks[1 - gone], &attachment(1 - gone))?;
        assert_eq!(host.nft(&["-s", "list", "ruleset"], "")?, before, "first gone: {gone}");
    }
    Ok(())
}
