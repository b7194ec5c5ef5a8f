//! Whose is what: an attachment's things are found again by its triple, and nobody else's change.

use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::runtime::Network;
use cbr0_tests::snapshot::Snapshot;
use cbr0_tests::{Outcome, Result};
use kernel::nft::{Family, Nft, Table};
use kernel::{Rtnl, link};
use serde_json::json;

use crate::fixture::{Host, assert_error, host_end, refused, triple};

const TABLE: Table<'static> = Table { family: Family::Inet, name: "cbr0_masquerade" };

/// The names of the attachments' own sets.
fn owners(host: &Host) -> Result<Vec<String>> {
    let sets = Nft::open_in(host.node.netns())?.sets(&TABLE)?;
    Ok(sets.into_iter().map(|set| set.name).filter(|name| name.starts_with("att-")).collect())
}

#[test]
fn a_veth_of_a_killed_add_is_removed_by_del_and_replaced_by_add() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({}));
    let before = host.warm_up(&network)?;
    let pod = Pod::create("pod")?;
    let name = triple(&pod).host_veth_name(0);
    // Killed between the creation and the alias.
    let left = host.foreign_veth(&name, Pod::create("gone")?.netns(), "eth0", "")?;
    host.runtime()?.del(&network, &pod.attachment().without_netns())?;
    assert_eq!(host.link(&name)?, None);
    host.assert_as(&before)?;

    let gone = Pod::create("gone")?;
    let left_again = host.foreign_veth(&name, gone.netns(), "eth0", &triple(&pod).alias())?;
    let result = host.runtime()?.add(&network, &pod.attachment())?;
    let made = host.link(host_end(&result))?.unwrap();
    assert!(made.index != left.index && made.index != left_again.index);
    assert_eq!((made.name, made.alias), (name, triple(&pod).alias()));
    Ok(())
}

#[test]
fn a_name_that_another_attachment_has_is_left_to_it() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({}));
    host.warm_up(&network)?;
    let (pod, other) = (Pod::create("pod")?, Pod::create("other")?);
    for salt in [0, 1] {
        let name = triple(&pod).host_veth_name(salt);
        host.foreign_veth(
            &name,
            other.netns(),
            &format!("eth{salt}"),
            &format!("cbr0/other/eth{salt}"),
        )?;
    }
    let before = Snapshot::take(&host.node)?;
    let result = host.runtime()?.add(&network, &pod.attachment())?;
    assert_eq!(host_end(&result), triple(&pod).host_veth_name(2));
    host.runtime()?.del(&network, &pod.attachment())?;
    host.assert_as(&before)?;

    for salt in [2, 3] {
        let name = triple(&pod).host_veth_name(salt);
        host.foreign_veth(
            &name,
            other.netns(),
            &format!("eth{salt}"),
            &format!("cbr0/other/eth{salt}"),
        )?;
    }
    let before = Snapshot::take(&host.node)?;
    let error = refused(host.runtime()?.add(&network, &pod.attachment()));
    assert_error(&error, 101, "no free name for the host's end");
    Ok(host.assert_as(&before)?)
}

#[test]
fn del_needs_no_namespace_no_interface_and_no_sound_range() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true}));
    let before = host.warm_up(&network)?;

    let living = Pod::create("living")?;
    host.runtime()?.add(&network, &living.attachment())?;
    host.runtime()?.del(&network, &living.attachment().without_netns())?;
    host.assert_as(&before)?;

    let dead = Pod::create("dead")?;
    let attachment = dead.attachment();
    host.runtime()?.add(&network, &attachment)?;
    drop(dead);
    host.runtime()?.del(&network, &attachment)?;
    host.assert_as(&before)?;

    let pod = Pod::create("pod")?;
    host.runtime()?.add(&network, &pod.attachment())?;
    let mut inside = Rtnl::open_in(pod.netns())?;
    let eth0 = inside.link_by_name("eth0")?.unwrap();
    inside.request(&link::delete(eth0.index))?;
    let broken = host.network(
        &json!({"ipMasq": true, "mtu": -1, "ipam": host.host_local(&json!({"subnet": "nonsense"}))}),
    );
    host.runtime()?.del(&broken, &pod.attachment())?;
    host.runtime()?.del(&broken, &pod.attachment())?;
    Ok(host.assert_as(&before)?)
}

