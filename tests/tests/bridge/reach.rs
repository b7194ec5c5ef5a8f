//! Reachable when ADD returns: the first packet to a container is answered, even when its address
//! was another's a moment ago.

use std::net::IpAddr;
use std::time::Duration;

use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call_within};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::{Outcome, Result};
use kernel::{MacAddress, NetNs, neighbour};
use serde_json::json;

use crate::fixture::Host;

/// Less than the second after which TCP tries again: a lost first packet fails the call.
const ONE_TRY: Duration = Duration::from_millis(900);

fn dual_stack(host: &Host) -> Network {
    let ranges = json!({"ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]});
    host.network(&json!({"ipam": host.host_local(&ranges)}))
}

#[test]
fn a_container_answers_host_neighbour_and_itself_in_both_families() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = dual_stack(&host);
    let mut runtime = host.runtime()?;
    let (pod, neighbour) = (Pod::create("pod")?, Pod::create("neighbour")?);
    let own = addresses(&runtime.add(&network, &pod.attachment())?)?;
    let theirs = addresses(&runtime.add(&network, &neighbour.attachment())?)?;
    let (_pod, _neighbour) = (Endpoint::serve(pod.netns())?, Endpoint::serve(neighbour.netns())?);
    for (own, theirs) in own.into_iter().zip(theirs) {
        assert_eq!(call_within(neighbour.netns(), own, ONE_TRY)?.seen, theirs);
        assert_eq!(call_within(pod.netns(), theirs, ONE_TRY)?.seen, own);
        call_within(host.node.netns(), own, ONE_TRY)?;
        call_within(host.node.netns(), theirs, ONE_TRY)?;
    }
    Ok(())
}

#[test]
fn the_bridge_s_own_gateway_addresses_answer_at_once() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = dual_stack(&host);
    let _host = Endpoint::serve(host.node.netns())?;
    let pod = Pod::create("pod")?;
    let own = addresses(&host.runtime()?.add(&network, &pod.attachment())?)?;
    for (gateway, own) in ["10.0.1.1", "fd00:0:0:1::1"].into_iter().zip(own) {
        assert_eq!(call_within(pod.netns(), gateway.parse().unwrap(), ONE_TRY)?.seen, own);
    }
    Ok(())
}

/// A Pod that gets the last address there is, and the address.
fn next_holder(
    runtime: &mut Runtime<'_>,
    network: &Network,
    number: u32,
) -> Result<(Pod, Vec<IpAddr>)> {
    let pod = Pod::create(&format!("holder{number}"))?;
    let own = addresses(&runtime.add(network, &pod.attachment())?)?;
    Ok((pod, own))
}

#[test]
fn an_address_that_changed_hands_answers_the_first_packet() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let small = json!({"ranges": [
        [{"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.2", "rangeEnd": "10.0.1.3"}],
        [{"subnet": "fd00:0:0:1::/64", "rangeStart": "fd00:0:0:1::2", "rangeEnd": "fd00:0:0:1::3"}],
    ]});
    let network = host.network(&json!({"ipam": host.host_local(&small)}));
    let mut runtime = host.runtime()?;
    let neighbour = Pod::create("neighbour")?;
    runtime.add(&network, &neighbour.attachment())?;
    for number in 0..10 {
        let (pod, own) = next_holder(&mut runtime, &network, number)?;
        let endpoint = Endpoint::serve(pod.netns())?;
        for (name, caller) in [("the host", host.node.netns()), ("a neighbour", neighbour.netns())]
        {
            answers(caller, &own, &format!("{name} called holder {number}"))?;
        }
        drop(endpoint);
        runtime.del(&network, &pod.attachment())?;
    }
    Ok(())
}

#[test]
fn what_the_host_believed_of_an_address_is_corrected() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = dual_stack(&host);
    host.warm_up(&network)?;
    let bridge = host.link("cbr0")?.unwrap().index;
    let stranger = MacAddress([0x02, 9, 9, 9, 9, 9]);
    let mut rtnl = host.node.rtnl()?;
    let next = ["10.0.1.3", "fd00:0:0:1::3"].map(|text| text.parse().unwrap());
    rtnl.request_all(&next.map(|address| neighbour::set(bridge, address, stranger)))?;
    let pod = Pod::create("pod")?;
    assert_eq!(addresses(&host.runtime()?.add(&network, &pod.attachment())?)?, next);
    let _pod = Endpoint::serve(pod.netns())?;
    answers(host.node.netns(), &next, "the host called the pod")?;
    Ok(())
}

fn answers(caller: &NetNs, addresses: &[IpAddr], who: &str) -> Result<()> {
    for address in addresses {
        let answered = call_within(caller, *address, ONE_TRY);
        answered
            .map_err(|error| cbr0_tests::LabError::Wrong(format!("{who} at {address}: {error}")))?;
    }
    Ok(())
}
