//! The name of a lease's key, by flannel's rules: `10.0.1.0-24`, and for dual stack
//! `10.0.1.0-24&fd00:0:0:1::-64`. There is no lease of IPv6 alone.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// The ranges of one node, which one key leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The IPv4 range.
    pub v4: Ipv4Network,
    /// The IPv6 range, in a dual-stack cluster.
    pub v6: Option<Ipv6Network>,
}

/// Why a key names no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form.
    #[error("the key is not like 10.0.1.0-24 or 10.0.1.0-24&fd00:0:0:1::-64")]
    Form,
    /// Bits right of the prefix.
    #[error("the key's range {0} has host bits set")]
    HostBits(IpNetwork),
}

impl Subnet {
    /// Both ranges, IPv4 first.
    pub fn ranges(&self) -> Vec<IpNetwork> {
        let v6 = self.v6.map(IpNetwork::V6);
        std::iter::once(IpNetwork::V4(self.v4)).chain(v6).collect()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.v4.ip(), self.v4.prefix())?;
        match self.v6 {
            Some(v6) => write!(f, "&{}-{}", v6.ip(), v6.prefix()),
            None => Ok(()),
        }
    }
}

impl FromStr for Subnet {
    type Err = KeyError;

    fn from_str(key: &str) -> Result<Self, KeyError> {
        let (v4, v6) = match key.split_once('&') {
            Some((v4, v6)) => (v4, Some(v6)),
            None => (key, None),
        };
        let (address, prefix) = parts::<Ipv4Addr>(v4, 32)?;
        let v4 = Ipv4Network::new(address, prefix).map_err(|_| KeyError::Form)?;
        check(v4.into(), v4.network() == address)?;
        let v6 = v6.map(|v6| -> Result<Ipv6Network, KeyError> {
            let (address, prefix) = parts::<Ipv6Addr>(v6, 128)?;
            let v6 = Ipv6Network::new(address, prefix).map_err(|_| KeyError::Form)?;
            check(v6.into(), v6.network() == address)?;
            Ok(v6)
        });
        Ok(Self { v4, v6: v6.transpose()? })
    }
}

/// `ADDRESS-PREFIX`. A range of a single address is none, says flannel.
fn parts<A: FromStr>(text: &str, bits: u8) -> Result<(A, u8), KeyError> {
    let (address, prefix) = text.split_once('-').ok_or(KeyError::Form)?;
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|&prefix| digits && prefix < bits);
    Ok((address.parse().map_err(|_| KeyError::Form)?, prefix.ok_or(KeyError::Form)?))
}

fn check(range: IpNetwork, is_network: bool) -> Result<(), KeyError> {
    if is_network { Ok(()) } else { Err(KeyError::HostBits(range)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_flannel_writes_is_read_and_written_alike() {
        for key in ["10.5.52.0-24", "10.42.1.0-24&2001:cafe:42:1::-64", "10.0.0.0-14"] {
            assert_eq!(key.parse::<Subnet>().unwrap().to_string(), key);
        }
        let dual: Subnet = "10.0.1.0-24&fd00:0:0:1::-64".parse().unwrap();
        let texts: Vec<String> = dual.ranges().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.1.0/24", "fd00:0:0:1::/64"]);
    }

    #[test]
    fn everything_else_is_refused() {
        for key in [
            "",
            "10.0.1.0",
            "10.0.1.0/24",
            "10.0.1-24",
            "10.0.1.0-33",
            "10.0.1.0-32",
            "10.0.1.0-+2",
            "10.0.1.0-24&",
            "10.0.1.0-24&fd00::-128",
            "fd00::-64",
            "010.0.1.0-24",
            "10.0.1.0-24x",
            "10.0.1.0-24&fd00::-64&fd01::-64",
            "10.0.1.0-",
            "-24",
        ] {
            assert_eq!(key.parse::<Subnet>(), Err(KeyError::Form), "{key}");
        }
        let error = "10.0.1.7-24".parse::<Subnet>().unwrap_err().to_string();
        assert!(error.contains("10.0.1.7/24"), "{error}");
    }
}
