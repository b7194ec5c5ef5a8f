//! Every verb, in every version that the plugin has.

use cbr0_tests::pod::Pod;
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Outcome, Result};
use serde_json::{Value, json};

use super::fixture::{Answering, Host, refused};

const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// A policy that uses all there is.
fn all() -> Value {
    json!({"ingressPolicy": "isolated"})
}

/// The state after a Pod came and went.
fn warmed_up(host: &Host) -> Result<Snapshot> {
    let network = host.network(1, &all());
    let warm_up = Pod::create("warm-up")?;
    let mut runtime = host.ours()?;
    runtime.add(&network, &warm_up.attachment())?;
    runtime.del(&network, &warm_up.attachment())?;
    Snapshot::take(&host.node)
}

fn assert_as(before: &Snapshot, host: &Host, when: &str) -> Result<()> {
    match before.difference(&Snapshot::take(&host.node)?, &Shared::after_warm_up()) {
        Some(left) => Err(LabError::Wrong(format!("{when} left:\n{left}"))),
        None => Ok(()),
    }
}

#[test]
fn add_hands_the_result_on_and_del_leaves_nothing_in_every_version() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let before = warmed_up(&host)?;
    for version in VERSIONS {
        let mut network = host.network(1, &all());
        network.version = version.into();
        let mut bridge = host.bridge(1);
        bridge.version = version.into();
        let pod = Pod::create("pod")?;
        let result = host.ours()?.add(&bridge, &pod.attachment())?;
        let answer = host.call(&network, "ADD", &pod, &result)?.run(&host.node)?;
        assert_eq!((answer.failure(), answer.json()?), (None, result.clone()));
        assert_eq!(host.pod_rules()?.len(), 4);
        let check = host.call(&network, "CHECK", &pod, &result)?.run(&host.node)?;
        assert_eq!(check.failure(), None);
        let mut runtime = host.ours()?;
        for turn in ["once", "twice"] {
            runtime.del(&network, &pod.attachment())?;
            assert_as(&before, &host, &format!("DEL in {version}, {turn},"))?;
        }
        let check = host.call(&network, "CHECK", &pod, &result)?.run(&host.node)?;
        assert_eq!(check.failure().map(|error| error.code), Some(102));
    }
    Ok(())
}

#[test]
fn versions_before_0_4_0_are_refused() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let mut network = host.network(1, &json!({}));
    network.version = "0.3.1".into();
    let pod = Pod::create("pod")?;
    let answer = host.call(&network, "ADD", &pod, &json!({}))?.run(&host.node)?;
    assert_eq!(answer.failure().unwrap().code, 1);
    Ok(())
}

#[test]
fn del_needs_neither_result_nor_namespace_nor_a_sound_configuration() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let before = warmed_up(&host)?;
    for broken in [false, true] {
        let mut network = host.network(1, &all());
        let pod = Pod::create("pod")?;
        let attachment = pod.attachment();
        host.ours()?.add(&network, &attachment)?;
        drop(pod);
        if broken {
            network.plugins[1].insert("ingressPolicy".into(), json!("closed"));
            network.plugins[1].insert("iptablesAdminChainName".into(), json!(7));
        }
        // A new runtime has no result to hand down.
        host.ours()?.del(&network, &attachment)?;
        host.ours()?.del(&network, &attachment.without_netns())?;
        assert_as(&before, &host, &format!("DEL (broken: {broken})"))?;
    }
    Ok(())
}

