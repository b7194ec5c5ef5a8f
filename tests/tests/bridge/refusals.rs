//! What is refused, and that a refusal changes nothing.

use cbr0_tests::Outcome;
use cbr0_tests::pod::Pod;
use cbr0_tests::snapshot::Snapshot;
use serde_json::json;

use crate::fixture::{Host, assert_error, at, refused};

#[test]
fn a_wrong_configuration_is_refused_before_any_change() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    let before = Snapshot::take(&host.node)?;
    for (keys, code, words) in [
        (json!({"bridge": "a/b"}), 7, "bridge"),
        (json!({"bridge": "br%d"}), 7, "br%d"),
        (json!({"mtu": 70000}), 7, "mtu 70000"),
        (json!({"mtu": "1500"}), 6, "mtu"),
        (json!({"isGateway": "yes"}), 6, "isGateway"),
        (json!({"hairpinMode": true, "promiscMode": true}), 7, "at the same time"),
        (json!({"vlan": 4095}), 7, "invalid VLAN ID 4095"),
        (json!({"vlanTrunk": [{"minID": 5}]}), 7, "maxID is missing"),
        (json!({"disableContainerInterface": true}), 7, "an interface that is down"),
        (json!({"bridge": "twelve-chars", "vlan": 100}), 7, "twelve-chars.100"),
        (json!({"runtimeConfig": {"mac": "0a:00"}}), 7, "runtimeConfig.mac \"0a:00\""),
        (json!({"args": {"cni": {"mac": "01:00:00:00:00:00"}}}), 7, "args.cni.mac"),
        (json!({"bridge": "lo"}), 101, "\"lo\" already exists but is not a bridge"),
        (json!({"ipam": {"type": "nosuch"}}), 7, "failed to find plugin \"nosuch\" in path"),
        (json!({"ipam": {"type": "../host-local"}}), 7, "../host-local"),
        (
            json!({"ipam": host.host_local(&json!({"subnet": "10.0.1.1/24"}))}),
            7,
            "Network has host bits set",
        ),
        (json!({"dns": {"nameservers": 5}}), 6, "nameservers"),
    ] {
        let error = refused(host.runtime()?.add(&host.network(&keys), &pod.attachment()));
        assert_error(&error, code, words);
        host.assert_as(&before)?;
    }
    Ok(())
}

#[test]
fn a_path_that_leads_to_no_container_is_refused_before_any_change() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    let network = host.network(&json!({}));
    let before = Snapshot::take(&host.node)?;
    let own = host.node.netns().path();
    for (path, words) in [
        ("/dev/null", "is no network namespace"),
        ("/proc/self/ns/mnt", "is no network namespace"),
        ("/nonexistent", "open network namespace \"/nonexistent\""),
        (own.to_str().unwrap(), "should not be the same"),
    ] {
        let error = refused(host.runtime()?.add(&network, &at(&pod, path)));
        assert_error(&error, 8, words);
        host.assert_as(&before)?;
        // The same path is no obstacle to a DEL, and does no harm.
        host.runtime()?.del(&network, &at(&pod, path))?;
        host.assert_as(&before)?;
    }
    assert!(host.link("lo")?.unwrap().is_up());
    Ok(())
}

#[test]
fn a_second_interface_of_the_same_name_is_refused() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let pod = Pod::create("pod")?;
    let network = host.network(&json!({}));
    host.runtime()?.add(&network, &pod.attachment())?;
    let before = Snapshot::take(&host.node)?;
    let error = refused(host.runtime()?.add(&network, &pod.attachment()));
    assert_error(&error, 101, "container veth name (\"eth0\") already exists");
    Ok(host.assert_as(&before)?)
}

#[test]
fn a_full_range_leaves_the_refused_container_without_a_trace() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network =
        host.network(&json!({"ipam": host.host_local(&json!({"subnet": "10.0.1.0/30"}))}));
    let (first, second) = (Pod::create("first")?, Pod::create("second")?);
    host.runtime()?.add(&network, &first.attachment())?;
    let before = Snapshot::take(&host.node)?;
    let error = refused(host.runtime()?.add(&network, &second.attachment()));
    assert_error(&error, 11, "no IP addresses available in range set");
    host.assert_as(&before)?;

    host.runtime()?.del(&network, &first.attachment())?;
    host.runtime()?.add(&network, &second.attachment())?;
    Ok(())
}

#[test]
fn another_gateway_address_on_the_bridge_is_refused_and_kept() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let before = host.warm_up(&host.network(&json!({})))?;
    let other = host.network(&json!({"ipam": host.host_local(&json!({"subnet": "10.0.9.0/24"}))}));
    let error = refused(host.runtime()?.add(&other, &Pod::create("pod")?.attachment()));
    assert_error(
        &error,
        101,
        "\"cbr0\" already has an IP address different from 10.0.9.1/24: 10.0.1.1/24",
    );
    Ok(host.assert_as(&before)?)
}

#[test]
fn a_route_that_the_kernel_refuses_undoes_the_add() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let before = host.warm_up(&host.network(&json!({"ipMasq": true})))?;
    let unreachable =
        json!({"subnet": "10.0.1.0/24", "routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]});
    let network = host.network(&json!({"ipMasq": true, "ipam": host.host_local(&unreachable)}));
    let pod = Pod::create("pod")?;
    let error = refused(host.runtime()?.add(&network, &pod.attachment()));
    assert_error(&error, 100, "add route to 192.0.2.0/24 via 203.0.113.1");
    host.assert_as(&before)?;
    let inside = kernel::Rtnl::open_in(pod.netns())?.links()?;
    assert_eq!(inside.len(), 1, "only the loopback is left: {inside:?}");
    Ok(())
}
