//! What an attachment has, written down in a chain of its name that no packet comes to.
//!
//! Each rule of it has a line for a comment:
//!
//! - `map tcp *:80 10.0.1.2:8080`: this port leads to it;
//! - `wait tcp *:80 10.0.1.2:8080`: it shall, when the same container's attachment to another
//!   network has no use for the port any more;
//! - `next <owner's key>`: who waits for one of its ports;
//! - `pod cbr0 10.0.1.2 hairpin loopback`: for whom its address is disguised, and its link;
//! - `for cbr0/<container>/eth0`: who it is.
//!
//! With `map-if` and `wait-if` the port is in the maps of the network's own. A chain and not a set,
//! because the kernel finds chains by their hash, and sets by going through all of them.

use std::net::IpAddr;

use cni_conf::attachment::Attachment;
use kernel::netlink::Message;
use kernel::nft::{Chain, Expression, Nft, Verdict};
use plugin_interface::Result;

use crate::mapping::Mapping;
use crate::table::{Disguise, TABLE};

/// What the names of the records begin with.
const PREFIX: &str = "att-";

/// One line of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Map {
        mapping: Mapping,
        own_maps: bool,
    },
    Wait {
        mapping: Mapping,
        own_maps: bool,
    },
    Next {
        owner: String,
    },
    Pod(Pod),
    For {
        label: String,
    },
    /// What another version of this plugin has written.
    Other,
}

/// A container's address, and how what is sent there is disguised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// The host's link that leads to it.
    pub(crate) link: String,
    pub(crate) address: IpAddr,
    pub(crate) disguises: Vec<Disguise>,
}

/// A line that was read, and its rule's number.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) line: Line,
    pub(crate) handle: u64,
}

impl Line {
    fn parse(text: &str) -> Option<Line> {
        let (kind, rest) = text.split_once(' ')?;
        let own_maps = kind.ends_with("-if");
        Some(match kind {
            "map" | "map-if" => Line::Map { mapping: Mapping::parse(rest)?, own_maps },
            "wait" | "wait-if" => Line::Wait { mapping: Mapping::parse(rest)?, own_maps },
            "next" => Line::Next { owner: rest.into() },
            "pod" => Line::Pod(Pod::parse(rest)?),
            "for" => Line::For { label: rest.into() },
            _ => return None,
        })
    }

    fn text(&self) -> String {
        let suffix = |own_maps: bool| if own_maps { "-if" } else { "" };
        match self {
            Line::Map { mapping, own_maps } => format!("map{} {mapping}", suffix(*own_maps)),
            Line::Wait { mapping, own_maps } => format!("wait{} {mapping}", suffix(*own_maps)),
            Line::Next { owner } => format!("next {owner}"),
            Line::Pod(pod) => pod.text(),
            Line::For { label } => format!("for {label}"),
            Line::Other => String::new(),
        }
    }
}

impl Pod {
    fn parse(text: &str) -> Option<Pod> {
        let mut words = text.split(' ');
        let (link, address) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let named = |word| Disguise::ALL.iter().find(|(name, _)| *name == word).map(|(_, it)| *it);
        Some(Pod { link, address, disguises: words.filter_map(named).collect() })
    }

    fn text(&self) -> String {
        let names = Disguise::ALL.iter().filter(|(_, it)| self.disguises.contains(it));
        let names: String = names.map(|(name, _)| format!(" {name}")).collect();
        format!("pod {} {}{names}", self.link, self.address)
    }
}

/// The name of an owner's record.
pub(crate) fn name(owner: &str) -> String {
    format!("{PREFIX}{owner}")
}

/// The owners of a network that have a record, by the names of all chains.
pub(crate) fn owners_of<'a>(chains: &'a [String], network_key: &str) -> Vec<&'a str> {
    let prefix = format!("{network_key}-");
    let owners = chains.iter().filter_map(|chain| chain.strip_prefix(PREFIX));
    owners.filter(|owner| owner.starts_with(&prefix)).collect()
}

