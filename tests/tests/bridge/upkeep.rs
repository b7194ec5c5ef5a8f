//! GC and STATUS.

use std::fs;

use cbr0_tests::Outcome;
use cbr0_tests::pod::Pod;
use cbr0_tests::snapshot::Snapshot;
use cni_conf::sync_status::SyncStatus;
use kernel::nft::{Chain, Family, Nft, Table};
use serde_json::{Value, json};

use crate::fixture::{Host, assert_error, host_end, refused};

#[test]
fn gc_removes_exactly_what_no_valid_attachment_owns() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true}));
    host.warm_up(&network)?;
    let mut runtime = host.runtime()?;
    let (kept, lost) = (Pod::create("kept")?, Pod::create("lost")?);
    runtime.add(&network, &kept.attachment())?;
    let before = Snapshot::take(&host.node)?;
    runtime.add(&network, &lost.attachment())?;
    // Killed before the alias: only the name tells whose it is.
    let nameless =
        cni_conf::attachment::Attachment::new("cbr0", "killed", "eth0").unwrap().host_veth_name(0);
    host.foreign_veth(&nameless, lost.netns(), "eth7", "")?;
    runtime.gc(&network, &[&kept.attachment()])?;
    host.assert_as(&before)?;
    runtime.check(&network, &kept.attachment())?;
    Ok(())
}

#[test]
fn gc_removes_the_chain_of_a_del_that_was_killed() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true}));
    let before = host.warm_up(&network)?;
    let table = Table { family: Family::Inet, name: "cbr0_masquerade" };
    let unused = Chain { table, name: "net-10.0.1.0/24" };
    Nft::open_in(host.node.netns())?.commit(&[unused.create()])?;
    host.runtime()?.gc(&network, &[])?;
    Ok(host.assert_as(&before)?)
}

#[test]
fn gc_leaves_other_networks_alone() -> Outcome {
    let Some(host) = Host::masquerading()? else { return Ok(()) };
    let network = host.network(&json!({"ipMasq": true}));
    let mut other = network.clone();
    other.name = "other".into();
    let pod = Pod::create("pod")?;
    host.runtime()?.add(&network, &pod.attachment())?;
    let before = Snapshot::take(&host.node)?;
    host.runtime()?.gc(&other, &[])?;
    Ok(host.assert_as(&before)?)
}

/// GC with these keys in the configuration.
fn gc(host: &Host, keys: &Value) -> Result<(), cbr0_tests::Failure> {
    let network = host.network(keys);
    let call = host.runtime()?.call(&network, 0, "GC", None)?;
    match call.run(&host.node)?.failure() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

#[test]
fn gc_tells_no_list_from_an_empty_one() -> Outcome {
    for (keys, removed) in [
        (json!({}), false),
        (json!({"cni.dev/valid-attachments": null}), true),
        (json!({"cni.dev/valid-attachments": []}), true),
        (json!({"cni.dev/attachments": []}), true),
        (
            json!({"cni.dev/valid-attachments": [{"containerID": "pod", "ifname": "eth0"}], "cni.dev/attachments": []}),
            false,
        ),
    ] {
        let Some(host) = Host::new()? else { return Ok(()) };
        // A Pod's namespace takes the veth with it.
        let pod = Pod::create("pod")?;
        let result = host.runtime()?.add(&host.network(&json!({})), &pod.attachment())?;
        gc(&host, &keys)?;
        assert_eq!(host.link(host_end(&result))?.is_none(), removed, "{keys}");
        let reserved = host.node.data_dir().join("cbr0/10.0.1.2");
        assert_eq!(!reserved.exists(), removed, "{keys}");
    }
    Ok(())
}

#[test]
fn status_waits_for_the_first_sync_since_boot_and_no_longer() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let path = host.node.folder().join("synced.json");
    let network = host.network(&json!({"syncStatus": path}));
    assert_error(&refused(host.runtime()?.status(&network)), 50, "synced.json");

    fs::write(&path, r#"{"boot_id": "another boot", "node": "n", "first_sync": "then"}"#).unwrap();
    refused(host.runtime()?.status(&network));

    SyncStatus::of_this_boot("host", "now")?.write(&path)?;
    Ok(host.runtime()?.status(&network)?)
}

#[test]
fn status_tells_what_would_fail_and_a_full_range_is_not_that() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let full = host.network(&json!({"ipam": host.host_local(&json!({"subnet": "10.0.1.0/30"}))}));
    host.runtime()?.status(&full)?;
    host.runtime()?.add(&full, &Pod::create("pod")?.attachment())?;
    host.runtime()?.status(&full)?;
    for (keys, words) in [
        (json!({"bridge": "lo"}), "not a bridge"),
        (json!({"mtu": 1}), "mtu 1"),
        (json!({"ipam": {"type": "nosuch"}}), "nosuch"),
        (json!({"ipam": host.host_local(&json!({"subnet": "10.0.1.1/24"}))}), "host bits"),
    ] {
        assert_error(&refused(host.runtime()?.status(&host.network(&keys))), 50, words);
    }
    Ok(())
}
