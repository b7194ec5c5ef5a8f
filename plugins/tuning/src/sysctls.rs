//! `sysctl`: settings of the container's network namespace, under `/proc/sys/net`.

use std::fmt;
use std::fs::OpenOptions;
use std::io;

use cni_conf::conf::NetConf;
use cni_conf::json::Object;
use kernel::sysctl;
use plugin_interface::{Error, Result};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::allowlist::Allowlist;

/// What stands for the interface's name in a key.
const IFNAME: &str = "IFNAME";
/// What the kernel takes in one write, less its NUL.
const LONGEST: usize = 4095;

/// A sysctl that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// Its path below `/proc/sys`.
    pub(crate) path: String,
    /// The value that it shall have.
    pub(crate) value: String,
}

/// The entries of a JSON object in their order, with those that are there twice.
#[derive(Debug, Default)]
struct Pairs(Vec<(String, Option<String>)>);

/// Reads `sysctl` and `args.cni.sysctl`, of which the second comes first.
pub(crate) fn parse(conf: &NetConf, args: &Object, ifname: &str) -> Result<Vec<Sysctl>> {
    let own = conf.get::<Pairs>("sysctl")?.unwrap_or_default();
    let wished: Pairs =
        args.get("sysctl").map_err(cni_conf::error::CniError::from)?.unwrap_or_default();
    let mut all = read(own, ifname)?;
    for one in read(wished, ifname)? {
        match all.iter_mut().find(|other| other.path == one.path) {
            Some(other) => *other = one,
            None => all.push(one),
        }
    }
    Ok(all)
}

fn read(pairs: Pairs, ifname: &str) -> Result<Vec<Sysctl>> {
    let mut sysctls: Vec<Sysctl> = Vec::new();
    if pairs.0.is_empty() {
        return Ok(sysctls);
    }
    let allowlist = Allowlist::read()?;
    for (key, value) in pairs.0 {
        let path = path(&key, ifname).map_err(|reason| wrong(&key, reason))?;
        allowlist.check(&key)?;
        // Go's decoder reads `null` as text without letters, which sets nothing.
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if value.len() > LONGEST || value.contains(['\0', '\n']) {
            let reason = format!("must be one line of at most {LONGEST} bytes");
            return Err(wrong(&format!("{key}={value}"), reason));
        }
        if sysctls.iter().any(|other| other.path == path) {
            return Err(wrong(&key, "duplicated sysctl keys are not allowed".into()));
        }
        sysctls.push(Sysctl { path, value });
    }
    Ok(sysctls)
}

