//! `removeEmptyBridge`: the bridge goes with its last port, if it is ours; and many at once.

use std::collections::BTreeSet;
use std::thread;

use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::runtime::Network;
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Outcome, Result};
use kernel::link::Bridge;
use kernel::{MacAddress, NetNs, address};
use serde_json::json;

use crate::fixture::Host;

fn network(host: &Host) -> Network {
    let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]);
    let ipam = host.host_local(&json!({"ranges": ranges}));
    host.network(&json!({"removeEmptyBridge": true, "ipam": ipam}))
}

#[test]
fn the_bridge_goes_with_its_last_container() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = network(&host);
    let (first, second) = (Pod::create("first")?, Pod::create("second")?);
    let mut runtime = host.runtime()?;
    runtime.add(&network, &first.attachment())?;
    runtime.add(&network, &second.attachment())?;
    runtime.del(&network, &first.attachment())?;
    runtime.check(&network, &second.attachment())?;
    runtime.del(&network, &second.attachment().without_netns())?;
    assert_eq!(host.link("cbr0")?, None);

    runtime.add(&network, &first.attachment())?;
    runtime.gc(&network, &[])?;
    assert_eq!(host.link("cbr0")?, None);
    Ok(())
}

#[test]
fn a_bridge_that_is_of_use_to_somebody_stays() -> Outcome {
    type Use = fn(&Host, &NetNs) -> Result<()>;
    let uses: [Use; 3] = [
        |host, somewhere| {
            let port = host.foreign_veth("foreign", somewhere, "eth9", "")?;
            let bridge = host.link("cbr0")?.unwrap().index;
            Ok(host.node.rtnl()?.request(&kernel::link::set_master(port.index, Some(bridge)))?)
        },
        |host, _| {
            let bridge = host.link("cbr0")?.unwrap().index;
            let foreign = address::add(bridge, "192.0.2.1/24".parse().unwrap(), false);
            Ok(host.node.rtnl()?.request(&foreign)?)
        },
        |_, _| Ok(()),
    ];
    for (number, make_use) in uses.into_iter().enumerate() {
        let Some(host) = Host::new()? else { return Ok(()) };
        let is_foreign = number == 2;
        if is_foreign {
            let mac = MacAddress([2, 0, 0, 0, 0, 1]);
            host.node.rtnl()?.request(&Bridge { name: "cbr0", mac, mtu: None }.create())?;
        }
        let (pod, somewhere) = (Pod::create("pod")?, NetNs::create()?);
        let mut runtime = host.runtime()?;
        runtime.add(&network(&host), &pod.attachment())?;
        make_use(&host, &somewhere)?;
        runtime.del(&network(&host), &pod.attachment())?;
        assert!(host.link("cbr0")?.is_some(), "use {number}");
    }
    Ok(())
}

#[test]
fn an_add_that_fails_takes_the_bridge_that_it_made_with_it() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let route = json!({"dst": "192.0.2.0/24", "gw": "203.0.113.1"});
    let ipam = host.host_local(&json!({"subnet": "10.0.1.0/24", "routes": [route]}));
    let network = host.network(&json!({"removeEmptyBridge": true, "ipam": ipam}));
    let before = Snapshot::take(&host.node)?;
    crate::fixture::refused(host.runtime()?.add(&network, &Pod::create("pod")?.attachment()));
    assert_eq!(host.link("cbr0")?, None);
    let left = before.difference(&Snapshot::take(&host.node)?, &Shared::with_bridge("cbr0"));
    assert_eq!(left, None);
    Ok(())
}

/// Runs this for as many Pods at once.
fn at_once(pods: &[Pod], work: impl Fn(&Pod) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        let died = |_| LabError::Wrong("a worker thread died".to_owned());
        workers.into_iter().try_for_each(|worker| worker.join().map_err(died)?)
    })
}

fn pods() -> Result<Vec<Pod>> {
    (0..32).map(|number| Pod::create(&format!("pod{number}"))).collect()
}

/// The last of one moment is the first of the next: an ADD finds a bridge that a DEL removes.
#[test]
fn no_add_fails_because_the_bridge_is_removed_at_the_same_time() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = network(&host);
    at_once(&pods()?[..6], |pod| {
        let mut runtime = host.runtime()?;
        for _ in 0..12 {
            runtime.add(&network, &pod.attachment())?;
            runtime.check(&network, &pod.attachment())?;
            runtime.del(&network, &pod.attachment())?;
        }
        Ok(())
    })?;
    assert_eq!(host.link("cbr0")?, None);
    Ok(())
}

#[test]
fn thirty_two_first_adds_at_once_make_one_bridge() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = network(&host);
    let (pods, seen) = (pods()?, std::sync::Mutex::new(BTreeSet::new()));
    let given = std::sync::Mutex::new(BTreeSet::new());
    at_once(&pods, |pod| {
        let result = host.runtime()?.add(&network, &pod.attachment())?;
        seen.lock().unwrap().insert(result["interfaces"][0].to_string());
        given.lock().unwrap().extend(addresses(&result)?);
        Ok(())
    })?;
    assert_eq!(seen.into_inner().unwrap().len(), 1, "one bridge with one MAC");
    assert_eq!(given.into_inner().unwrap().len(), 64);
    let mut rtnl = host.node.rtnl()?;
    let bridges: Vec<_> = rtnl.links()?.into_iter().filter(|link| link.kind == "bridge").collect();
    assert_eq!(bridges.len(), 1);
    let gateways = rtnl.addresses(bridges[0].index)?;
    assert_eq!(gateways.iter().filter(|address| !address.link_local).count(), 2, "{gateways:?}");
    Ok(())
}
