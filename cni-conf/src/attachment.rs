//! The triple that owns whatever an ADD makes, and the names it gives to it.
//!
//! Everything a plugin leaves in the kernel or on disk must be found again from (network,
//! container ID, interface name) alone, because that is all a runtime is bound to send with DEL.
//! All hashes here are read back by later versions of the plugins: they must never change.

use sha2::{Digest, Sha256};

use crate::names::{NameError, check_container_id, check_ifname, check_network_name};

/// How many names a host veth may have; see [`Attachment::host_veth_name`].
pub const SALTS: u8 = 4;

/// The digits of RFC 4648, in lower case.
const BASE32: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";

/// The longest interface alias the kernel keeps (IFALIASZ - 1), in bytes.
const ALIAS_MAX: usize = 255;

/// The longest comment the kernel keeps in nf_tables, in bytes with its NUL.
const COMMENT_MAX: usize = 128;

/// One container's interface on one network. Made by [`Attachment::new`] only, so the names in it
/// are always valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Attachment {
    /// The configuration's `name`.
    pub network: String,
    /// CNI_CONTAINERID
    pub container_id: String,
    /// CNI_IFNAME
    pub ifname: String,
}

impl Attachment {
    /// The attachment of these three.
    ///
    /// # Errors
    /// [`NameError`] for the first name that breaks the rules of [`crate::names`].
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Result<Attachment, NameError> {
        check_network_name(network)?;
        check_container_id(container_id)?;
        check_ifname(ifname)?;
        Ok(Attachment {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        })
    }

    /// The name of the link that limits what the container sends: [`limiter_part`] and 40 bits of a
    /// hash as in [`Attachment::host_veth_name`], with salts as there.
    pub fn limiter_name(&self, salt: u8) -> String {
        limiter_part(&self.network) + &self.own_part(salt, 8)
    }

    /// The name of the veth's end on the host: [`network_part`] and 35 bits of a hash of the
    /// container ID and the interface name, 15 characters in all.
    ///
    /// The name is the owner's mark that exists from the veth's first instant. Should another
    /// attachment have it already (its alias says so), the next of the [`SALTS`] is tried; who
    /// looks for the veth looks at all of them.
    pub fn host_veth_name(&self, salt: u8) -> String {
        network_part(&self.network) + &self.own_part(salt, 7)
    }

    /// All names of [`Attachment::host_veth_name`], in the order of their salts.
    pub fn host_veth_names(&self) -> Vec<String> {
        let network = network_part(&self.network);
        (0..SALTS).map(|salt| format!("{network}{}", self.own_part(salt, 7))).collect()
    }

    /// What a link's name has of the container ID and the interface name, in so many characters.
    fn own_part(&self, salt: u8, length: usize) -> String {
        let hash = Sha256::new()
            .chain_update([salt])
            .chain_update(&self.container_id)
            .chain_update([0])
            .chain_update(&self.ifname)
            .finalize();
        base32(&hash, length)
    }

    /// The interface alias: the triple in clear, `network/containerID/ifname`. Should that be more
    /// than the kernel keeps, [`Attachment::owner_key`] instead.
    pub fn alias(&self) -> String {
        let clear = format!("{}/{}/{}", self.network, self.container_id, self.ifname);
        if clear.len() <= ALIAS_MAX { clear } else { self.owner_key() }
    }

    /// The attachment that an alias names in clear. None of the three names can hold a `/`, so
    /// there is one reading only.
    pub fn parse_alias(alias: &str) -> Option<Attachment> {
        let mut parts = alias.split('/');
        let attachment = Attachment::new(parts.next()?, parts.next()?, parts.next()?).ok()?;
        parts.next().is_none().then_some(attachment)
    }

    /// A short name for the triple, of letters `a`–`z`, digits `2`–`7` and one dash: 41 characters,
    /// of which the first 16 are the [`network_key`].
    pub fn owner_key(&self) -> String {
        let hash = Sha256::new()
            .chain_update(&self.network)
            .chain_update([0])
            .chain_update(&self.container_id)
            .chain_update([0])
            .chain_update(&self.ifname)
            .finalize();
        format!("{}-{}", network_key(&self.network), base32(&hash, 24))
    }

    /// The triple in clear if it fits a comment in nf_tables, of which `nft` shows 127 bytes; else
    /// [`Attachment::owner_key`].
    pub fn label(&self) -> String {
        let clear = self.alias();
        if clear.len() < COMMENT_MAX { clear } else { self.owner_key() }
    }
}

/// What the names of all host veths of a network begin with: `veth` and 20 bits of its hash. Two
/// networks may share it, so it says where to look, not who owns.
pub fn network_part(network: &str) -> String {
    format!("veth{}", base32(&Sha256::digest(network), 4))
}

/// What the names of all limiters of a network begin with; see [`network_part`].
pub fn limiter_part(network: &str) -> String {
    format!("bwc{}", base32(&Sha256::digest(network), 4))
}

/// Whether a link's name has the form of [`Attachment::limiter_name`] for this network.
pub fn may_be_limiter_of(name: &str, network: &str) -> bool {
    let rest = name.strip_prefix(&limiter_part(network));
    rest.is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| BASE32.contains(&byte)))
}

/// Whether a link's name has the form of [`Attachment::host_veth_name`] for this network. The
/// reference's names, `veth` and eight digits, are shorter.
pub fn may_be_host_veth_of(name: &str, network: &str) -> bool {
    let rest = name.strip_prefix(&network_part(network));
    rest.is_some_and(|rest| rest.len() == 7 && rest.bytes().all(|byte| BASE32.contains(&byte)))
}

