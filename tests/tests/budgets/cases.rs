//! The networks whose costs are told.

use std::process::Command;
use std::time::Duration;

use cbr0_tests::node::Node;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::Attachment;
use cbr0_tests::{LabError, Result, process};
use serde_json::{Value, json};

/// The plugin, what is special, and its keys.
pub(crate) struct Case {
    pub(crate) plugin: &'static str,
    pub(crate) with: &'static str,
    pub(crate) keys: &'static str,
    dual_stack: bool,
    /// Whether it is called behind bridge, and has no IPAM.
    pub(crate) is_chained: bool,
}

impl Case {
    const fn alone(plugin: &'static str, with: &'static str, keys: &'static str) -> Case {
        Case { plugin, with, keys, dual_stack: false, is_chained: false }
    }

    const fn chained(plugin: &'static str, with: &'static str, keys: &'static str) -> Case {
        Case { plugin, with, keys, dual_stack: false, is_chained: true }
    }

    /// The configuration of this plugin of the network, but for its own keys.
    pub(crate) fn conf(&self, plugin: &str, host: &Node) -> Value {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": plugin});
        if self.is_chained && plugin == self.plugin {
            // Of tuning; others do not know the key.
            conf["dataDir"] = json!(host.folder().join("tuning"));
            return conf;
        }
        let v4 = json!([{"subnet": "10.0.1.0/24"}]);
        let v6 = json!([{"subnet": "fd00:1::/64"}]);
        let ranges = if self.dual_stack { json!([v4, v6]) } else { json!([v4]) };
        conf["ipam"] = json!({"type": "host-local", "ranges": ranges, "dataDir": host.data_dir()});
        conf
    }

    /// Gives a container's configuration what the runtime puts into it: ports are its own.
    pub(crate) fn adapt(&self, conf: &mut Value, attachment: &Attachment) {
        if self.plugin != "portmap" {
            return;
        }
        let first = if attachment.container_id == "resident" { 8001 } else { 9001 };
        let mappings = [first, first + 1]
            .map(|port| json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"}));
        conf["runtimeConfig"] = json!({"portMappings": mappings});
    }

    /// Makes of the host what the plugin is for; false on a machine where that cannot be.
    pub(crate) fn prepare(&self, host: &Node) -> Result<bool> {
        match self.plugin {
            "bandwidth" => require::link_kind("ifb"),
            "firewall" => close(host),
            _ => Ok(true),
        }
    }
}

/// Lets nothing pass, so that firewall has something to do.
fn close(host: &Node) -> Result<bool> {
    let Some(iptables) = require::part(Part::Iptables)? else { return Ok(false) };
    for program in ["iptables-nft", "ip6tables-nft"] {
        let mut command = Command::new(iptables.join(program));
        command.args(["-P", "FORWARD", "DROP"]);
        let run = || process::run(command, b"", Duration::from_secs(60));
        let done = host.netns().run(run)??;
        if !done.status.success() {
            return Err(LabError::Wrong(format!("{program}: {}", done.stderr)));
        }
    }
    Ok(true)
}

/// Those that make the interface.
pub(crate) const ALONE: [Case; 4] = [
    Case::alone("bridge", "plain", r#"{"isDefaultGateway": true}"#),
    Case::alone("bridge", "`ipMasq`", r#"{"isDefaultGateway": true, "ipMasq": true}"#),
    Case {
        dual_stack: true,
        ..Case::alone("bridge", "IPv4 and IPv6", r#"{"isDefaultGateway": true}"#)
    },
    Case::alone("ptp", "plain", "{}"),
];

/// Those behind bridge.
pub(crate) const CHAINED: [Case; 4] = [
    Case::chained("portmap", "2 ports", "{}"),
    Case::chained("firewall", "nothing passes by default", "{}"),
    Case::chained(
        "tuning",
        "MAC and a setting",
        r#"{"mac": "02:00:00:00:00:99", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}"#,
    ),
    Case::chained(
        "bandwidth",
        "both directions",
        r#"{"ingressRate": 8000000, "ingressBurst": 80000, "egressRate": 8000000, "egressBurst": 80000}"#,
    ),
];
