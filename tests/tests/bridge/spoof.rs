//! `macspoofchk`, with real frames.

use std::net::IpAddr;
use std::time::Duration;

use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{Endpoint, call_within};
use cbr0_tests::{Outcome, Result, require};
use kernel::nft::{Chain, Family, Nft, Table};
use kernel::{MacAddress, Rtnl, link, neighbour};
use serde_json::json;

use crate::fixture::{Host, assert_error, host_end, refused};

const TABLE: Table<'static> = Table { family: Family::Bridge, name: "cbr0_macspoofchk" };
const PATIENCE: Duration = Duration::from_secs(1);

/// A host on a kernel that filters what crosses a bridge.
fn host() -> Result<Option<Host>> {
    if require::bridge_nf_tables()? { Host::new() } else { Ok(None) }
}

fn gateway() -> IpAddr {
    "10.0.1.1".parse().unwrap()
}

/// Gives the Pod's interface a MAC that is not its own, or its own again.
fn take_mac(pod: &Pod, mac: MacAddress) -> Result<()> {
    let mut inside = Rtnl::open_in(pod.netns())?;
    let eth0 = inside.link_by_name("eth0")?.unwrap();
    Ok(inside.request(&link::set_mac(eth0.index, mac))?)
}

fn sets(host: &Host) -> Result<Vec<String>> {
    let mut names: Vec<_> =
        Nft::open_in(host.node.netns())?.sets(&TABLE)?.into_iter().map(|set| set.name).collect();
    names.sort();
    Ok(names)
}

#[test]
fn frames_from_another_mac_go_nowhere() -> Outcome {
    for checked in [true, false] {
        let Some(host) = host()? else { return Ok(()) };
        let network = host.network(&json!({"macspoofchk": checked}));
        let pod = Pod::create("pod")?;
        let mut runtime = host.runtime()?;
        runtime.add(&network, &pod.attachment())?;
        let _gateway = Endpoint::serve(host.node.netns())?;
        call_within(pod.netns(), gateway(), PATIENCE)?;

        let forged = MacAddress([0x0a, 0x58, 10, 0, 1, 99]);
        take_mac(&pod, forged)?;
        // Whom an answer goes to is not in question here, only whether a frame comes in.
        let bridge = host.link("cbr0")?.unwrap().index;
        let believed = neighbour::set(bridge, "10.0.1.2".parse().unwrap(), forged);
        host.node.rtnl()?.request(&believed)?;
        let came_in = call_within(pod.netns(), gateway(), PATIENCE).is_ok();
        assert_eq!(came_in, !checked, "checked: {checked}");

        let own = MacAddress([0x0a, 0x58, 10, 0, 1, 2]);
        take_mac(&pod, own)?;
        host.node.rtnl()?.request(&neighbour::set(bridge, "10.0.1.2".parse().unwrap(), own))?;
        call_within(pod.netns(), gateway(), PATIENCE)?;
    }
    Ok(())
}

#[test]
fn the_checks_of_an_attachment_go_with_it_by_its_triple_alone() -> Outcome {
    let Some(host) = host()? else { return Ok(()) };
    let network = host.network(&json!({"macspoofchk": true}));
    let before = host.warm_up(&network)?;
    let (pod, other) = (Pod::create("pod")?, Pod::create("other")?);
    let mut runtime = host.runtime()?;
    runtime.add(&network, &other.attachment())?;
    runtime.add(&network, &pod.attachment())?;
    assert_eq!(sets(&host)?.len(), 4);
    // The configuration has changed since.
    let unchecked = host.network(&json!({}));
    runtime.del(&unchecked, &pod.attachment().without_netns())?;
    runtime.check(&network, &other.attachment())?;
    assert_eq!(sets(&host)?.len(), 3);
    host.runtime()?.gc(&unchecked, &[])?;
    assert_eq!(sets(&host)?, ["ports", "sources"]);
    Ok(host.assert_as(&before)?)
}

#[test]
fn who_is_gone_without_del_makes_room_and_checks_are_checked() -> Outcome {
    let Some(host) = host()? else { return Ok(()) };
    let network = host.network(&json!({"macspoofchk": true}));
    host.warm_up(&network)?;
    let pod = Pod::create("pod")?;
    let mut runtime = host.runtime()?;
    let result = runtime.add(&network, &pod.attachment())?;
    let port = host.link(host_end(&result))?.unwrap();
    host.node.rtnl()?.request(&link::delete(port.index))?;
    // An ADD after it, without the DEL in between, has another address.
    let again = host.network(&json!({
        "macspoofchk": true,
        "ipam": host.host_local(&json!({"subnet": "10.0.1.0/24", "idempotentAdd": true})),
    }));
    runtime.add(&again, &pod.attachment())?;
    runtime.check(&again, &pod.attachment())?;
    let chain = Chain { table: TABLE, name: "prerouting" };
    Nft::open_in(host.node.netns())?.commit(&[chain.flush()])?;
    let error = refused(runtime.check(&again, &pod.attachment()));
    assert_error(&error, 102, "has lost its rule");
    Nft::open_in(host.node.netns())?.commit(&[TABLE.delete()])?;
    let error = refused(runtime.check(&again, &pod.attachment()));
    assert_error(&error, 102, "are not checked for");
    runtime.del(&again, &pod.attachment())?;
    Ok(())
}
