//! JSON objects read with the habits of Go's decoder, and addresses read as strictly as Go's.
//!
//! Configurations are written for the Go reference, so what its decoder takes must be taken: keys
//! match without regard to case, the last of several wins, `null` is passed over, unknown keys are
//! ignored.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{CniError, Code};

/// How much of an offending value an error repeats, in characters.
const VALUE_SHOWN: usize = 200;

/// A value that is not of the type its key asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {path:?}: {reason}; the value is {value}")]
pub struct DecodeError {
    /// Where the value stands, such as `ipam.ranges[0]`.
    pub path: String,
    /// The value as written, shortened if it is long.
    pub value: String,
    /// What is wrong with it and what was expected.
    pub reason: String,
}

impl From<DecodeError> for CniError {
    fn from(error: DecodeError) -> CniError {
        CniError::new(Code::Decode, error.to_string())
    }
}

/// A JSON object whose values are decoded when they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// Where the object stands in the document; empty at the top. Only errors show it.
    path: String,
    entries: Vec<(String, Box<RawValue>)>,
}

impl Object {
    /// The value of `key` as a `T`; `None` if the key is absent or `null`.
    ///
    /// # Errors
    /// [`DecodeError`] if the value is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DecodeError> {
        // `null` leaves a value of Go's as it is, so it does not undo an earlier one.
        let Some(raw) = self.values(key).find(|raw| raw.get() != "null") else { return Ok(None) };
        let decoded = serde_json::from_str(raw.get());
        decoded.map(Some).map_err(|error| self.error(key, without_position(&error)))
    }

    /// The value of `key` as written, `null` included. The last one counts if there are several.
    pub fn raw(&self, key: &str) -> Option<&RawValue> {
        self.values(key).next()
    }

    /// All values of `key`, the last first.
    fn values(&self, key: &str) -> impl Iterator<Item = &RawValue> {
        let matching =
            self.entries.iter().rev().filter(move |(name, _)| name.eq_ignore_ascii_case(key));
        matching.map(|(_, value)| &**value)
    }

    /// The value of `key` as an object that knows where it stands.
    ///
    /// # Errors
    /// [`DecodeError`] if the value is no object.
    pub fn object(&self, key: &str) -> Result<Option<Object>, DecodeError> {
        Ok(self.get::<Object>(key)?.map(|object| object.at(self.path_of(key))))
    }

    /// The value of `key` as a list of objects that know where they stand; empty if the key is
    /// absent or `null`.
    ///
    /// # Errors
    /// [`DecodeError`] if the value is no list of objects.
    pub fn objects(&self, key: &str) -> Result<Vec<Object>, DecodeError> {
        let objects: Vec<Object> = self.get(key)?.unwrap_or_default();
        let path = self.path_of(key);
        Ok(objects
            .into_iter()
            .enumerate()
            .map(|(index, object)| object.at(format!("{path}[{index}]")))
            .collect())
    }

    /// The same object, standing at `path`: for one taken out of nested lists.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Object {
        self.path = path.into();
        self
    }

    /// The keys that have a value, in the order written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|(_, value)| value.get() != "null")
            .map(|(name, _)| name.as_str())
    }

    /// Whether no key has a value: `{}`, or nothing but `null`s.
    pub fn is_empty(&self) -> bool {
        self.keys().next().is_none()
    }

    /// Where `key` stands in the document, for an error's text.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// An error about the value of `key`, for a check that decoding alone does not make.
    pub fn error(&self, key: &str, reason: impl Into<String>) -> DecodeError {
        DecodeError {
            path: self.path_of(key),
            value: shortened(self.raw(key).map_or("absent", RawValue::get)),
            reason: reason.into(),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut object = Object::default();
                while let Some(entry) = map.next_entry()? {
                    object.entries.push(entry);
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The beginning of `text`, with a mark if that is not all of it.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The error's text without "at line 1 column 7": the position is one within the value, where
/// nobody would look for it.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address with a prefix length.
    #[error("invalid CIDR address: {0}: write it as address/prefix length, such as 10.1.0.0/16")]
    Cidr(String),
    /// Not an address.
    #[error("invalid IP address: {0}: write it as 10.1.0.1 (no leading zeros) or 2001:db8::1")]
    Ip(String),
}

/// An address with its prefix length, as Go's `net.ParseCIDR` takes it: the prefix length must be
/// there, no octet may have leading zeros. Host bits are kept.
///
/// # Errors
/// [`AddressError::Cidr`]
pub fn cidr(text: &str) -> Result<IpNetwork, AddressError> {
    let parse = || {
        let (address, prefix) = text.split_once('/')?;
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        IpNetwork::new(ip(address).ok()?, prefix.parse().ok()?).ok()
    };
    parse().ok_or_else(|| AddressError::Cidr(text.to_owned()))
}

/// An address, as Go's `net.ParseIP` takes it: no leading zeros, no zone. An IPv4 address written
/// as IPv6 (`::ffff:10.1.0.1`) is refused: half of the world would take it for the one, half for
/// the other.
///
/// # Errors
/// [`AddressError::Ip`]
pub fn ip(text: &str) -> Result<IpAddr, AddressError> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(AddressError::Ip(text.to_owned()))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(AddressError::Ip(text.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keys_match_without_regard_to_case_and_the_last_wins() {
        let object = object(r#"{"SubNet": "a", "subnet": "b", "SUBNET": "c", "x": 1}"#);
        assert_eq!(object.get::<String>("subnet"), Ok(Some("c".to_owned())));
        assert_eq!(object.get::<u32>("X"), Ok(Some(1)));
    }

    #[test]
    fn null_is_passed_over() {
        let object = object(r#"{"mtu": null}"#);
        assert_eq!(object.get::<u32>("mtu"), Ok(None));
        assert_eq!(object.get::<u32>("other"), Ok(None));
        assert_eq!(object.raw("mtu").map(RawValue::get), Some("null"));
        assert!(object.raw("other").is_none());
        let earlier = self::object(r#"{"MTU": 1300, "mtu": null}"#);
        assert_eq!(earlier.get::<u32>("mtu"), Ok(Some(1300)));
        assert!(object.is_empty() && object.keys().next().is_none());
    }

    #[test]
    fn an_error_names_the_key_the_value_and_what_was_expected() {
        let error = object(r#"{"mtu": "big"}"#).get::<u32>("mtu").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"key "mtu": invalid type: string "big", expected u32; the value is "big""#
        );
        assert_eq!(CniError::from(error).code, Code::Decode);
    }

    #[test]
    fn nested_objects_know_where_they_stand() {
        let object = object(r#"{"ipam": {"ranges": [{}, {"gateway": 7}]}, "dns": []}"#);
        let ipam = object.object("ipam").unwrap().unwrap();
        let ranges = ipam.objects("ranges").unwrap();
        let error = ranges[1].get::<String>("gateway").unwrap_err();
        assert_eq!(error.path, "ipam.ranges[1].gateway");
        assert_eq!(error.value, "7");
        let error = object.object("dns").unwrap_err();
        assert!(error.reason.contains("expected a JSON object"), "{error}");
        assert!(object.objects("absent").unwrap().is_empty());
    }

    #[test]
    fn long_values_are_shortened_between_characters() {
        let long = format!(r#"{{"mtu": "{}"}}"#, "ä".repeat(1000));
        let error = object(&long).get::<u32>("mtu").unwrap_err();
        assert_eq!(error.value.chars().count(), VALUE_SHOWN + 1);
    }

    #[test]
    fn addresses_are_read_as_strictly_as_go_does() {
        for text in ["10.1.2.3/24", "10.0.0.0/0", "2001:db8::1/64", "::/0"] {
            assert_eq!(cidr(text).unwrap().to_string(), text);
        }
        let no_cidrs = [
            "",
            "10.1.2.3",
            "10.1.2.3/",
            "10.1.2.3/33",
            "::/129",
            "10.01.2.3/24",
            "10.1.2/24",
            "10.1.2.3/+8",
            "10.1.2.3/8 ",
            "10.1.2.3/255.0.0.0",
            "::ffff:10.1.2.3/120",
            "fe80::1%1/64",
        ];
        for text in no_cidrs {
            assert_eq!(cidr(text), Err(AddressError::Cidr(text.to_owned())));
        }
        for text in ["10.1.2.3", "2001:db8::1"] {
            assert_eq!(ip(text).unwrap().to_string(), text);
        }
        for text in ["", "10.1.2", "010.1.2.3", "10.1.2.3/8", "fe80::1%eth0", "::ffff:1.2.3.4"] {
            assert_eq!(ip(text), Err(AddressError::Ip(text.to_owned())));
        }
    }

    #[test]
    fn address_errors_begin_as_the_reference_has_them() {
        assert!(cidr("x").unwrap_err().to_string().starts_with("invalid CIDR address: x"));
        assert!(ip("x").unwrap_err().to_string().starts_with("invalid IP address: x"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = cidr(&text);
            let _ = ip(&text);
            let _ = serde_json::from_str::<Object>(&text);
        }
    }
}