#[test]
fn two_attachments_are_independent() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let networks = [host.network(1, &all()), host.network(2, &json!({}))];
    let warm_up = Answering::add(&mut host.ours()?, &networks[1], "warm-up")?;
    host.ours()?.del(&networks[1], &warm_up.pod.attachment())?;
    let before = warmed_up(&host)?;
    let pod = Pod::create("pod")?;
    let second = {
        let mut attachment = pod.attachment();
        attachment.ifname = "eth1".into();
        attachment
    };
    let mut runtime = host.ours()?;
    runtime.add(&networks[0], &pod.attachment())?;
    let mut other = networks[1].clone();
    other.plugins[0].insert("bridge".into(), json!("br1"));
    other.plugins[0].remove("isDefaultGateway");
    runtime.add(&other, &second)?;
    assert_eq!(host.pod_rules()?.len(), 8);
    runtime.del(&networks[0], &pod.attachment())?;
    assert_eq!(host.pod_rules()?.len(), 4);
    runtime.check(&other, &second)?;
    runtime.del(&other, &second)?;
    assert_as(&before, &host, "two attachments").map_err(Into::into)
}

#[test]
fn gc_keeps_the_valid_and_status_is_well() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let (network, other) = (host.network(1, &all()), host.network(2, &json!({})));
    runtime.status(&network)?;
    let kept = Answering::add(&mut runtime, &network, "kept")?;
    let lost = Answering::add(&mut runtime, &network, "lost")?;
    let foreign = Answering::add(&mut runtime, &other, "foreign")?;
    runtime.gc(&network, &[&kept.pod.attachment()])?;
    runtime.check(&network, &kept.pod.attachment())?;
    runtime.check(&other, &foreign.pod.attachment())?;
    assert_eq!(host.pod_rules()?.len(), 8);
    assert!(!host.pod_rules()?.concat().contains(&lost.addresses[0].to_string()));
    runtime.gc(&network, &[])?;
    assert_eq!(host.pod_rules()?.len(), 4);
    let mut wrong = network.clone();
    wrong.plugins[1].insert("ingressPolicy".into(), json!("closed"));
    assert_eq!(refused(runtime.status(&wrong)).code, 50);
    Ok(())
}

/// Somebody has deleted what tells whose the rules are.
#[test]
fn gc_removes_what_has_lost_its_owner() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let before = warmed_up(&host)?;
    let network = host.network(1, &all());
    let mut runtime = host.ours()?;
    let valid = Answering::add(&mut runtime, &network, "valid")?;
    let stays = host.owned()?;
    let stale = Answering::add(&mut runtime, &network, "stale")?;
    let owned = host.owned()?.into_iter().find(|it| !stays.contains(it)).unwrap();
    host.nft(&["delete", "map", "inet", "cbr0_firewall", &owned], "")?;
    let mut alone = network.clone();
    alone.plugins.remove(0);
    runtime.gc(&alone, &[&valid.pod.attachment()])?;
    assert_eq!(host.owned()?, stays);
    runtime.check(&network, &valid.pod.attachment())?;
    assert_eq!(host.pod_rules()?.len(), 4);
    runtime.del(&host.bridge(1), &stale.pod.attachment())?;
    runtime.del(&network, &valid.pod.attachment())?;
    assert_as(&before, &host, "GC of what has no owner").map_err(Into::into)
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let before = Snapshot::take(&host.node)?;
    let pod = Pod::create("pod")?;
    let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.1.5/24"}]});
    for (keys, result, words) in [
        (json!({"ingressPolicy": "closed"}), &result, "unknown ingress policy"),
        (json!({"backend": "ipfw"}), &result, "backend \"ipfw\""),
        (json!({"iptablesAdminChainName": "a b"}), &result, "iptablesAdminChainName \"a b\""),
        (json!({"ingressPolicy": "same-bridge"}), &result, "plugin with \"bridge\""),
        (json!({}), &Value::Null, "chained plugin"),
    ] {
        let network = host.network(1, &keys);
        let answer = host.call(&network, "ADD", &pod, result)?.run(&host.node)?;
        let error = answer.failure().unwrap();
        let text = format!("{}; {}", error.msg, error.details);
        assert!(error.code == 7 && text.contains(words), "{words}: {error}");
        assert_as(&before, &host, words)?;
    }
    Ok(())
}
