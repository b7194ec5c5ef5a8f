//! The format of the nodes file: a JSON list of nodes.
//!
//! ```json
//! [
//!   {"name": "node1", "address": "10.100.0.2", "podCIDRs": ["10.0.1.0/24"]},
//!   {"name": "node2", "addresses": ["10.100.0.3", "fd00::3"],
//!    "podCIDRs": ["10.0.2.0/24", "fd00:2::/64"]}
//! ]
//! ```
//!
//! A node whose ends of the tunnel are not those that follow from its addresses, such as flannel's,
//! has `"vteps": {"v4": "c6:00:00:00:00:01"}`.
//!
//! A list is taken as a whole or not at all: one bad entry may be the sign of a bad edit. Whether
//! a well-formed claim is a sane one is judged later, one claim at a time ([`crate::claims`]).

use std::collections::HashSet;
use std::net::IpAddr;

use cni_conf::json;
use serde::{Deserialize, Serialize};

use super::Node;
use crate::tunnel::Vteps;
use crate::tunnel::vtep::is_end;

/// Why a text is not a list of nodes.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// Not JSON, or not of the right shape. serde_json's text names the line and the column.
    #[error(
        "not a JSON list of nodes: {0}; an entry looks like \
         {{\"name\": \"node1\", \"address\": \"10.100.0.2\", \"podCIDRs\": [\"10.0.1.0/24\"]}}"
    )]
    Json(#[from] serde_json::Error),
    /// One entry is wrong.
    #[error("entry {number} (name {name:?}): {problem}")]
    Entry {
        /// The place in the list, counted from 1.
        number: usize,
        /// The entry's name, as written.
        name: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with one entry, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A name that cannot be shown in a table or told from no name.
    #[error("the name is empty or has blanks in it; give the node's host name")]
    Name,
    /// Two entries would be one node.
    #[error("an earlier entry has the same name; merge the two or rename one")]
    NameTwice,
    /// No gateway for anybody.
    #[error("no address; give \"address\": \"10.100.0.2\", or \"addresses\" with one a family")]
    NoAddress,
    /// Neither is better than the other.
    #[error("both \"address\" and \"addresses\" are given; keep one of them")]
    BothAddressKeys,
    /// Not an address.
    #[error("address {0:?} is not an IP address; write it like \"10.100.0.2\" or \"fd00::2\"")]
    Address(String),
    /// Which would be the gateway?
    #[error("address {0} is the second one of its family; keep one a family")]
    FamilyTwice(IpAddr),
    /// Not a range.
    #[error("Pod CIDR {0:?} is not a range; write it like \"10.0.1.0/24\" or \"fd00:1::/64\"")]
    PodCidr(String),
    /// Not a hardware address, or not of one device.
    #[error(
        "{0:?} in \"vteps\" is no hardware address of a device; write it like \"0e:cb:0a:64:00:02\""
    )]
    Vtep(String),
}

/// An entry as written. Unknown keys are ignored, so that a file may carry notes of its own.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    addresses: Option<Vec<String>>,
    // Required, so that a misspelt key is not taken for a node without Pods.
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vteps: Option<WrittenVteps>,
}

/// The ends of the tunnel to a node, where they are not those that follow from its addresses.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVteps {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v4: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v6: Option<String>,
}

/// Reads a list of nodes.
pub fn parse(text: &str) -> Result<Vec<Node>, NodesError> {
    let entries: Vec<Entry> = serde_json::from_str(text)?;
    let mut names = HashSet::new();
    let mut nodes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let name = entry.name.clone();
        let node = if names.insert(name.clone()) { node(entry) } else { Err(Problem::NameTwice) };
        nodes.push(node.map_err(|problem| NodesError::Entry {
            number: index + 1,
            name,
            problem,
        })?);
    }
    Ok(nodes)
}

/// Writes a list of nodes so that [`parse`] reads the same one; but for nodes without an address,
/// which it would refuse, and which say nothing yet.
pub fn render(nodes: &[Node]) -> Result<String, serde_json::Error> {
    let entries: Vec<Entry> = nodes
        .iter()
        .filter(|node| !node.addresses.is_empty())
        .map(|node| Entry {
            name: node.name.clone(),
            address: None,
            addresses: Some(node.addresses.iter().map(ToString::to_string).collect()),
            pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
            vteps: node.vteps.map(|vteps| WrittenVteps {
                v4: vteps.v4.map(|mac| mac.to_string()),
                v6: vteps.v6.map(|mac| mac.to_string()),
            }),
        })
        .collect();
    serde_json::to_string_pretty(&entries)
}