#[test]
fn del_removes_the_veth_that_the_reference_plugin_made() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({}));
    let before = host.warm_up(&network)?;
    let pod = Pod::create("pod")?;
    host.foreign_veth("veth0123abcd", pod.netns(), "eth0", "")?;
    host.runtime()?.del(&network, &pod.attachment())?;
    Ok(host.assert_as(&before)?)
}

#[test]
fn del_leaves_an_interface_that_another_attachment_owns() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true}));
    let mut other = network.clone();
    other.name = "other".into();
    let pod = Pod::create("pod")?;
    let mut runtime = host.runtime()?;
    runtime.add(&network, &pod.attachment())?;
    let before = Snapshot::take(&host.node)?;

    // The name is taken, and a runtime sends DEL after each ADD that failed.
    refused(runtime.add(&other, &pod.attachment()));
    runtime.del(&other, &pod.attachment())?;
    host.assert_as(&before)?;
    runtime.check(&network, &pod.attachment())?;

    // The path of a container that is gone has become another's.
    let mut recycled = pod.attachment();
    recycled.container_id = "gone".into();
    runtime.del(&network, &recycled)?;
    host.assert_as(&before)?;
    Ok(runtime.check(&network, &pod.attachment())?)
}

/// A network that gives 10.0.1.9 first, from a store of its own.
fn rival(host: &Host, store: &str) -> Network {
    let store = host.node.folder().join(store);
    let ipam = json!({"type": "host-local", "subnet": "10.0.1.0/24", "rangeStart": "10.0.1.9", "dataDir": store});
    let plugin = json!({"type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipMasq": true, "ipam": ipam});
    Network::from_value(&json!({"cniVersion": "1.1.0", "name": "rival", "plugins": [plugin]}))
        .unwrap()
}

#[test]
fn a_masqueraded_address_stays_with_a_living_owner_and_leaves_a_dead_one() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true, "ipam": host.host_local(&json!({"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.9"}))}));
    let holder = Pod::create("holder")?;
    let held = host.runtime()?.add(&network, &holder.attachment())?;
    assert_eq!(addresses(&held)?, ["10.0.1.9".parse::<std::net::IpAddr>().unwrap()]);

    let first_try = rival(&host, "first");
    let before = Snapshot::take(&host.node)?;
    let claimant = Pod::create("claimant")?;
    let error = refused(host.runtime()?.add(&first_try, &claimant.attachment()));
    assert_error(&error, 101, "10.0.1.9/24 is masqueraded for \"cbr0/holder/eth0\"");
    host.assert_as(&before)?;
    // Without its veth the holder is dead, and its rules are in the way of the living.
    let veth = host.link(host_end(&held))?.unwrap();
    host.node.rtnl()?.request(&link::delete(veth.index))?;
    let mut runtime = host.runtime()?;
    let rival = rival(&host, "second");
    runtime.add(&rival, &claimant.attachment())?;
    runtime.check(&rival, &claimant.attachment())?;
    assert_eq!(owners(&host)?.len(), 1);
    runtime.del(&rival, &claimant.attachment())?;
    assert_eq!(owners(&host)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn masquerading_of_one_network_leaves_with_its_last_container() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true}));
    host.warm_up(&network)?;
    let (first, second) = (Pod::create("first")?, Pod::create("second")?);
    let mut runtime = host.runtime()?;
    runtime.add(&network, &first.attachment())?;
    runtime.add(&network, &second.attachment())?;
    let mut nft = Nft::open_in(host.node.netns())?;
    let chain = "net-10.0.1.0/24".to_owned();
    runtime.del(&network, &first.attachment())?;
    assert!(nft.chains(&TABLE)?.contains(&chain));
    assert_eq!(owners(&host)?, [format!("att-{}", triple(&second).owner_key())]);
    runtime.check(&network, &second.attachment())?;
    runtime.del(&network, &second.attachment())?;
    assert!(!nft.chains(&TABLE)?.contains(&chain));
    assert_eq!(owners(&host)?, Vec::<String>::new());
    Ok(())
}
