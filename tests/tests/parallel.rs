//! Many ADDs at once on one bridge, as when a node comes up.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;

use cbr0_tests::node::Node;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use serde_json::json;

const AT_ONCE: usize = 16;

fn network(host: &Node) -> Result<Network> {
    Network::from_value(&json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{
        "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipMasq": require::nf_tables()?,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]],
            "dataDir": host.data_dir(),
        }
    }]}))
}

fn pods(count: usize) -> Result<Vec<Pod>> {
    (0..count).map(|number| Pod::create(&format!("pod{number}"))).collect()
}

/// Does something for every Pod, for [`AT_ONCE`] of them at a time; the results in any order.
fn for_each<T: Send>(pods: &[Pod], work: impl Fn(&Pod) -> Result<T> + Sync) -> Result<Vec<T>> {
    let waiting = Mutex::new(pods.iter());
    let next = || waiting.lock().ok()?.next();
    let worker = || std::iter::from_fn(next).map(&work).collect::<Result<Vec<T>>>();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let mut done = Vec::new();
        for worker in workers {
            let died = |_| LabError::Wrong("a worker thread died".to_owned());
            done.extend(worker.join().map_err(died)??);
        }
        Ok(done)
    })
}

/// Adds all of them; every address that was given, each of which must answer.
fn add_all(host: &Node, pods: &[Pod]) -> Result<Vec<IpAddr>> {
    let network = network(host)?;
    let given = for_each(pods, |pod| {
        let result = Runtime::new(host, bins::plugin_dir()?).add(&network, &pod.attachment())?;
        let _endpoint = Endpoint::serve(pod.netns())?;
        let addresses = pod::addresses(&result)?;
        for address in &addresses {
            call(host.netns(), *address)?;
        }
        Ok(addresses)
    })?;
    Ok(given.into_iter().flatten().collect())
}

fn del_all(host: &Node, pods: &[Pod]) -> Result<()> {
    let network = network(host)?;
    for_each(pods, |pod| Runtime::new(host, bins::plugin_dir()?).del(&network, &pod.attachment()))?;
    Ok(())
}

fn assert_as(before: &Snapshot, host: &Node, shared: &Shared) -> Result<()> {
    match before.difference(&Snapshot::take(host)?, shared) {
        Some(left) => Err(LabError::Wrong(format!("left behind:\n{left}"))),
        None => Ok(()),
    }
}

#[test]
fn a_hundred_pods_have_addresses_of_their_own_and_leave_nothing() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let host = Node::create("host")?;
    let warm_up = pods(1)?;
    add_all(&host, &warm_up)?;
    del_all(&host, &warm_up)?;
    let before = Snapshot::take(&host)?;

    let pods = pods(100)?;
    let addresses = add_all(&host, &pods)?;
    assert_eq!(addresses.len(), 200);
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 200, "an address was given twice");
    del_all(&host, &pods)?;
    Ok(assert_as(&before, &host, &Shared::after_warm_up())?)
}

/// Every one of them may be the one that makes the bridge.
#[test]
fn the_first_pods_of_a_node_may_come_at_once() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    for _ in 0..3 {
        let host = Node::create("host")?;
        let before = Snapshot::take(&host)?;
        let pods = pods(AT_ONCE)?;
        let addresses = add_all(&host, &pods)?;
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 2 * AT_ONCE);
        del_all(&host, &pods)?;
        assert_as(&before, &host, &Shared::with_bridge("cbr0"))?;
    }
    Ok(())
}

/// A Pod may be removed while others are added, also one that has been added just now.
#[test]
fn adds_and_dels_of_other_pods_do_not_disturb() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let host = Node::create("host")?;
    let before = Snapshot::take(&host)?;
    let pods = pods(32)?;
    let network = network(&host)?;
    for_each(&pods, |pod| {
        let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
        for _ in 0..2 {
            runtime.add(&network, &pod.attachment())?;
            runtime.check(&network, &pod.attachment())?;
            runtime.del(&network, &pod.attachment())?;
        }
        Ok(())
    })?;
    Ok(assert_as(&before, &host, &Shared::with_bridge("cbr0"))?)
}
