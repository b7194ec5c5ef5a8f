//! What a reservation file says: to whom the address belongs. Pure.

use sha2::{Digest, Sha256};

/// The attachment that has an address: a container and the interface in it. (The network, the
/// third part of the triple, is the directory.)
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    container_id: String,
    ifname: String,
}

impl Holder {
    /// White space around the container ID is dropped, as the reference does.
    pub fn new(container_id: &str, ifname: &str) -> Self {
        Self { container_id: container_id.trim().to_owned(), ifname: ifname.to_owned() }
    }

    /// The container's ID.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The interface in the container.
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// The content of a reservation file of this holder, byte for byte.
    pub fn contents(&self) -> String {
        format!("{}\r\n{}", self.container_id, self.ifname)
    }

    /// What the holder is called in the index: 64 bits of a hash. Two holders may share it.
    pub(super) fn key(&self) -> u64 {
        key_of(&self.contents())
    }
}

fn key_of(contents: &str) -> u64 {
    Sha256::digest(contents).first_chunk().copied().map(u64::from_ne_bytes).unwrap_or_default()
}

/// The content of a file in a network's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Container and interface.
    Held(Holder),
    /// A container only: the form of old versions.
    Legacy(String),
    /// Nothing: the reference died between creating and writing it. The address is free.
    Empty,
    /// Not in one of these forms, or not readable. Somebody put it there; it is not ours to touch.
    Foreign,
}

impl Record {
    /// What its holder is called in the index, if it has one: [`Holder::key`], or for the old form
    /// the same of the container's ID.
    pub(super) fn key(&self) -> Option<u64> {
        match self {
            Self::Held(holder) => Some(holder.key()),
            Self::Legacy(container_id) => Some(key_of(container_id)),
            Self::Empty | Self::Foreign => None,
        }
    }

    /// Reads a file's content; white space around it does not count, as in the reference.
    pub fn parse(content: &[u8]) -> Self {
        let content = content.trim_ascii();
        if content.is_empty() {
            return Self::Empty;
        }
        let Ok(content) = str::from_utf8(content) else {
            return Self::Foreign;
        };
        let is_word = |part: &str| {
            !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        match content.split_once("\r\n") {
            Some((container_id, ifname)) if is_word(container_id) && is_word(ifname) => {
                Self::Held(Holder::new(container_id, ifname))
            }
            None if is_word(content) => Self::Legacy(content.to_owned()),
            _ => Self::Foreign,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_reads_back_as_itself() {
        let holder = Holder::new("  dummy\n ", "eth0");
        assert_eq!(holder.contents(), "dummy\r\neth0");
        assert_eq!(Record::parse(holder.contents().as_bytes()), Record::Held(holder));
    }

    #[test]
    fn white_space_around_does_not_count() {
        let held = Record::Held(Holder::new("dummy", "eth0"));
        assert_eq!(Record::parse(b" dummy\r\neth0\n"), held);
        assert_eq!(Record::parse(b"dummy\n"), Record::Legacy("dummy".into()));
        assert_eq!(Record::parse(b" \r\n"), Record::Empty);
        assert_eq!(Record::parse(b""), Record::Empty);
    }

    #[test]
    fn anything_else_is_foreign() {
        for content in [
            &b"dummy\neth0"[..],
            b"a b\r\neth0",
            b"a\r\nb\r\nc",
            b"\xff\xfe",
            b"two words",
            b"nul\0",
        ] {
            assert_eq!(Record::parse(content), Record::Foreign, "{content:?}");
        }
    }
}
