//! The objects that DEL may leave behind, all of them in this place.

use super::Subject;

/// The table of `ipMasq`.
const MASQUERADE: &str = "inet cbr0_masquerade";
const MASQUERADE_FRAME: [&str; 7] = [
    "table",
    "chain postrouting",
    "rule postrouting ",
    "chain leaving",
    "rule leaving ",
    "set sources4",
    "set sources6",
];

/// What may stay behind after the last DEL of a network.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The bridge, whose name this is, with its address, routes and settings: it is made once and
    /// stays, since other networks and people may use it.
    bridge: Option<String>,
}

/// What the store keeps between calls beside the reservations: the last addresses that it gave, and
/// its index.
fn is_memory_of_the_store(name: &str) -> bool {
    name.starts_with("last_reserved_ip.") || name.starts_with('.') && name.ends_with(".index")
}

impl Shared {
    /// On a host where there was nothing before: the bridge of this name, forwarding, and the
    /// store's own files.
    pub fn with_bridge(name: &str) -> Self {
        Shared { bridge: Some(name.to_owned()) }
    }

    /// On a host where an ADD and a DEL were done before (the warm-up): the bridge and forwarding
    /// are there already and must not change; only the store remembers what it gave.
    pub fn after_warm_up() -> Self {
        Shared { bridge: None }
    }

    pub(super) fn allows(&self, subject: &Subject) -> bool {
        if let Subject::File(path) = subject
            && path.rsplit('/').next().is_some_and(is_memory_of_the_store)
        {
            return true;
        }
        let Some(bridge) = &self.bridge else { return false };
        match subject {
            Subject::Link(name) => name == bridge,
            Subject::Address { link, .. } | Subject::Route { link, .. } => link == bridge,
            // Turning forwarding on makes every link a router's, which does not take redirects.
            Subject::Sysctl(key) => {
                let mut parts = key.rsplit('/');
                let name = parts.next().unwrap_or_default();
                parts.next() == Some(bridge)
                    || matches!(name, "ip_forward" | "forwarding" | "accept_redirects")
            }
            // The frame that attachments hang their own objects in, but none of those.
            Subject::Nft { table, object } => {
                table == MASQUERADE && MASQUERADE_FRAME.iter().any(|part| object.starts_with(part))
            }
            // The folders of the store and the network, and the lock in it.
            Subject::File(path) => path.ends_with('/') || path.ends_with("/lock"),
        }
    }
}
