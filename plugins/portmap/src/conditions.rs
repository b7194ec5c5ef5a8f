//! `conditionsV4` and `conditionsV6`: which packets are mapped at all, in the words of `iptables` or
//! of `nft`.

use cni_conf::names::check_ifname;
use ipnetwork::IpNetwork;
use kernel::nft::{Expression, Field};
use plugin_interface::{Error, Result};

use crate::mapping::PROTOCOLS;

/// What a packet must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    what: What,
    negated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Source(IpNetwork),
    Destination(IpNetwork),
    CameInBy(String),
    Protocol(u8),
}

/// Reads the words of one of the two keys.
pub(crate) fn parse(key: &'static str, words: &[String], ipv6: bool) -> Result<Vec<Condition>> {
    let words: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
    let mut rest = &words[..];
    let mut conditions = Vec::new();
    while !rest.is_empty() {
        let (condition, read) = one(key, rest, ipv6)?;
        conditions.push(condition);
        rest = &rest[read..];
    }
    Ok(conditions)
}

/// The condition that these words begin with, and how many of them it is.
fn one(key: &'static str, words: &[&str], ipv6: bool) -> Result<(Condition, usize)> {
    let refused = |word: &str, why: &str| Error::Config {
        key,
        value: format!("{word:?}"),
        reason: format!(
            "{why}; conditions are [!] -s NETWORK, [!] -d NETWORK, [!] -i LINK, [!] -p PROTOCOL, and \
             what nft calls them: ip saddr, ip daddr, iifname, meta l4proto, each with an optional !="
        ),
    };
    let (start, mut negated) = if words[0] == "!" { (1, true) } else { (0, false) };
    let (name, length) =
        name(&words[start..]).ok_or_else(|| refused(words[0], "is unknown here"))?;
    let mut value = start + length;
    if let Some(sign) = words.get(value).filter(|word| matches!(**word, "!=" | "!" | "==")) {
        negated |= *sign != "==";
        value += 1;
    }
    let text = words.get(value).ok_or_else(|| refused(words[start], "lacks a value"))?;
    let text = text.trim_matches('"');
    let what = read(name, text, ipv6).ok_or_else(|| refused(text, "is no value for it"))?;
    Ok((Condition { what, negated }, value + 1))
}

#[derive(Clone, Copy)]
enum Name {
    Source,
    Destination,
    Link,
    Protocol,
}

/// What the first words name, and how many they are.
fn name(words: &[&str]) -> Option<(Name, usize)> {
    Some(match words {
        ["-s" | "--source" | "--src", ..] => (Name::Source, 1),
        ["-d" | "--destination" | "--dst", ..] => (Name::Destination, 1),
        ["-i" | "--in-interface" | "iifname" | "iif", ..] => (Name::Link, 1),
        ["-p" | "--protocol" | "--proto", ..] => (Name::Protocol, 1),
        ["ip" | "ip6", "saddr", ..] => (Name::Source, 2),
        ["ip" | "ip6", "daddr", ..] => (Name::Destination, 2),
        ["meta", "iifname" | "iif", ..] => (Name::Link, 2),
        ["meta", "l4proto", ..] | ["ip", "protocol", ..] | ["ip6", "nexthdr", ..] => {
            (Name::Protocol, 2)
        }
        _ => return None,
    })
}

fn read(name: Name, text: &str, ipv6: bool) -> Option<What> {
    match name {
        Name::Source => network(text, ipv6).map(What::Source),
        Name::Destination => network(text, ipv6).map(What::Destination),
        Name::Link => check_ifname(text).ok().map(|()| What::CameInBy(text.to_owned())),
        Name::Protocol => {
            let known = PROTOCOLS.iter().find(|(name, _)| *name == text);
            known.map(|(_, number)| *number).or_else(|| text.parse().ok()).map(What::Protocol)
        }
    }
}

fn network(text: &str, ipv6: bool) -> Option<IpNetwork> {
    text.parse().ok().filter(|network: &IpNetwork| network.is_ipv6() == ipv6)
}

impl Condition {
    /// The step of a rule that lets only such packets go on.
    pub(crate) fn step(&self) -> Expression<'_> {
        let negated = self.negated;
        let matches = |field, network: &IpNetwork| {
            let bytes = match network.network() {
                std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            Expression::Matches { field, network: bytes, prefix: network.prefix(), negated }
        };
        match &self.what {
            What::Source(network) => matches(Field::Source, network),
            What::Destination(network) => matches(Field::Destination, network),
            What::CameInBy(link) => Expression::CameInBy { link, negated },
            What::Protocol(protocol) => Expression::Transport { protocol: *protocol, negated },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str, ipv6: bool) -> Result<Vec<Condition>> {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        parse("conditionsV4", &words, ipv6)
    }

    #[test]
    fn both_languages_say_the_same() {
        for (iptables, nft) in [
            ("-s 10.0.0.0/8", "ip saddr 10.0.0.0/8"),
            ("! -s 10.0.0.0/8", "ip saddr != 10.0.0.0/8"),
            ("-d 192.0.2.1 -i eth0", "ip daddr 192.0.2.1 iifname \"eth0\""),
            ("! -i eth0", "meta iifname != eth0"),
            ("-p tcp", "meta l4proto tcp"),
            ("! -p 17", "ip protocol != udp"),
        ] {
            let conditions = parsed(iptables, false).unwrap();
            assert_eq!(conditions, parsed(nft, false).unwrap(), "{iptables}");
        }
        assert_eq!(parsed("! -s fd00::/8", true).unwrap().len(), 1);
        assert_eq!(parse("conditionsV4", &[], false).unwrap(), []);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_word() {
        for (text, word) in [
            ("-s 10.0.0.0/8 -m conntrack", "\"-m\""),
            ("-s", "\"-s\""),
            ("-s fd00::/8", "\"fd00::/8\""),
            ("! -i a/b", "\"a/b\""),
            ("-p nonsense", "\"nonsense\""),
            ("ct state new", "\"ct\""),
            ("!", "\"!\""),
        ] {
            let error = parsed(text, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("conditionsV4 {word}")), "{text}: {error}");
        }
    }
}
