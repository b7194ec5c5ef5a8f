//! What makes the nodes of a [`crate::topology`] one cluster: the conflist that people copy, and
//! the file of nodes that their route syncers read.

use std::fs;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::error::{Context, LabError, Result};
use crate::node::Node;
use crate::topology::{pod_ranges, uplink_addresses};

const CONFLIST: &str = include_str!("../../cni-conf/net.d/10-cbr0.conflist");

/// The conflist as an administrator puts it on a node: with Pod ranges, and files, of its own.
///
/// # Errors
/// The shipped file is no JSON.
pub fn conflist(node: &Node, ranges: &[IpNetwork]) -> Result<Value> {
    let list = serde_json::from_str(CONFLIST);
    let mut list: Value = list.map_err(|error| LabError::Conflist(error.to_string()))?;
    let bridge = &mut list["plugins"][0];
    bridge["syncStatus"] = json!(sync_status(node));
    bridge["ipam"]["ranges"] =
        ranges.iter().map(|range| json!([{"subnet": range.to_string()}])).collect();
    bridge["ipam"]["dataDir"] = json!(node.data_dir());
    Ok(list)
}

/// Where a node's route syncer writes the conflist with the node's own subnets.
pub fn written_conflist(node: &Node) -> PathBuf {
    node.folder().join("10-cbr0.conflist")
}

/// The conflist that a node's route syncer wrote, but with the node's own `dataDir`: an
/// administrator's nodes have a `/var/lib` each.
///
/// # Errors
/// It cannot be read, or is no JSON.
pub fn read_conflist(node: &Node) -> Result<Value> {
    let file = written_conflist(node);
    let text = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
    let list = serde_json::from_str(&text);
    let mut list: Value = list.map_err(|error| LabError::Conflist(error.to_string()))?;
    list["plugins"][0]["ipam"]["dataDir"] = json!(node.data_dir());
    Ok(list)
}

/// The ranges of which a conflist gives addresses.
pub fn ranges(list: &Value) -> Vec<IpNetwork> {
    let sets = list["plugins"][0]["ipam"]["ranges"].as_array().into_iter().flatten();
    let ranges = sets.filter_map(Value::as_array).flatten();
    ranges.filter_map(|range| range["subnet"].as_str()?.parse().ok()).collect()
}

/// Where a node's route syncer says that it has synced.
pub fn sync_status(node: &Node) -> PathBuf {
    node.folder().join("synced.json")
}

/// Writes the file that tells every route syncer where every node's Pods are.
///
/// # Errors
/// The file cannot be written, or a node has no uplink.
pub fn write_nodes<'a>(file: &Path, nodes: impl IntoIterator<Item = (u8, &'a Node)>) -> Result<()> {
    write_families(file, nodes, 2)
}

/// As [`write_nodes`], of nodes whose Pods have IPv4 alone.
///
/// # Errors
/// As [`write_nodes`].
pub fn write_nodes_ipv4<'a>(
    file: &Path,
    nodes: impl IntoIterator<Item = (u8, &'a Node)>,
) -> Result<()> {
    write_families(file, nodes, 1)
}

/// Writes the addresses and Pod ranges of so many families, of which IPv4 is the first.
fn write_families<'a>(
    file: &Path,
    nodes: impl IntoIterator<Item = (u8, &'a Node)>,
    families: usize,
) -> Result<()> {
    let entry = |(number, node): (u8, &Node)| {
        let ranges = pod_ranges(number).map(|range| range.to_string());
        let (addresses, ranges) = (&uplink_addresses(node)?[..families], &ranges[..families]);
        Ok(json!({"name": node.name, "addresses": addresses, "podCIDRs": ranges}))
    };
    let list: Vec<Value> = nodes.into_iter().map(entry).collect::<Result<_>>()?;
    let text = format!("{:#}\n", Value::Array(list));
    // Whoever reads it while it is replaced has the one before.
    let new = file.with_extension("new");
    fs::write(&new, text).context(|| format!("write {}", new.display()))?;
    fs::rename(&new, file).context(|| format!("replace {}", file.display()))
}