fn node(entry: Entry) -> Result<Node, Problem> {
    if entry.name.is_empty() || entry.name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Problem::Name);
    }
    let written = match (entry.address, entry.addresses) {
        (Some(_), Some(_)) => return Err(Problem::BothAddressKeys),
        (Some(one), None) => vec![one],
        (None, several) => several.unwrap_or_default(),
    };
    if written.is_empty() {
        return Err(Problem::NoAddress);
    }
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(written.len());
    for text in written {
        let address = json::ip(&text).map_err(|_| Problem::Address(text))?;
        if addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            return Err(Problem::FamilyTwice(address));
        }
        addresses.push(address);
    }
    let pod_cidrs = entry
        .pod_cidrs
        .into_iter()
        .map(|text| json::cidr(&text).map_err(|_| Problem::PodCidr(text)))
        .collect::<Result<_, _>>()?;
    let vteps = entry.vteps.map(vteps).transpose()?;
    Ok(Node { name: entry.name, addresses, pod_cidrs, vteps })
}

fn vteps(written: WrittenVteps) -> Result<Vteps, Problem> {
    let mac = |text: Option<String>| {
        text.map(|text| {
            let mac = text.parse().ok().filter(|&mac| is_end(mac));
            mac.ok_or(Problem::Vtep(text))
        })
        .transpose()
    };
    Ok(Vteps { v4: mac(written.v4)?, v6: mac(written.v6)? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const TWO: &str = r#"[
        {"name": "node1", "address": "10.100.0.2", "podCIDRs": ["10.0.1.0/24"], "rack": 7},
        {"name": "node2", "addresses": ["10.100.0.3", "fd00::3"],
         "podCIDRs": ["10.0.2.0/24", "fd00:2::/64"], "vteps": {"v6": "c6:00:00:00:00:01"}}
    ]"#;

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    fn entry(fields: &str) -> String {
        format!(r#"[{{"name": "a", "address": "10.0.0.1", "podCIDRs": []}}, {{{fields}}}]"#)
    }

    #[test]
    fn reads_one_address_or_one_a_family() {
        let nodes = parse(TWO).unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].addresses, ["10.100.0.2".parse::<IpAddr>().unwrap()]);
        let v6 = json::cidr("fd00:2::/64").unwrap();
        assert_eq!(nodes[1].pod_cidrs[1], v6);
        assert_eq!(nodes[1].gateway_for(v6), Some("fd00::3".parse().unwrap()));
        assert_eq!(nodes[0].gateway_for(v6), None);
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let nodes = parse(TWO).unwrap();
        assert_eq!(parse(&render(&nodes).unwrap()).unwrap(), nodes);
    }

    #[test]
    fn a_broken_text_names_the_line() {
        let text = refusal("[\n {\"name\": \"node1\",\n \"address\": }]");
        assert!(text.contains("line 3"), "{text}");
        assert!(refusal("").contains("line 1"));
        assert!(refusal("{}").contains("JSON list"));
    }

    #[test]
    fn a_misspelt_pod_cidrs_is_not_a_node_without_pods() {
        let text = refusal(&entry(r#""name": "b", "address": "10.0.0.2", "podCidrs": []"#));
        assert!(text.contains("podCIDRs"), "{text}");
    }

    #[test]
    fn a_bad_entry_is_named_with_its_value_and_a_remedy() {
        let cases = [
            (r#""name": "a", "address": "10.0.0.2", "podCIDRs": []"#, "same name"),
            (r#""name": "a b", "address": "10.0.0.2", "podCIDRs": []"#, "blanks"),
            (r#""name": "b", "podCIDRs": []"#, "no address"),
            (r#""name": "b", "addresses": [], "podCIDRs": []"#, "no address"),
            (r#""name": "b", "address": "1.1.1.1", "addresses": [], "podCIDRs": []"#, "keep one"),
            (r#""name": "b", "address": "10.0.0.02", "podCIDRs": []"#, "\"10.0.0.02\""),
            (r#""name": "b", "addresses": ["1.1.1.1", "1.1.1.2"], "podCIDRs": []"#, "1.1.1.2"),
            (r#""name": "b", "address": "1.1.1.1", "podCIDRs": ["10.0.1.0"]"#, "\"10.0.1.0\""),
            (
                r#""name": "b", "address": "1.1.1.1", "podCIDRs": [], "vteps": {"v4": "1"}"#,
                "\"vteps\"",
            ),
            (r#""name": "b", "address": "1.1.1.1", "podCIDRs": ["010.0.0.0/8"]"#, "\"010.0.0.0/8"),
        ];
        for (fields, part) in cases {
            let text = refusal(&entry(fields));
            assert!(text.starts_with("entry 2 ") && text.contains(part), "{fields}: {text}");
        }
    }
}
