//! The names and comments by which the Go plugin finds its own rules.

use cni_conf::attachment::Attachment;
use plugin_interface::reference::hash;

/// The chain of iptables that leads to all containers' chains.
pub(super) const ENTRANCE: &str = "CNI-HOSTPORT-DNAT";
/// What the names of the containers' chains begin with.
pub(super) const OF_CONTAINER: &str = "CNI-DN-";

/// The name of a container's chain in iptables. The interface is no part of it; and since the two
/// names are joined without a mark between them, the comment must be looked at as well.
pub(super) fn chain(network: &str, container_id: &str) -> String {
    format!("{OF_CONTAINER}{}", hash(&format!("{network}{container_id}"), 21))
}

/// The comment of the rules of iptables that lead to a container's chain.
pub(super) fn comment(network: &str, container_id: &str) -> String {
    format!("dnat name: \"{network}\" id: \"{container_id}\"")
}

/// The container in such a comment, if it is one of this network.
pub(super) fn container_of<'a>(comment: &'a str, network: &str) -> Option<&'a str> {
    let rest = comment.strip_prefix("dnat name: \"")?.strip_prefix(network)?;
    rest.strip_prefix("\" id: \"")?.strip_suffix('"')
}

/// The comment of a container's rules in the tables of nftables, which is all that they tell.
pub(super) fn nftables_comment(attachment: &Attachment) -> &str {
    &attachment.container_id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 1.9.1 makes them.
    #[test]
    fn the_names_are_the_reference_s() {
        assert_eq!(chain("net", "pod1"), "CNI-DN-18e4b887dc77d232b165c");
        assert_eq!(comment("net", "pod1"), r#"dnat name: "net" id: "pod1""#);
    }

    #[test]
    fn a_comment_tells_the_container_of_its_network_only() {
        assert_eq!(container_of(r#"dnat name: "net" id: "pod""#, "net"), Some("pod"));
        for other in [r#"dnat name: "net2" id: "pod""#, r#"name: "net" id: "pod""#, ""] {
            assert_eq!(container_of(other, "net"), None, "{other}");
        }
    }
}
