//! What a `resolv.conf` tells a container's resolver (resolv.conf(5)).

use std::io;
use std::path::Path;

use cni_conf::result::Dns;

/// Reads a file in the format of `/etc/resolv.conf`.
///
/// # Errors
/// The file cannot be read. Lines that say nothing known are no error.
pub(crate) fn read(path: &Path) -> io::Result<Dns> {
    Ok(parse(&String::from_utf8_lossy(&std::fs::read(path)?)))
}

/// As the reference reads it: several `search` and `options` lines add up, which in the resolver
/// itself the last of them replaces.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else {
            continue;
        };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend([first].into_iter().chain(words)),
            "options" => dns.options.extend([first].into_iter().chain(words)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read_and_comments_are_not() {
        let dns = parse(
            "# nameserver 192.0.2.9\n\
             ; nameserver 192.0.2.8\n\
             nameserver 192.0.2.3\n\
             \tnameserver   192.0.2.4  # ignored\n\
             nameserver\n\
             domain example.net\n\
             search example.net example.com\n\
             search example.org\n\
             options ndots:5 edns0\n\
             sortlist 192.0.2.0\n",
        );
        assert_eq!(dns.nameservers, ["192.0.2.3", "192.0.2.4"]);
        assert_eq!(dns.domain, "example.net");
        assert_eq!(dns.search, ["example.net", "example.com", "example.org"]);
        assert_eq!(dns.options, ["ndots:5", "edns0"]);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert!(parse("").is_empty());
    }
}
