//! A Node object, as far as it counts: all else is skipped while it is decoded.
//!
//! Nodes reach each other by their internal addresses, as their kubelets tell them. Where that is the
//! wrong link, and the kubelet cannot be told (`--node-ip`), an annotation names others.

use std::net::IpAddr;

use cni_conf::json;
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// The kind of address by which Nodes reach each other.
const INTERNAL: &str = "InternalIP";

/// A Node, as the API server tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeObject {
    /// What every object has.
    pub metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

/// What every object has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The Node's name.
    pub name: String,
    /// The version of the cluster's state in which the Node came to be like this.
    pub resource_version: String,
    /// When the Node was made, by the API server's clock.
    creation_timestamp: Option<String>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Annotations {
    /// The addresses that count in place of the internal ones, with commas.
    #[serde(rename = "cbr0/addresses")]
    addresses: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// What counts of a Node. Two that are equal mean the same routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// When the Node was made, in RFC 3339: texts that sort as the times do.
    pub created: String,
    /// The first InternalIP of each family, or what the annotation names.
    pub addresses: Vec<IpAddr>,
    /// The Pod ranges, one a family.
    pub pod_cidrs: Vec<IpNetwork>,
    /// What of these could not be read.
    pub unreadable: Vec<String>,
}

impl NodeObject {
    /// Takes out what counts.
    pub fn member(self) -> Member {
        let mut member = Member {
            created: self.metadata.creation_timestamp.unwrap_or_default(),
            ..Member::default()
        };
        if let Some(list) = self.metadata.annotations.addresses {
            list.split(',').for_each(|text| member.add_address(text.trim().to_owned()));
        } else {
            let internal = self.status.addresses.into_iter().filter(|it| it.kind == INTERNAL);
            internal.for_each(|it| member.add_address(it.address));
        }
        let Spec { pod_cidr, mut pod_cidrs } = self.spec;
        if pod_cidrs.is_empty() {
            // API servers before 1.16 know one range alone.
            pod_cidrs.extend(pod_cidr);
        }
        for text in pod_cidrs {
            match json::cidr(&text) {
                Ok(cidr) => member.pod_cidrs.push(cidr),
                Err(_) => member.unreadable.push(text),
            }
        }
        member
    }
}

impl Member {
    fn add_address(&mut self, text: String) {
        match json::ip(&text) {
            Ok(address) if self.has_family_of(address) => {}
            Ok(address) => self.addresses.push(address),
            Err(_) => self.unreadable.push(text),
        }
    }

    fn has_family_of(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn member(spec: &Value, addresses: &[(&str, &str)]) -> Member {
        let addresses: Vec<Value> =
            addresses.iter().map(|(kind, ip)| json!({"type": kind, "address": ip})).collect();
        let node = json!({
            "kind": "Node",
            "metadata": {"name": "node1", "uid": "u", "resourceVersion": "7",
                         "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}]},
            "spec": spec,
            "status": {"addresses": addresses, "conditions": [{"type": "Ready"}]},
        });
        serde_json::from_value::<NodeObject>(node).unwrap().member()
    }

    fn texts<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_internal_address_of_each_family_counts() {
        let member = member(
            &json!({}),
            &[
                ("Hostname", "node1"),
                ("ExternalIP", "192.0.2.1"),
                ("InternalIP", "fd00:100::2"),
                ("InternalIP", "10.100.0.2"),
                ("InternalIP", "10.200.0.2"),
                ("InternalIP", "fd00:200::2"),
            ],
        );
        assert_eq!(texts(&member.addresses), ["fd00:100::2", "10.100.0.2"]);
        assert_eq!(member.created, "2026-01-01T00:00:00Z");
    }

    #[test]
    fn an_annotation_names_other_addresses() {
        let addresses = |annotations: &Value| {
            let node = json!({
                "metadata": {"name": "node1", "resourceVersion": "7", "annotations": annotations},
                "status": {"addresses": [{"type": "InternalIP", "address": "10.100.0.2"}]},
            });
            let member = serde_json::from_value::<NodeObject>(node).unwrap().member();
            (texts(&member.addresses), member.unreadable)
        };
        let others = json!({"cbr0/addresses": "10.200.0.2, fd00:200::2", "other": "x"});
        let found = ["10.200.0.2", "fd00:200::2"].map(str::to_owned).to_vec();
        assert_eq!(addresses(&others), (found, Vec::new()));
        // A slip is told, and not answered by the address that is wrong.
        let slip = json!({"cbr0/addresses": "10.200.0"});
        assert_eq!(addresses(&slip), (Vec::new(), vec!["10.200.0".to_owned()]));
        let none = json!({"other": "x"});
        assert_eq!(addresses(&none), (vec!["10.100.0.2".to_owned()], Vec::new()));
    }

    #[test]
    fn pod_ranges_come_from_the_list_and_else_from_the_single_one() {
        let both = json!({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00:1::/64"]});
        assert_eq!(texts(&member(&both, &[]).pod_cidrs), ["10.0.1.0/24", "fd00:1::/64"]);
        let old = json!({"podCIDR": "10.0.1.0/24"});
        assert_eq!(texts(&member(&old, &[]).pod_cidrs), ["10.0.1.0/24"]);
        assert_eq!(member(&json!({"taints": []}), &[]).pod_cidrs, []);
    }

    #[test]
    fn what_cannot_be_read_spoils_nothing_else() {
        let spec = json!({"podCIDRs": ["10.0.1.0", "fd00:1::/64"]});
        let member = member(&spec, &[("InternalIP", "10.100.0.02"), ("InternalIP", "fd00::2")]);
        assert_eq!(member.unreadable, ["10.100.0.02", "10.0.1.0"]);
        assert_eq!(texts(&member.pod_cidrs), ["fd00:1::/64"]);
        assert_eq!(texts(&member.addresses), ["fd00::2"]);
    }

    #[test]
    fn a_node_that_was_just_made_has_neither() {
        let bare = r#"{"metadata": {"name": "node1", "resourceVersion": "1",
                                    "creationTimestamp": null}}"#;
        assert_eq!(serde_json::from_str::<NodeObject>(bare).unwrap().member(), Member::default());
    }
}
