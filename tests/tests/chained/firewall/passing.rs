//! Pods are reached where the host lets nothing pass by default.

use cbr0_tests::Outcome;
use cbr0_tests::probe::{Endpoint, call};
use serde_json::json;

use super::fixture::{Answering, Host, refused, world};

#[test]
fn pods_reach_each_other_and_the_world_where_nothing_passes() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let world = world(&host.node)?;
    let _outside = Endpoint::serve(&world)?;
    let mut runtime = host.ours()?;
    let bare = Answering::add(&mut runtime, &host.bridge(3), "bare")?;
    let networks = [host.network(1, &json!({})), host.network(2, &json!({}))];
    let one = Answering::add(&mut runtime, &networks[0], "one")?;
    let two = Answering::add(&mut runtime, &networks[1], "two")?;
    // What the world asks for on its own does not come in: that is what the host wants.
    bare.assert_does_not_reach(&one, "without the plugin");
    one.assert_reaches(&two, "from bridge to bridge");
    two.assert_reaches(&one, "and back");
    call(one.pod.netns(), "192.0.2.1".parse()?)?;
    let refused = cbr0_tests::probe::call_within(
        &world,
        one.addresses[0],
        std::time::Duration::from_millis(400),
    );
    assert!(refused.is_err(), "the world reached a Pod by itself: {refused:?}");
    runtime.del(&networks[0], &one.pod.attachment())?;
    Ok(())
}

#[test]
fn the_admins_chain_comes_first_and_may_have_another_name() -> Outcome {
    let Some(host) = Host::closed()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let network = host.network(1, &json!({"iptablesAdminChainName": "MINE"}));
    let one = Answering::add(&mut runtime, &network, "one")?;
    let two = Answering::add(&mut runtime, &host.network(2, &json!({})), "two")?;
    one.assert_reaches(&two, "the chain is empty");
    for (program, address) in ["iptables-nft", "ip6tables-nft"].iter().zip(&two.addresses) {
        host.iptables(program, &["-A", "MINE", "-d", &address.to_string(), "-j", "DROP"])?;
    }
    one.assert_does_not_reach(&two, "the admin says no");
    runtime.check(&network, &one.pod.attachment())?;
    let saved = host.saved()?;
    let to_admin = |line: &&String| line.contains("admin overrides");
    let admins: Vec<_> = saved.iter().filter(to_admin).collect();
    assert_eq!(admins.len(), 4, "{admins:?}");
    Ok(())
}

#[test]
fn rules_come_after_the_table_does() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let mut runtime = host.ours()?;
    let networks = [host.network(1, &json!({})), host.network(2, &json!({}))];
    let one = Answering::add(&mut runtime, &networks[0], "one")?;
    let two = Answering::add(&mut runtime, &networks[1], "two")?;
    assert_eq!(host.nft(&["list", "tables"], "")?.trim(), "table inet cbr0_firewall");
    one.assert_reaches(&two, "nothing is in the way");
    runtime.check(&networks[0], &one.pod.attachment())?;

    // Docker is started, or somebody reloads rules that were saved before.
    host.close()?;
    one.assert_does_not_reach(&two, "nothing passes any more");
    let error = refused(runtime.check(&networks[0], &one.pod.attachment()));
    assert!(error.code == 102 && error.msg.contains("CNI-FORWARD"), "{error}");
    runtime.gc(&networks[0], &[&one.pod.attachment()])?;
    one.assert_reaches(&two, "GC gave all attachments their rules");
    for (network, end) in networks.iter().zip([&one, &two]) {
        runtime.check(network, &end.pod.attachment())?;
    }

    for program in ["iptables-nft", "ip6tables-nft"] {
        host.iptables(program, &["-F"])?;
        host.iptables(program, &["-X"])?;
    }
    one.assert_does_not_reach(&two, "everything was flushed");
    let third = Answering::add(&mut runtime, &networks[0], "three")?;
    one.assert_reaches(&two, "the next ADD gave all attachments their rules");
    third.assert_reaches(&two, "and its own");
    assert_eq!(host.pod_rules()?.len(), 12);
    Ok(())
}
