//! How much memory a plugin has at its peak is at most what `docs/costs.md` says. A test program of its
//! own, since whoever traces a process waits for all that there are.

use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::{LabError, Outcome, bins, require};
use serde_json::json;

#[path = "../src/bin/bench/memory.rs"]
mod memory;

const DOCUMENT: &str = include_str!("../../docs/costs.md");

#[test]
fn the_peak_of_memory_is_as_low_as_the_document_says() -> Outcome {
    if !require::root()? || !require::release()? {
        return Ok(());
    }
    let most = limit("a plugin's peak of resident memory, KiB").unwrap_or(0);
    let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
    let attachment = pod.attachment();
    for (plugin, keys) in
        [("bridge", r#"{"isDefaultGateway": true, "ipMasq": true}"#), ("ptp", "{}")]
    {
        let mut conf: serde_json::Value = serde_json::from_str(keys)?;
        let ranges = json!([[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:1::/64"}]]);
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!(plugin);
        conf["type"] = json!(plugin);
        conf["ipam"] = json!({"type": "host-local", "ranges": ranges, "dataDir": host.data_dir()});
        for verb in ["ADD", "DEL"] {
            let call = Call::new(bins::plugin(plugin)?, verb)
                .env("CNI_PATH", bins::plugin_dir()?.to_string_lossy())
                .env("CNI_CONTAINERID", &attachment.container_id)
                .env("CNI_NETNS", &attachment.netns)
                .env("CNI_IFNAME", &attachment.ifname)
                .stdin_json(&conf);
            let unseen = || LabError::Wrong(format!("{plugin} {verb} went away unseen"));
            let peak = memory::peak(&call, &host)?.ok_or_else(unseen)?;
            assert!(peak <= most, "{plugin} {verb}: {peak} KiB; docs/costs.md allows {most}");
        }
    }
    Ok(())
}

/// The number in the document's row of this name.
fn limit(name: &str) -> Option<u64> {
    let row = |line: &str| {
        line.strip_prefix("| ")?
            .strip_prefix(name)?
            .strip_prefix(" | ")?
            .strip_suffix(" |")?
            .parse()
            .ok()
    };
    DOCUMENT.lines().find_map(row)
}
