//! A port of the host that leads to a port of the container.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nix::libc;

/// Which packets to the host are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The number of the transport protocol.
    pub(crate) protocol: u8,
    /// The one address of the host; all of the target's family if none is given.
    pub(crate) address: Option<IpAddr>,
    /// The host's port.
    pub(crate) port: u16,
    /// Whether IPv6 is meant, and not IPv4.
    pub(crate) ipv6: bool,
}

/// Such packets, and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) place: Place,
    /// The container's address and port.
    pub(crate) target: SocketAddr,
}

/// The transport protocols by name; runtimes write them in capitals, too.
pub(crate) const PROTOCOLS: [(&str, u8); 3] = [
    ("tcp", libc::IPPROTO_TCP as u8),
    ("udp", libc::IPPROTO_UDP as u8),
    ("sctp", libc::IPPROTO_SCTP as u8),
];

impl Place {
    /// `tcp`, for example.
    pub(crate) fn protocol_name(&self) -> &'static str {
        let found = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol);
        found.map_or("protocol", |(name, _)| name)
    }
}

/// `tcp *:80`, `tcp 192.0.2.1:80`, `udp [2001:db8::1]:53`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol_name())?;
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            None => write!(f, "*:{}", self.port),
        }
    }
}

impl Mapping {
    /// What [`fmt::Display`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Mapping> {
        let mut words = text.split(' ');
        let (protocol, host, target) = (words.next()?, words.next()?, words.next()?);
        let target: SocketAddr = target.parse().ok()?;
        let (_, protocol) = PROTOCOLS.into_iter().find(|(name, _)| *name == protocol)?;
        let (address, port) = match host.strip_prefix("*:") {
            Some(port) => (None, port.parse().ok()?),
            None => {
                let host: SocketAddr = host.parse().ok()?;
                (Some(host.ip()), host.port())
            }
        };
        let place = Place { protocol, address, port, ipv6: target.is_ipv6() };
        words.next().is_none().then_some(Mapping { place, target })
    }
}

/// `tcp *:80 10.0.1.2:8080`.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.target)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_as_it_was_written() {
        for text in [
            "tcp *:80 10.0.1.2:8080",
            "udp *:65535 [fd00::2]:1",
            "sctp 192.0.2.1:80 10.0.1.2:8080",
            "tcp [2001:db8:1111:2222:3333:4444:5555:6666]:65535 [2001:db8:1111:2222:3333:4444:5555:6666]:65535",
        ] {
            let mapping = Mapping::parse(text).unwrap();
            assert_eq!(mapping.to_string(), text);
            assert_eq!(mapping.place.ipv6, mapping.target.is_ipv6());
        }
        for text in ["", "tcp *:80", "icmp *:80 10.0.1.2:8080", "tcp *:80 10.0.1.2:8080 more"] {
            assert_eq!(Mapping::parse(text), None, "{text}");
        }
    }
}
