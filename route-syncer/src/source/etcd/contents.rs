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
    /// Takes a key that was written, or with `None` deleted, at `revision`. What does not concern us
    /// is ignored, and so is what is older than what is here: the answer to a transaction may be
    /// known before the watch tells what came before it.
    pub fn set(&mut self, layout: &Layout, key: &[u8], revision: i64, stored: Option<Stored>) {
        let Some(path) = std::str::from_utf8(key).ok().and_then(|k| k.strip_prefix(&layout.prefix))
        else {
            return;
        };
        if path == CONFIG {
            self.config = stored;
        } else if let Some(name) = path.strip_prefix(SUBNETS) {
            set(&mut self.leases, name, revision, stored);
        } else if let Some(name) = path.strip_prefix(LEFT) {
            set(&mut self.left, name, revision, stored);
        }
    }
}

fn set(map: &mut BTreeMap<String, Stored>, name: &str, revision: i64, stored: Option<Stored>) {
    if map.get(name).is_some_and(|here| here.revision > revision) {
        return;
    }
    match stored {
        Some(stored) => map.insert(name.to_owned(), stored),
        None => map.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_what_is_here_is_ignored() {
        let layout = Layout::new("/p");
        let mut contents = Contents::default();
        let key = layout.lease("10.0.1.0-24");
        let at = |revision| Stored { value: Vec::new(), revision, lease: 0 };
        contents.set(&layout, key.as_bytes(), 7, Some(at(7)));
        contents.set(&layout, key.as_bytes(), 5, Some(at(5)));
        contents.set(&layout, key.as_bytes(), 6, None);
        assert_eq!(contents.leases.get("10.0.1.0-24"), Some(&at(7)));
        contents.set(&layout, key.as_bytes(), 8, None);
        assert_eq!(contents, Contents::default());
    }
}
