//! The names and comments by which the reference plugins find their own rules.
//!
//! They are interface: nodes have rules with these names in their kernels.

use cni_conf::attachment::Attachment;
use sha2::{Digest, Sha512};

/// The iptables chain of a container's masquerading. The interface is no part of it; and since the
/// two names are joined without a mark between them, the comment must be looked at as well.
pub(super) fn chain(network: &str, container_id: &str) -> String {
    format!("CNI-{}", hash(&format!("{network}{container_id}"), 24))
}

/// The comment of every iptables rule of a container's masquerading.
pub(super) fn comment(network: &str, container_id: &str) -> String {
    format!("name: \"{network}\" id: \"{container_id}\"")
}

/// The container ID in such a comment, if it is one of this network.
pub(super) fn container_of<'a>(comment: &'a str, network: &str) -> Option<&'a str> {
    let rest = comment.strip_prefix("name: \"")?.strip_prefix(network)?;
    rest.strip_prefix("\" id: \"")?.strip_suffix('"')
}

/// What the comments of an attachment's nftables rules begin with; the rest of them is for people
/// and may be cut.
pub(super) fn rule_key(attachment: &Attachment) -> String {
    let Attachment { network, container_id, ifname, .. } = attachment;
    format!("{}{}, ", network_key(network), hash(&format!("{ifname}:{container_id}"), 16))
}

/// What the [`rule_key`]s of a network begin with.
pub(super) fn network_key(network: &str) -> String {
    format!("{}-", hash(network, 16))
}

/// By what the rules and chains of the bridge's `macspoofchk` are called.
pub(super) fn spoof_check(attachment: &Attachment) -> String {
    format!("{}-{}", attachment.container_id, attachment.ifname)
}

/// The first digits of the SHA-512 of a text in hexadecimal, of which the reference makes names.
pub fn hash(text: &str, digits: usize) -> String {
    let hash = Sha512::digest(text);
    let mut hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As version 1.9.1 of the bridge makes them.
    #[test]
    fn the_names_are_the_reference_s() {
        let attachment = Attachment::new("net", "pod", "enf").unwrap();
        assert_eq!(chain("net", "pod"), "CNI-6230a40fd8ffb95b5b30f6b5");
        assert_eq!(comment("net", "pod"), r#"name: "net" id: "pod""#);
        let nftables = "a4861f4ae9f7d238-8f5cac22cc7cb592, net: net, if: enf, id: pod";
        assert!(nftables.starts_with(&rule_key(&attachment)));
        assert!(rule_key(&attachment).starts_with(&network_key("net")));
        assert_eq!(spoof_check(&attachment), "pod-enf");
    }

    #[test]
    fn a_comment_tells_the_container_of_its_network_only() {
        assert_eq!(container_of(r#"name: "net" id: "pod""#, "net"), Some("pod"));
        for comment in [
            r#"name: "net2" id: "pod""#,
            r#"name: "net" id: "pod"#,
            r#"dnat name: "net" id: "pod""#,
            "",
        ] {
            assert_eq!(container_of(comment, "net"), None, "{comment}");
        }
    }

    /// The kernel of a node has one chain for both: only the comment tells them apart.
    #[test]
    fn two_containers_may_share_a_chain_s_name() {
        assert_eq!(chain("net", "2pod"), chain("net2", "pod"));
        assert_ne!(comment("net", "2pod"), comment("net2", "pod"));
    }
}
