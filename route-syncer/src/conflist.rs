//! The network configuration that container runtimes read (`/etc/cni/net.d`), with this node's own
//! subnets in it.
//!
//! It is rendered from the same file that people copy by hand, and bears a mark by which it is
//! known again: a list without it is somebody else's, and is neither replaced nor removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::node_files::Facts;
use crate::replace::replace;

/// Where runtimes look unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/cni/net.d/10-cbr0.conflist";

const TEMPLATE: &str = include_str!("../../cni-conf/net.d/10-cbr0.conflist");
/// A key that the CNI specification does not know, so that runtimes ignore it.
const MARK: &str = "writtenBy";
const WRITER: &str = "cbr0 route-syncer";

/// Why the conflist is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConflistError {
    /// Reading or writing failed.
    #[error("{}: cannot {what}: {source}; give another path with --conflist", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The operating system's word.
        source: io::Error,
    },
    /// Somebody else wrote it.
    #[error(
        "{}: not written by route-syncer ({MARK:?} is not {WRITER:?}), so it stays as it is; move \
         it away, or give another path with --conflist",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The path of the sign that plugins look for does not fit into JSON.
    #[error("the path of --run-dir does not fit into a conflist: {0}; give another one")]
    Render(#[from] serde_json::Error),
}

/// The conflist of a node, as text. `synced` is the file by which the daemon tells plugins that the
/// routes are there.
///
/// # Errors
/// The path is no text.
pub fn render(facts: &Facts, synced: &Path) -> Result<String, serde_json::Error> {
    let mut list: Value = serde_json::from_str(TEMPLATE)?;
    list[MARK] = json!(WRITER);
    let bridge = &mut list["plugins"][0];
    bridge["mtu"] = json!(facts.mtu);
    bridge["syncStatus"] = serde_json::to_value(synced)?;
    let sets = range_sets(facts);
    // A node that comes back with another range: the bridge's old address gives way to the new one's.
    // Of two ranges of one family each would push out the other's.
    bridge["forceAddress"] = json!(sets.iter().all(|set| set.len() == 1));
    bridge["ipam"]["ranges"] = json!(sets);
    Ok(format!("{list:#}\n"))
}

/// A Pod gets one address of each set: one set a family, with all of its ranges.
fn range_sets(facts: &Facts) -> Vec<Vec<Value>> {
    let family = |v4: bool| {
        let ranges = facts.ranges.iter().filter(move |range| range.is_ipv4() == v4);
        ranges.map(|range| json!({"subnet": range.to_string()})).collect::<Vec<_>>()
    };
    [family(true), family(false)].into_iter().filter(|set| !set.is_empty()).collect()
}

/// Whether a conflist with this text was written by a route syncer.
pub fn is_ours(text: &[u8]) -> bool {
    serde_json::from_slice::<Value>(text).is_ok_and(|list| list[MARK] == WRITER)
}

/// Writes the conflist, if it is not there or differs. Returns whether it was written.
///
/// # Errors
/// It cannot be written, or there is one that is not ours. What is there is as it was then.
pub fn write(path: &Path, facts: &Facts, synced: &Path) -> Result<bool, ConflistError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| ConflistError::Io { path, what, source }
    };
    // Plugins are run in whatever folder the runtime is in.
    let synced = std::path::absolute(synced).map_err(failed("tell where --run-dir is"))?;
    let text = render(facts, &synced)?;
    match fs::read(path) {
        Ok(found) if found == text.as_bytes() => return Ok(false),
        Ok(found) if !is_ours(&found) => {
            return Err(ConflistError::Foreign { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder).map_err(failed("make its folder"))?;
        }
        Err(error) => return Err(failed("read it")(error)),
    }
    replace(path, text.as_bytes(), 0o644).map_err(failed("write it"))?;
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn facts(ranges: &[&str]) -> Facts {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Facts { ranges, mtu: 1450, cluster: Vec::new() }
    }

    fn rendered(ranges: &[&str]) -> Value {
        let text = render(&facts(ranges), Path::new("/run/other/synced.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn it_is_the_template_with_what_is_the_nodes_own() {
        let mut list = rendered(&["10.0.7.0/24"]);
        assert_eq!(list["writtenBy"], "cbr0 route-syncer");
        let bridge = &mut list["plugins"][0];
        assert_eq!(bridge["mtu"], 1450);
        assert_eq!(bridge["syncStatus"], "/run/other/synced.json");
        assert_eq!(bridge["ipam"]["ranges"], json!([[{"subnet": "10.0.7.0/24"}]]));
        // With these as they are in the template, nothing differs.
        let template: Value = serde_json::from_str(TEMPLATE).unwrap();
        bridge["ipam"] = template["plugins"][0]["ipam"].clone();
        bridge["syncStatus"] = template["plugins"][0]["syncStatus"].clone();
        for own in ["mtu", "forceAddress"] {
            bridge.as_object_mut().unwrap().remove(own);
        }
        list.as_object_mut().unwrap().remove("writtenBy");
        assert_eq!(list, template);
    }

    #[test]
    fn a_pod_gets_one_address_of_each_family() {
        let ranges = |list: Value| list["plugins"][0]["ipam"]["ranges"].clone();
        assert_eq!(
            ranges(rendered(&["fd00:7::/64", "10.0.7.0/24"])),
            json!([[{"subnet": "10.0.7.0/24"}], [{"subnet": "fd00:7::/64"}]])
        );
        assert_eq!(
            ranges(rendered(&["10.0.7.0/24", "10.0.9.0/24"])),
            json!([[{"subnet": "10.0.7.0/24"}, {"subnet": "10.0.9.0/24"}]])
        );
    }

    #[test]
    fn an_old_address_of_the_bridge_gives_way_where_ranges_do_not_take_turns() {
        let gives_way = |ranges: &[&str]| rendered(ranges)["plugins"][0]["forceAddress"].clone();
        assert_eq!(gives_way(&["10.0.7.0/24", "fd00:7::/64"]), true);
        assert_eq!(gives_way(&["10.0.7.0/24", "10.0.9.0/24"]), false);
    }

    #[test]
    fn it_is_written_when_it_differs_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.d/10-cbr0.conflist");
        let synced = Path::new("/run/cbr0/synced.json");
        assert!(write(&path, &facts(&["10.0.7.0/24"]), synced).unwrap());
        assert!(!write(&path, &facts(&["10.0.7.0/24"]), synced).unwrap());
        assert!(is_ours(&fs::read(&path).unwrap()));
        assert!(write(&path, &facts(&["10.0.8.0/24"]), synced).unwrap());
        assert!(fs::read_to_string(&path).unwrap().contains("10.0.8.0/24"));
    }

    #[test]
    fn somebody_elses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-cbr0.conflist");
        for foreign in [TEMPLATE, "", "{", "[]", "{\"writtenBy\": \"me\"}"] {
            fs::write(&path, foreign).unwrap();
            let synced = Path::new("/run/cbr0/synced.json");
            let error = write(&path, &facts(&["10.0.7.0/24"]), synced).unwrap_err().to_string();
            assert!(error.contains("10-cbr0.conflist") && error.contains("--conflist"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
    }
}
