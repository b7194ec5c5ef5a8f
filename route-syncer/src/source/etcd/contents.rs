//! What is in etcd below the prefix, at one revision: read at once, then kept by the watch.

use std::collections::BTreeMap;

/// The folder of leases.
const SUBNETS: &str = "subnets/";
/// The folder of signs that a node has left: the same names as in [`SUBNETS`]. It is ours, and
/// nothing to flannel.
const LEFT: &str = "left/";
const CONFIG: &str = "config";

/// The names of the keys.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Everything is below it; it ends with a slash.
    pub prefix: String,
}

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The bytes.
    pub value: Vec<u8>,
    /// The revision that wrote it last.
    pub revision: i64,
    /// The lease that it goes with; 0 for none.
    pub lease: i64,
}

/// All keys that concern us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The cluster ID of etcd.
    pub cluster: u64,
    /// The latest revision that is known to be in here.
    pub revision: i64,
    /// The configuration.
    pub config: Option<Stored>,
    /// The leases, by the name below their folder.
    pub leases: BTreeMap<String, Stored>,
    /// The signs of nodes that have left.
    pub left: BTreeMap<String, Stored>,
}

impl Layout {
    /// The layout below this prefix, such as `/coreos.com/network`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    /// The key of the configuration.
    pub fn config(&self) -> String {
        self.prefix.clone() + CONFIG
    }

    /// The key of a lease.
    pub fn lease(&self, name: &str) -> String {
        self.prefix.clone() + SUBNETS + name
    }

    /// The key that says that a lease's node has left.
    pub fn left(&self, name: &str) -> String {
        self.prefix.clone() + LEFT + name
    }
}

impl Contents {
    /// Takes a key that was written, or with `None` deleted. What does not concern us is ignored.
    pub fn set(&mut self, layout: &Layout, key: &[u8], stored: Option<Stored>) {
        let Some(path) = std::str::from_utf8(key).ok().and_then(|k| k.strip_prefix(&layout.prefix))
        else {
            return;
        };
        if path == CONFIG {
            self.config = stored;
        } else if let Some(name) = path.strip_prefix(SUBNETS) {
            set(&mut self.leases, name, stored);
        } else if let Some(name) = path.strip_prefix(LEFT) {
            set(&mut self.left, name, stored);
        }
    }
}

fn set(map: &mut BTreeMap<String, Stored>, name: &str, stored: Option<Stored>) {
    match stored {
        Some(stored) => map.insert(name.to_owned(), stored),
        None => map.remove(name),
    };
}