/// The key of the network that an owner is of.
pub(crate) fn network_key_of(owner: &str) -> &str {
    owner.split('-').next().unwrap_or_default()
}

/// Who an owner is, as far as there is room to say it.
pub(crate) fn label(attachment: &Attachment) -> String {
    // With the word before it, it must still be whole.
    const ROOM: usize = 127 - "for ".len();
    let label = attachment.label();
    if label.len() <= ROOM { label } else { attachment.owner_key() }
}

/// Makes a record; `EEXIST` if there is one.
pub(crate) fn create(owner: &str, lines: &[Line]) -> Vec<Message> {
    let name = name(owner);
    let chain = Chain { table: TABLE, name: &name };
    let rules = lines.iter().map(|line| write(&chain, line));
    [chain.create()].into_iter().chain(rules).collect()
}

/// Adds a line to a record; `ENOENT` if there is none.
pub(crate) fn append(owner: &str, line: &Line) -> Message {
    write(&Chain { table: TABLE, name: &name(owner) }, line)
}

/// Takes a line out of a record.
pub(crate) fn strike(owner: &str, line: &Written) -> Message {
    Chain { table: TABLE, name: &name(owner) }.delete_rule(line.handle)
}

/// Removes a record, if it is as it was read: whoever has written into it since (`EBUSY`), or struck a
/// line (`ENOENT`), has given the owner something, or waits for it.
pub(crate) fn delete(owner: &str, record: &[Written]) -> Vec<Message> {
    let name = name(owner);
    let chain = Chain { table: TABLE, name: &name };
    let lines = record.iter().map(|line| chain.delete_rule(line.handle));
    lines.chain([chain.delete_empty()]).collect()
}

/// The record of an owner; `None` if there is none.
pub(crate) fn read(nft: &mut Nft, owner: &str) -> Result<Option<Vec<Written>>> {
    let name = name(owner);
    let rules = nft.rules_of(&Chain { table: TABLE, name: &name })?;
    let written = rules.iter().map(|rule| Written {
        line: Line::parse(&rule.comment).unwrap_or(Line::Other),
        handle: rule.handle,
    });
    // A record has lines from its beginning.
    Ok((!rules.is_empty()).then(|| written.collect()))
}

fn write(chain: &Chain<'_>, line: &Line) -> Message {
    chain.append(&[Expression::Act(Verdict::Return)], &line.text())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for text in [
            "map tcp *:80 10.0.1.2:8080",
            "map-if udp 192.0.2.1:53 10.0.1.2:53",
            "wait tcp *:80 [fd00::2]:8080",
            "wait-if tcp [2001:db8::1]:80 [fd00::2]:8080",
            "next kt4dqwv2hpxjmlkj-taehmqec6k2og7ama72mkqcf",
            "pod cbr0 10.0.1.2 hairpin loopback",
            "pod cbr0.100 fd00::2",
            "for net/container/eth0",
        ] {
            assert_eq!(Line::parse(text).unwrap().text(), text);
        }
        assert_eq!(Line::parse("something else"), None);
    }

    #[test]
    fn an_owner_is_found_by_its_network() {
        let one = Attachment::new("net", "c", "eth0").unwrap();
        let other = Attachment::new("other", "c", "eth0").unwrap();
        let chains = [name(&one.owner_key()), name(&other.owner_key()), "hostports".to_owned()];
        let key = cni_conf::attachment::network_key("net");
        assert_eq!(owners_of(&chains, &key), [one.owner_key()]);
        assert_eq!(network_key_of(&one.owner_key()), key);
    }

    #[test]
    fn a_label_leaves_room_for_the_word_before_it() {
        let long = Attachment::new("net", &"c".repeat(118), "eth0").unwrap();
        assert_eq!(label(&long), long.owner_key());
        let short = Attachment::new("net", "c", "eth0").unwrap();
        assert_eq!(label(&short), "net/c/eth0");
    }
}
