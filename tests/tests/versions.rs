//! The bridge in every version of the specification: what a result looks like, and what DEL needs.

use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use cbr0_tests::runtime::{Attachment, Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{LabError, Outcome, Result, bins, require};
use cni_conf::version::SpecVersion;
use serde_json::{Value, json};

fn network(host: &Node, version: SpecVersion) -> Result<Network> {
    Network::from_value(&json!({"cniVersion": version.as_str(), "name": "net", "plugins": [{
        "type": "bridge", "bridge": "cbr0", "isGateway": true, "ipMasq": require::nf_tables()?,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.0.1.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": host.data_dir(),
        }
    }]}))
}

fn assert_nothing_left(host: &Node, before: &Snapshot, case: &str) -> Result<()> {
    match before.difference(&Snapshot::take(host)?, &Shared::with_bridge("cbr0")) {
        Some(left) => Err(LabError::Wrong(format!("{case}: left behind:\n{left}"))),
        None => Ok(()),
    }
}

#[test]
fn a_result_has_the_shape_of_its_version() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    for version in SpecVersion::ALL {
        let host = Node::create("host")?;
        let pod = Pod::create("pod")?;
        let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
        let result = runtime.add(&network(&host, version)?, &pod.attachment())?;
        assert_eq!(result["cniVersion"], json!(version.as_str()));
        assert_shape(&result, version, &pod);
    }
    Ok(())
}

fn assert_shape(result: &Value, version: SpecVersion, pod: &Pod) {
    if version < SpecVersion::V0_3_0 {
        assert_eq!(result["ip4"]["ip"], json!("10.0.1.2/24"), "{result}");
        assert_eq!(result["ip4"]["gateway"], json!("10.0.1.1"), "{result}");
        assert_eq!(result["ip4"]["routes"], json!([{"dst": "0.0.0.0/0"}]), "{result}");
        assert_eq!(result.get("interfaces"), None, "{result}");
        return;
    }
    let ip = &result["ips"][0];
    assert_eq!(ip["address"], json!("10.0.1.2/24"), "{result}");
    assert_eq!(ip["gateway"], json!("10.0.1.1"), "{result}");
    assert_eq!(ip["interface"], json!(2), "{result}");
    let family = (version < SpecVersion::V1_0_0).then(|| json!("4"));
    assert_eq!(ip.get("version"), family.as_ref(), "{result}");
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0"}]), "{result}");
    let interfaces = result["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> =
        interfaces.iter().map(|interface| interface["name"].as_str().unwrap_or_default()).collect();
    assert!(
        matches!(names[..], ["cbr0", host_end, "eth0"] if host_end.starts_with("veth")),
        "{result}"
    );
    assert_eq!(interfaces[2]["sandbox"], json!(pod.netns().path()), "{result}");
    let mtu = interfaces[2].get("mtu");
    assert!(version >= SpecVersion::V1_1_0 || mtu.is_none(), "{result}");
}

/// As runtimes send it, and send it again.
#[test]
fn del_needs_no_living_namespace_in_any_version() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    for version in SpecVersion::ALL {
        let host = Node::create("host")?;
        let before = Snapshot::take(&host)?;
        let network = network(&host, version)?;
        for netns in ["its own", "", "/run/netns/nothing"] {
            let pod = Pod::create("pod")?;
            let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
            runtime.add(&network, &pod.attachment())?;
            let gone = match netns {
                "its own" => pod.attachment(),
                netns => Attachment::new(&pod.container_id, netns),
            };
            for time in ["first", "second"] {
                runtime.del(&network, &gone)?;
                let case = format!("{version}, CNI_NETNS {netns:?}, the {time} time");
                assert_nothing_left(&host, &before, &case)?;
            }
        }
    }
    Ok(())
}

#[test]
fn del_of_a_pod_that_never_was() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    for version in SpecVersion::ALL {
        let host = Node::create("host")?;
        let before = Snapshot::take(&host)?;
        let pod = Pod::create("pod")?;
        let mut runtime = Runtime::new(&host, bins::plugin_dir()?);
        runtime.del(&network(&host, version)?, &pod.attachment())?;
        assert_nothing_left(&host, &before, version.as_str())?;
    }
    Ok(())
}