/// The path below `/proc/sys` that a key means: as for `sysctl(8)`, whichever of `.` and `/` comes
/// first stands between the parts, and the other for a dot that is in one of them.
fn path(key: &str, ifname: &str) -> std::result::Result<String, String> {
    let mut parts: Vec<String> = match key.find(['.', '/']) {
        Some(first) if key[first..].starts_with('/') => {
            key.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        _ => key.split('.').map(|part| part.replace('/', ".")).collect(),
    };
    if parts.len() < 2 || parts[0] != "net" {
        return Err(format!("invalid net sysctl key: {key:?}: it must begin with \"net.\""));
    }
    if parts
        .iter()
        .any(|part| part.is_empty() || part == "." || part == ".." || part.contains('\0'))
    {
        return Err(format!("invalid net sysctl key: {key:?}: it has a part that is no name"));
    }
    // After the check: the kernel's rules for interface names, which are none of these, come first.
    if let Some(part) = parts.iter_mut().find(|part| part.contains(IFNAME)) {
        *part = part.replacen(IFNAME, ifname, 1);
    }
    Ok(parts.join("/"))
}

fn wrong(key: &str, reason: String) -> Error {
    Error::Config { key: "sysctl", value: format!("{key:?}"), reason }
}

/// Looks at each in the calling thread's namespace, and refuses what is not there or cannot be
/// written. What each is now; none for those that can be written only.
pub(crate) fn look(sysctls: &[Sysctl]) -> Result<Vec<Option<String>>> {
    sysctls.iter().map(look_at).collect()
}

fn look_at(wanted: &Sysctl) -> Result<Option<String>> {
    let path = &wanted.path;
    let refused = |error: io::Error| {
        wrong(
            path,
            format!(
                "{error}; a container has what its kernel and its interface have; a name with a dot is written with slashes, as in net/ipv4/conf/eth0.1/arp_filter"
            ),
        )
    };
    let now = match sysctl::get(path) {
        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => return Err(refused(error.source)),
        Ok(now) => Some(now),
    };
    if now.as_deref().is_none_or(|now| !same(now, &wanted.value)) {
        // Opening it changes nothing, and tells whether it may be written.
        OpenOptions::new().write(true).open(format!("/proc/sys/{path}")).map_err(refused)?;
    }
    Ok(now)
}

/// Sets those that have other values in the calling thread's namespace, in their order.
pub(crate) fn set(sysctls: &[Sysctl], values: &[Option<String>]) -> Result<()> {
    for (wanted, now) in sysctls.iter().zip(values) {
        if now.as_ref().is_none_or(|now| !same(now, &wanted.value)) {
            sysctl::write(&wanted.path, &wanted.value)?;
        }
    }
    Ok(())
}

/// What is not as it was asked for, in the calling thread's namespace.
pub(crate) fn difference(sysctls: &[Sysctl]) -> Result<Option<String>> {
    for (wanted, now) in sysctls.iter().zip(look(sysctls)?) {
        match now {
            Some(now) if !same(&now, &wanted.value) => {
                return Ok(Some(format!(
                    "sysctl {} is {now:?}, not {:?}",
                    wanted.path, wanted.value
                )));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The kernel puts tabs between numbers that people write with blanks.
fn same(one: &str, other: &str) -> bool {
    one.split_ascii_whitespace().eq(other.split_ascii_whitespace())
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Pairs, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> std::result::Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(sysctl: &str, args: &str) -> Result<Vec<Sysctl>> {
        let text = format!(
            r#"{{"cniVersion": "1.0.0", "name": "n", "sysctl": {sysctl}, "args": {{"cni": {{"sysctl": {args}}}}}}}"#
        );
        let conf = NetConf::parse(text.as_bytes()).unwrap();
        parse(&conf, &conf.args_cni().unwrap(), "eth0.7")
    }

    #[test]
    fn both_ways_of_writing_a_key_lead_to_its_path() {
        for (key, wanted) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            ("/net//core/somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0.7/arp_filter"),
            ("net/ipv4/conf/IFNAME/arp_filter", "net/ipv4/conf/eth0.7/arp_filter"),
            ("net/ipv4/conf/eth1.2/arp_filter", "net/ipv4/conf/eth1.2/arp_filter"),
            ("net.ipv4.conf.eth1/2.arp_filter", "net/ipv4/conf/eth1.2/arp_filter"),
        ] {
            assert_eq!(path(key, "eth0.7").as_deref(), Ok(wanted), "{key}");
        }
    }

    #[test]
    fn no_key_leads_out_of_net() {
        for key in [
            "",
            "net",
            "net.",
            "kernel.hostname",
            "netx.core.a",
            "net/../kernel/hostname",
            "net.//.kernel.hostname",
            "net/./core",
            "../net/core/somaxconn",
            "net..core",
            ".net.core",
            "net.ipv4.conf.//.x",
            "net/core/a\0b",
            "/etc/passwd",
        ] {
            assert!(path(key, "eth0").is_err(), "{key:?} is {:?}", path(key, "eth0"));
        }
    }

    #[test]
    fn arguments_come_before_the_network_and_nothing_is_named_twice() {
        let own = r#"{"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}"#;
        let args = r#"{"net/core/somaxconn": "600", "net.core.a": null, "net.core.b": ""}"#;
        let all = parsed(own, args).unwrap();
        let pairs: Vec<_> = all.iter().map(|one| (&*one.path, &*one.value)).collect();
        assert_eq!(
            pairs,
            [("net/core/somaxconn", "600"), ("net/ipv4/conf/eth0.7/arp_filter", "1")]
        );
        assert_eq!(parsed("null", args).unwrap().len(), 1);

        for twice in [
            r#"{"net.core.a": "1", "net.core.a": "1"}"#,
            r#"{"net.core.a": "1", "net/core/a": "2"}"#,
            r#"{"net.ipv4.conf.IFNAME.a": "1", "net/ipv4/conf/eth0.7/a": "2"}"#,
        ] {
            let error = parsed(twice, "{}").unwrap_err().to_string();
            assert!(error.contains("duplicated sysctl keys are not allowed"), "{error}");
        }
    }

    #[test]
    fn values_are_single_lines_of_text() {
        for value in [r#""a\nb""#, r#""a\u0000b""#, "1", "true", "[]"] {
            assert!(parsed(&format!(r#"{{"net.core.a": {value}}}"#), "{}").is_err(), "{value}");
        }
        assert!(same("4096\t131072\t6291456", "4096 131072  6291456"));
        assert!(!same("1", "10"));
    }
}
