//! A node may change from the Go reference plugin to ours and back with Pods on it.

use std::net::IpAddr;

use cbr0_tests::counts::Counts;
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::Runtime;
use cbr0_tests::strace::Strace;
use cbr0_tests::{Outcome, Result, bins};
use serde_json::{Value, json};

use super::fixture::{Host, refused};

/// The runtime of a node whose plugins are exchanged; it keeps its results.
fn runtime<'a>(host: &'a Host, variant: &str) -> Result<Option<Runtime<'a>>> {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(None) };
    let mut runtime = host.ours()?;
    runtime.cni_path = vec![reference, bins::plugin_dir()?];
    runtime.path = Some(host.path(variant)?);
    Ok(Some(runtime))
}

fn keys(policy: &str) -> Value {
    json!({"backend": "iptables", "ingressPolicy": policy})
}

/// The rules of Pods, of both variants.
fn pod_rules(host: &Host) -> Result<Vec<String>> {
    let mut rules = host.pod_rules()?;
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        let saved = host.iptables(program, &[])?;
        let is_of_pod = |line: &&str| line.starts_with("-A CNI-FORWARD") && line.contains("ACCEPT");
        rules.extend(saved.lines().filter(is_of_pod).map(str::to_owned));
    }
    Ok(rules)
}

#[test]
fn what_the_reference_made_is_checked_and_removed() -> Outcome {
    for variant in ["nft", "legacy"] {
        for policy in ["open", "same-bridge", "isolated"] {
            let Some(host) = Host::new()? else { return Ok(()) };
            if variant == "nft" {
                host.close()?;
            }
            let Some(mut runtime) = runtime(&host, variant)? else { return Ok(()) };
            let network = host.network(1, &keys(policy));
            let (pod, other) = (Pod::create("pod")?, Pod::create("other")?);
            for pod in [&pod, &other] {
                runtime.add(&network, &pod.attachment())?;
            }
            assert_eq!(pod_rules(&host)?.len(), 8, "{variant} {policy}");
            runtime.cni_path.remove(0);
            runtime.check(&network, &pod.attachment())?;
            runtime.del(&network, &pod.attachment())?;
            assert_eq!(pod_rules(&host)?.len(), 4, "{variant} {policy}");
            runtime.check(&network, &other.attachment())?;
            runtime.del(&network, &other.attachment())?;
            assert_eq!(pod_rules(&host)?, Vec::<String>::new(), "{variant} {policy}");
        }
    }
    Ok(())
}

/// A runtime that has lost its results, of a node whose plugins are ours by now.
fn bare<'a>(host: &'a Host, variant: &str) -> Result<Runtime<'a>> {
    let mut runtime = host.ours()?;
    runtime.path = Some(host.path(variant)?);
    Ok(runtime)
}

/// Asserts that the rules are those of these Pods, in both families.
fn assert_rules_of(host: &Host, addresses: &[IpAddr], when: &str) -> Result<()> {
    let rules = pod_rules(host)?;
    assert_eq!(rules.len(), 2 * addresses.len(), "{when}: {rules:#?}");
    for address in addresses {
        let of_it = rules.iter().filter(|rule| rule.contains(&format!(" {address}/")));
        assert_eq!(of_it.count(), 2, "{when}: {address} in {rules:#?}");
    }
    Ok(())
}

