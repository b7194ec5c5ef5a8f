//! `vlan`, `vlanTrunk` and `preserveDefaultVlan`, on kernels whose bridges can filter by VLAN; and
//! that others refuse them.

use std::time::Duration;

use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{Endpoint, call, call_within};
use cbr0_tests::snapshot::Snapshot;
use cbr0_tests::{Outcome, require};
use kernel::link::{PortVlan, add_vlans};
use kernel::{NetNs, Rtnl};
use serde_json::{Value, json};

use crate::fixture::{Host, assert_error, host_end, refused};

/// A host on a kernel that knows VLANs on bridges.
fn host() -> cbr0_tests::Result<Option<Host>> {
    let Some(host) = Host::new()? else { return Ok(None) };
    Ok(require::bridge_vlans()?.then_some(host))
}

fn layer2(keys: &Value) -> Value {
    let mut all = json!({"ipam": {}, "isDefaultGateway": false});
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    all
}

#[test]
fn a_kernel_without_vlans_on_bridges_is_told_so_before_any_change() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    if Rtnl::open_in(&NetNs::create()?)?.knows_vlan_filtering()? {
        return Ok(());
    }
    let before = Snapshot::take(&host.node)?;
    for keys in [json!({"vlan": 100}), json!({"vlanTrunk": []})] {
        let network = host.network(&keys);
        let error = refused(host.runtime()?.add(&network, &Pod::create("pod")?.attachment()));
        assert_error(&error, 2, "lacks bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)");
        assert_error(&refused(host.runtime()?.status(&network)), 50, "VLAN filtering");
        host.assert_as(&before)?;
    }
    Ok(())
}

#[test]
fn a_port_is_in_its_vlans_and_no_others() -> Outcome {
    let trunk = json!([{"id": 101}, {"minID": 200, "maxID": 210}]);
    let tagged = [PortVlan::tagged(101..=101), PortVlan::tagged(200..=210)];
    let default = PortVlan { pvid: false, ..PortVlan::native(1) };
    for (keys, vlans) in [
        (json!({"vlan": 100}), vec![PortVlan::native(100)]),
        (json!({"vlan": 100, "preserveDefaultVlan": true}), vec![default, PortVlan::native(100)]),
        (json!({"vlanTrunk": trunk}), [&[PortVlan::native(1)], &tagged[..]].concat()),
        (
            json!({"vlanTrunk": trunk, "vlan": 100}),
            [&[PortVlan::native(100)], &tagged[..]].concat(),
        ),
        (json!({"vlanTrunk": []}), vec![PortVlan::native(1)]),
    ] {
        let Some(host) = host()? else { return Ok(()) };
        let network = host.network(&layer2(&keys));
        let pod = Pod::create("pod")?;
        let mut runtime = host.runtime()?;
        let result = runtime.add(&network, &pod.attachment())?;
        assert!(host.link("cbr0")?.unwrap().vlan_filtering);
        let port = host.link(host_end(&result))?.unwrap().index;
        assert_eq!(host.node.rtnl()?.vlans(port)?, vlans, "{keys}");
        runtime.check(&network, &pod.attachment())?;
        host.node.rtnl()?.request(&add_vlans(port, &[PortVlan::tagged(4000..=4000)]))?;
        let error = refused(runtime.check(&network, &pod.attachment()));
        assert_error(&error, 102, "is not in its VLANs alone");
    }
    Ok(())
}

#[test]
fn the_gateway_of_a_vlan_has_a_link_of_its_own_and_vlans_are_apart() -> Outcome {
    let Some(host) = host()? else { return Ok(()) };
    let network = |id: u16| {
        let subnet = json!({"ranges": [[{"subnet": format!("10.0.{id}.0/24")}], [{"subnet": format!("fd00:0:0:{id}::/64")}]]});
        let mut network = host.network(
            &json!({"vlan": id, "ipam": host.host_local(&subnet), "removeEmptyBridge": true}),
        );
        network.name = format!("vlan{id}");
        network
    };
    let (ten, twenty) = (network(10), network(20));
    let (pod, neighbour, other) =
        (Pod::create("pod")?, Pod::create("neighbour")?, Pod::create("other")?);
    let mut runtime = host.runtime()?;
    let result = runtime.add(&ten, &pod.attachment())?;
    assert_eq!(result["interfaces"][3]["name"], json!("cbr0.10"));
    runtime.add(&ten, &neighbour.attachment())?;
    runtime.add(&twenty, &other.attachment())?;
    let _host = Endpoint::serve(host.node.netns())?;
    let _pod = Endpoint::serve(pod.netns())?;
    for (own, gateway) in [("10.0.10.2", "10.0.10.1"), ("fd00:0:0:10::2", "fd00:0:0:10::1")] {
        let own = own.parse().unwrap();
        assert_eq!(call(pod.netns(), gateway.parse().unwrap())?.seen, own);
        call(host.node.netns(), own)?;
        call(neighbour.netns(), own)?;
        // By way of the host, which forwards; not within the bridge.
        call(other.netns(), own)?;
    }
    // Without the host's help the VLANs are apart.
    let gateway = host.link("cbr0.20")?.unwrap();
    host.node.rtnl()?.request(&kernel::link::set_down(gateway.index))?;
    let patience = Duration::from_secs(1);
    assert!(call_within(other.netns(), "10.0.10.2".parse().unwrap(), patience).is_err());

    for pod in [&pod, &neighbour] {
        runtime.check(&ten, &pod.attachment())?;
        runtime.del(&ten, &pod.attachment())?;
    }
    assert!(host.link("cbr0")?.is_some());
    runtime.del(&twenty, &other.attachment())?;
    assert_eq!(host.node.rtnl()?.links()?.len(), 1, "only the loopback is left");
    Ok(())
}

#[test]
fn a_bridge_that_does_not_filter_is_refused() -> Outcome {
    let Some(host) = host()? else { return Ok(()) };
    let before = host.warm_up(&host.network(&layer2(&json!({}))))?;
    let network = host.network(&layer2(&json!({"vlan": 100})));
    let error = refused(host.runtime()?.add(&network, &Pod::create("pod")?.attachment()));
    assert_error(&error, 7, "bridge \"cbr0\" does not filter by VLAN");
    Ok(host.assert_as(&before)?)
}
