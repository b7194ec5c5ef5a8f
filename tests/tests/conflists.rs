//! Network configurations in the shapes in which people have them: what they ask for works unchanged.

use std::fs;
use std::path::Path;

use cbr0_tests::error::Context as _;
use cbr0_tests::node::Node;
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::{Outcome, Result, bins, require};
use serde_json::{Value, json};

/// The network of a file. Plugins that are not built are left out of the chain, and said so; where
/// reservations lie is the test's own matter.
fn network(name: &str, host: &Node) -> Result<Option<Network>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conflists").join(name);
    let text = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
    let mut network = Network::parse(&text)?;
    let mut left_out = Vec::new();
    let first =
        network.plugins.first().and_then(|plugin| plugin["type"].as_str()).map(str::to_owned);
    network.plugins.retain(|plugin| {
        let kind = plugin["type"].as_str().unwrap_or_default();
        let is_there = bins::plugin(kind).is_ok();
        left_out.extend((!is_there).then(|| kind.to_owned()));
        is_there
    });
    require::plugins(name, &left_out)?;
    // Without the one that makes the interface, the others have nothing to do.
    if first.is_some_and(|first| left_out.contains(&first)) {
        return Ok(None);
    }
    for plugin in &mut network.plugins {
        if let Some(ipam) = plugin.get_mut("ipam").and_then(Value::as_object_mut) {
            ipam.insert("dataDir".into(), json!(host.data_dir()));
        }
    }
    Ok((!network.plugins.is_empty()).then_some(network))
}

fn works(name: &str) -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let host = Node::create("host")?;
    let Some(network) = network(name, &host)? else { return Ok(()) };
    let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
    // Kubernetes' runtimes send these, and expect nobody to know them.
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1";
    let pods = [Pod::create("first")?, Pod::create("second")?];
    let mut given = Vec::new();
    for pod in &pods {
        let mut attachment = pod.attachment();
        attachment.args = args.to_owned();
        let result = runtime.add(&network, &attachment)?;
        if !matches!(network.version.as_str(), "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1") {
            runtime.check(&network, &attachment)?;
        }
        given.push(match result.get("ip4") {
            Some(old) => vec![
                old["ip"]
                    .as_str()
                    .unwrap_or_default()
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .parse()?,
            ],
            None => addresses(&result)?,
        });
    }
    let _first = Endpoint::serve(pods[0].netns())?;
    for address in &given[0] {
        call(host.netns(), *address)?;
        call(pods[1].netns(), *address)?;
    }
    for pod in &pods {
        runtime.del(&network, &pod.attachment())?;
        runtime.del(&network, &pod.attachment().without_netns())?;
    }
    let left = fs::read_dir(host.data_dir().join(&network.name))?;
    let left = left.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let addresses: Vec<_> = left.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
    assert_eq!(addresses, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_flannel_hands_to_the_bridge() -> Outcome {
    works("flannel-delegate.conflist")
}

#[test]
fn k3s() -> Outcome {
    works("k3s.conflist")
}

#[test]
fn podman() -> Outcome {
    works("podman.conflist")
}

#[test]
fn nerdctl() -> Outcome {
    works("nerdctl.conflist")
}

#[test]
fn crio() -> Outcome {
    works("crio.conflist")
}

#[test]
fn kind() -> Outcome {
    works("kind.conflist")
}

#[test]
fn a_kubelet_with_the_oldest_shape() -> Outcome {
    works("kubelet.conflist")
}
