//! Hardware addresses of Ethernet-like links.

use std::fmt;
use std::str::FromStr;

/// A 48-bit MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address in an attribute's value, if it has the length of one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(MacAddress)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no MAC address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no MAC address; write it as six bytes, such as \"0a:58:0a:00:01:02\"")]
pub struct ParseMacError(String);

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let byte = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        bytes.and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| ParseMacError(text.into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let mac = MacAddress([0x0a, 0x58, 10, 0, 1, 2]);
        assert_eq!(mac.to_string(), "0a:58:0a:00:01:02");
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
    }

    #[test]
    fn refuses_what_is_none() {
        for text in
            ["", "0a:58:0a:00:01", "0a:58:0a:00:01:02:03", "0a:58:0a:00:01:+2", "a:58:0a:00:01:02"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