/// The interface tells its addresses, and what masquerades them when it is gone.
#[test]
fn what_the_reference_made_is_removed_without_its_result() -> Outcome {
    for variant in ["nft", "legacy"] {
        let Some(host) = Host::new()? else { return Ok(()) };
        if variant == "nft" {
            host.close()?;
        }
        let Some(mut theirs) = runtime(&host, variant)? else { return Ok(()) };
        let mut network = host.network(1, &keys("open"));
        network.plugins[0].insert("ipMasq".into(), json!(true));
        network.plugins[0].insert("ipMasqBackend".into(), json!("iptables"));
        let stays = Pod::create("stays")?;
        let stay = addresses(&theirs.add(&network, &stays.attachment())?)?;
        for with_netns in [true, false] {
            let when = format!("{variant}, namespace: {with_netns}");
            let goes = Pod::create("goes")?;
            let gone = addresses(&theirs.add(&network, &goes.attachment())?)?;
            assert_rules_of(&host, &[&stay[..], &gone].concat(), &when)?;
            let attachment = goes.attachment();
            let attachment = if with_netns { attachment } else { attachment.without_netns() };
            for turn in ["DEL", "a second DEL"] {
                bare(&host, variant)?.del(&network, &attachment)?;
                assert_rules_of(&host, &stay, &format!("{turn}, {when}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn del_without_a_result_takes_nothing_of_the_container_s_other_interface() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let Some(mut theirs) = runtime(&host, "nft")? else { return Ok(()) };
    let mut network = host.network(1, &keys("open"));
    network.plugins[0].insert("ipMasq".into(), json!(true));
    network.plugins[0].insert("ipMasqBackend".into(), json!("iptables"));
    let mut second = network.clone();
    second.plugins[0].remove("isDefaultGateway");
    let pod = Pod::create("pod")?;
    let mut eth1 = pod.attachment();
    eth1.ifname = "eth1".into();
    let first = addresses(&theirs.add(&network, &pod.attachment())?)?;
    theirs.add(&second, &eth1)?;
    // What masquerades is the container's, whichever interface it is for: the second DEL sees that.
    let ours = bare(&host, "nft")?;
    for turn in ["DEL", "a second DEL"] {
        let del = ours.call(&second, 1, "DEL", Some(&eth1))?.run(&host.node)?;
        assert_eq!(del.failure(), None);
        assert_rules_of(&host, &first, turn)?;
        kernel::Rtnl::open_in(pod.netns())?.link_by_name("eth1")?.map_or(Ok(()), |link| {
            kernel::Rtnl::open_in(pod.netns())?.request(&kernel::link::delete(link.index))
        })?;
    }
    Ok(())
}

#[test]
fn the_reference_checks_and_removes_what_we_made() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let Some(mut theirs) = runtime(&host, "nft")? else { return Ok(()) };
    let network = host.network(1, &keys("open"));
    let pod = Pod::create("pod")?;
    let reference = theirs.cni_path.remove(0);
    theirs.add(&network, &pod.attachment())?;
    theirs.cni_path.insert(0, reference);
    theirs.check(&network, &pod.attachment())?;
    theirs.del(&network, &pod.attachment())?;
    assert_eq!(pod_rules(&host)?, Vec::<String>::new());
    // What is left of ours lets nothing pass, and goes with the next GC.
    assert_eq!(host.owned()?.len(), 1);
    theirs.cni_path.remove(0);
    theirs.gc(&network, &[])?;
    assert_eq!(host.owned()?, Vec::<String>::new());
    Ok(())
}

/// The address is another's by now: what the reference's Pod of old had is this Pod's.
#[test]
fn a_late_del_takes_nothing_from_who_has_the_address_now() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let (old, new) = (Pod::create("old")?, Pod::create("new")?);
    let network = host.network(1, &keys("open"));
    let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.1.5/24"}]});
    let run = |verb: &str, pod: &Pod| -> Result<_> {
        Ok(host.call(&network, verb, pod, &result)?.run(&host.node)?.failure())
    };
    assert_eq!(run("ADD", &new)?, None);
    let text = host.iptables("iptables-nft-save", &[])?;
    host.restore("iptables-nft-restore", &text)?;
    assert_eq!(run("DEL", &old)?, None);
    assert_eq!(run("CHECK", &new)?, None);
    assert_eq!(host.pod_rules()?.len(), 2);
    assert_eq!(run("DEL", &new)?, None);
    assert_eq!(host.pod_rules()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn check_misses_a_rule_of_the_reference() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let Some(mut runtime) = runtime(&host, "nft")? else { return Ok(()) };
    let network = host.network(1, &keys("same-bridge"));
    let pod = Pod::create("pod")?;
    runtime.add(&network, &pod.attachment())?;
    runtime.cni_path.remove(0);
    runtime.check(&network, &pod.attachment())?;
    host.iptables("iptables-nft", &["-F", "CNI-ISOLATION-STAGE-1"])?;
    assert_eq!(refused(runtime.check(&network, &pod.attachment())).code, 102);
    Ok(())
}

/// One question for its own, one for all chains that the reference may have rules in; and where there
/// are none, no further one, and no program.
#[test]
fn del_of_who_has_nothing_asks_twice() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let (network, pod) = (host.network(1, &keys("open")), Pod::create("pod")?);
    let call = host.call(&network, "DEL", &pod, &Value::Null)?;
    let (answer, log) = strace.log(call, &host.node)?;
    assert_eq!(answer.failure(), None);
    let counts = Counts::of(&log);
    assert_eq!((counts.requests, counts.programs), (2, 0), "{log}");
    Ok(())
}