/// What the [`Attachment::owner_key`]s of a network begin with: 80 bits of its hash.
pub fn network_key(network: &str) -> String {
    base32(&Sha256::digest(network), 16)
}

/// Whether an alias made by [`Attachment::alias`] names an attachment of this network.
pub fn alias_names_network(alias: &str, network: &str) -> bool {
    match alias.split_once('/') {
        Some((named, _)) => named == network,
        None => alias.strip_prefix(&network_key(network)).is_some_and(|rest| rest.starts_with('-')),
    }
}

/// The first `length` characters of `bytes` in base 32 (RFC 4648, lower case, no padding).
fn base32(bytes: &[u8], length: usize) -> String {
    let bit =
        |index: usize| bytes.get(index / 8).is_some_and(|byte| byte >> (7 - index % 8) & 1 == 1);
    (0..length)
        .map(|position| {
            let five_bits =
                (0..5).fold(0, |value, i| value << 1 | usize::from(bit(position * 5 + i)));
            char::from(BASE32[five_bits])
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment::new(network, container_id, ifname).unwrap()
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        // RFC 4648, section 10
        assert_eq!(base32(b"foobar", 9), "mzxw6ytbo");
        assert_eq!(base32(b"fooba", 8), "mzxw6ytb");
        assert_eq!(base32(&[0xff; 5], 8), "77777777");
    }

    /// These names are in the kernels of running nodes: a new version must find them.
    #[test]
    fn the_names_of_a_triple_never_change() {
        let pod = attachment("cbr0", "0123456789abcdef", "eth0");
        assert_eq!(pod.alias(), "cbr0/0123456789abcdef/eth0");
        assert_eq!(pod.host_veth_name(0), "vethkt4dxjzron6");
        assert_eq!(pod.host_veth_name(1), "vethkt4ddci7alu");
        assert_eq!(pod.limiter_name(0), "bwckt4dxjzron6g");
        assert!(may_be_limiter_of(&pod.limiter_name(1), "cbr0"));
        assert!(!may_be_limiter_of(&pod.limiter_name(1), "other"));
        assert_eq!(pod.owner_key(), "kt4dqwv2hpxjmlkj-taehmqec6k2og7ama72mkqcf");
    }

    #[test]
    fn the_veth_name_is_a_whole_interface_name_and_begins_with_the_network() {
        let pod = attachment("cbr0", "c1", "eth0");
        for salt in 0..SALTS {
            let name = pod.host_veth_name(salt);
            assert_eq!(name.len(), 15);
            assert_eq!(check_ifname(&name), Ok(()));
            assert!(name.starts_with(&network_part("cbr0")));
            assert!(may_be_host_veth_of(&name, "cbr0") && !may_be_host_veth_of(&name, "other"));
            assert_eq!(pod.host_veth_names()[usize::from(salt)], name);
        }
        assert_eq!(network_part("cbr0").len(), 8);
    }

    #[test]
    fn every_part_of_the_triple_counts() {
        let pod = attachment("a", "b", "c");
        for other in
            [attachment("x", "b", "c"), attachment("a", "x", "c"), attachment("a", "b", "x")]
        {
            assert_ne!(pod.host_veth_name(0), other.host_veth_name(0));
            assert_ne!(pod.owner_key(), other.owner_key());
            assert_ne!(pod.alias(), other.alias());
        }
        // what one part loses the next must not gain
        assert_ne!(
            attachment("n", "ab", "c").host_veth_name(0),
            attachment("n", "a", "bc").host_veth_name(0)
        );
        assert_ne!(pod.host_veth_name(0), pod.host_veth_name(1));
    }

    #[test]
    fn owner_keys_of_a_network_share_its_key() {
        let key = attachment("cbr0", "c1", "eth0").owner_key();
        assert!(key.starts_with(&format!("{}-", network_key("cbr0"))));
        assert_eq!(key.len(), 41);
        assert!(key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7' | b'-')));
    }

    #[test]
    fn an_alias_too_long_for_the_kernel_is_the_owner_key() {
        let longest = attachment("n", &"c".repeat(248), "eth0");
        assert_eq!(longest.alias().len(), ALIAS_MAX);
        let long = attachment("n", &"c".repeat(249), "eth0");
        assert_eq!(long.alias(), long.owner_key());
        assert!(alias_names_network(&long.alias(), "n"));
        assert!(!alias_names_network(&long.alias(), "m"));
    }

    #[test]
    fn foreign_aliases_are_nobody_s() {
        for alias in ["", "uplink", "a/b", "a/b/c/d", "a//c", "a/b/", "/b/c", "a b/c/d", "a/b/c d"]
        {
            assert_eq!(Attachment::parse_alias(alias), None, "{alias}");
        }
        assert!(!alias_names_network("", "a"));
        assert!(!alias_names_network("a", "a"));
    }

    #[test]
    fn bad_names_are_refused() {
        assert_eq!(Attachment::new("", "b", "c"), Err(NameError::MissingNetworkName));
        assert_eq!(Attachment::new("a", "b/", "c"), Err(NameError::ContainerId("b/".to_owned())));
        assert!(Attachment::new("a", "b", "c/d").is_err());
    }

    proptest! {
        #[test]
        fn an_alias_reads_back(
            network in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,30}",
            container_id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,64}",
            ifname in "[a-z0-9.@_-]{3,15}",
        ) {
            let pod = attachment(&network, &container_id, &ifname);
            prop_assert!(alias_names_network(&pod.alias(), &network));
            prop_assert_eq!(Attachment::parse_alias(&pod.alias()), Some(pod));
        }

        #[test]
        fn no_alias_panics(alias in any::<String>()) {
            let _ = Attachment::parse_alias(&alias);
            let _ = alias_names_network(&alias, "a");
        }
    }
}
