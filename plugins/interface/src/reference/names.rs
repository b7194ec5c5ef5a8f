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

/// The first digits of the SHA-512 in hexadecimal.
fn hash(text: &str, digits: usize) -> String {
    let hash = Sha512::digest(text);
    let mut hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}
