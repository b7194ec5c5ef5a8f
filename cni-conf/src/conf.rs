//! The network configuration a runtime writes to a plugin's stdin (CNI spec, section 1).

use std::collections::HashSet;
use std::sync::OnceLock;

use serde::de::DeserializeOwned;

use crate::error::{CniError, Code};
use crate::json::{Object, shortened};
use crate::names::{check_network_name, check_plugin_type};
use crate::result::{CniResult, Dns};
use crate::version::{SpecVersion, VersionError};

/// The attachments that still exist, as the runtime tells GC.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// The name that key had before spec 1.1.0 was final; libcni still sends both.
const LEGACY_ATTACHMENTS: &str = "cni.dev/attachments";

/// One plugin's configuration.
///
/// Only what every plugin has is decoded at once; a plugin asks for its own keys with
/// [`NetConf::get`]. Keys match without regard to case, see [`crate::json`].
#[derive(Debug, Clone)]
pub struct NetConf {
    /// `cniVersion`; 0.1.0 if the configuration names none.
    pub version: SpecVersion,
    /// `name`: the network.
    pub name: String,
    /// `type`: the plugin; empty if the configuration names none, which nothing depends on.
    pub plugin_type: String,
    object: Object,
    /// `ipam`, once somebody has asked for it: many ask, and it may be long.
    ipam: OnceLock<Option<Object>>,
    raw: Vec<u8>,
}

/// The attachments that GC must leave alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidAttachments {
    /// The configuration has no such key: nothing is known, so nothing may be removed.
    NotGiven,
    /// Exactly these `(container ID, ifname)` are alive; everything else of the network is garbage.
    Only(HashSet<(String, String)>),
}

impl NetConf {
    /// Reads a configuration of any version this crate knows.
    ///
    /// # Errors
    /// As [`NetConf::parse_for`].
    pub fn parse(stdin: &[u8]) -> Result<NetConf, CniError> {
        NetConf::parse_for(stdin, &SpecVersion::ALL)
    }

    /// Reads a configuration for a plugin that speaks the versions `supported`.
    ///
    /// # Errors
    /// Code 6 if it is no JSON object or a value has the wrong type, 7 if `name` is missing or
    /// invalid or `type` is invalid, 1 if its version is not supported.
    pub fn parse_for(stdin: &[u8], supported: &[SpecVersion]) -> Result<NetConf, CniError> {
        let object = parse_object(stdin)?;
        let name: String = object.get("name")?.unwrap_or_default();
        check_network_name(&name)?;
        let version = parse_version(&object, supported)?;
        let plugin_type: String = object.get("type")?.unwrap_or_default();
        if !plugin_type.is_empty() {
            check_plugin_type(&plugin_type)?;
        }
        let (ipam, raw) = (OnceLock::new(), stdin.to_vec());
        Ok(NetConf { version, name, plugin_type, object, ipam, raw })
    }

    /// All keys.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The bytes as they came, for a delegate.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The value of `key`; `None` if it is absent or `null`.
    ///
    /// # Errors
    /// Code 6 if it is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CniError> {
        Ok(self.object.get(key)?)
    }

    /// `ipam`, if the network has addresses: `None` if it is absent, `null` or `{}`.
    ///
    /// # Errors
    /// Code 6 if it is no object, 7 if it has keys but no `type`: whoever wrote them wants
    /// addresses, and would silently get none.
    pub fn ipam(&self) -> Result<Option<&Object>, CniError> {
        let ipam = match self.ipam.get() {
            Some(ipam) => ipam,
            None => {
                let ipam = self.parse_ipam()?;
                self.ipam.get_or_init(|| ipam)
            }
        };
        Ok(ipam.as_ref())
    }

    fn parse_ipam(&self) -> Result<Option<Object>, CniError> {
        let Some(ipam) = self.object.object("ipam")? else { return Ok(None) };
        let plugin_type: String = ipam.get("type")?.unwrap_or_default();
        if !plugin_type.is_empty() {
            check_plugin_type(&plugin_type)?;
            return Ok(Some(ipam));
        }
        let others: Vec<&str> =
            ipam.keys().filter(|key| !key.eq_ignore_ascii_case("type")).collect();
        if others.is_empty() {
            return Ok(None);
        }
        Err(CniError::new(
            Code::InvalidConfig,
            format!(
                "ipam has no \"type\", but the keys {}: add a type, such as \"host-local\", or \
                 write \"ipam\": {{}} for a network without addresses",
                others.join(", ")
            ),
        ))
    }

    /// `ipam.type`, if the network has addresses.
    ///
    /// # Errors
    /// As [`NetConf::ipam`].
    pub fn ipam_type(&self) -> Result<Option<String>, CniError> {
        match self.ipam()? {
            Some(ipam) => Ok(ipam.get("type")?),
            None => Ok(None),
        }
    }

    /// `dns`, if it says anything: any list, even an empty one, or a domain. What it says then
    /// stands in place of what IPAM says.
    ///
    /// # Errors
    /// Code 6 if a value has the wrong type.
    pub fn dns(&self) -> Result<Option<Dns>, CniError> {
        let Some(object) = self.object.object("dns")? else { return Ok(None) };
        let dns = Dns::from_object(&object)?;
        let has_list = ["nameservers", "search", "options"]
            .into_iter()
            .any(|list| object.keys().any(|key| key.eq_ignore_ascii_case(list)));
        Ok((has_list || !dns.domain.is_empty()).then_some(dns))
    }

    /// `runtimeConfig`: what the runtime adds for the capabilities the configuration declares.
    ///
    /// # Errors
    /// Code 6 if it is no object.
    pub fn runtime_config(&self) -> Result<Object, CniError> {
        Ok(self.object.object("runtimeConfig")?.unwrap_or_default())
    }

    /// `args.cni`: arguments by the conventions of CNI.
    ///
    /// # Errors
    /// Code 6 if `args` or `args.cni` is no object.
    pub fn args_cni(&self) -> Result<Object, CniError> {
        match self.object.object("args")? {
            Some(args) => Ok(args.object("cni")?.unwrap_or_default()),
            None => Ok(Object::default()),
        }
    }

    /// `prevResult`: what the plugins before this one in the chain, or the ADD before this CHECK
    /// or DEL, answered.
    ///
    /// # Errors
    /// As [`CniResult::parse`].
    pub fn prev_result(&self) -> Result<Option<CniResult>, CniError> {
        match self.object.object("prevResult")? {
            Some(object) => CniResult::from_object(&object, self.version).map(Some),
            None => Ok(None),
        }
    }

    /// The attachments that GC must leave alone.
    ///
    /// The key absent means that nothing is known; `null` and `[]` mean that there are none, since
    /// that is how Go writes an empty list. An entry that cannot be understood is an error, never
    /// skipped: skipping it would remove a living container's network.
    ///
    /// # Errors
    /// Code 6 if it is no list of objects with `containerID` and `ifname`.
    pub fn valid_attachments(&self) -> Result<ValidAttachments, CniError> {
        let given = |key: &&str| self.object.raw(key).is_some();
        let Some(key) = [VALID_ATTACHMENTS, LEGACY_ATTACHMENTS].into_iter().find(given) else {
            return Ok(ValidAttachments::NotGiven);
        };
        let mut only = HashSet::new();
        for entry in self.object.objects(key)? {
            let text = |key: &str| -> Result<String, CniError> {
                let text: Option<String> = entry.get(key)?;
                Ok(text
                    .filter(|text| !text.is_empty())
                    .ok_or_else(|| entry.error(key, "must be a string that is not empty"))?)
            };
            only.insert((text("containerID")?, text("ifname")?));
        }
        Ok(ValidAttachments::Only(only))
    }
}

/// The version to report an error in: the configuration's, if it can be read and is supported,
/// else the latest supported.
pub(crate) fn answer_version(stdin: &[u8], supported: &[SpecVersion]) -> SpecVersion {
    parse_object(stdin)
        .and_then(|object| parse_version(&object, supported))
        .unwrap_or_else(|_| supported.iter().copied().max().unwrap_or(SpecVersion::LATEST))
}

fn parse_object(stdin: &[u8]) -> Result<Object, CniError> {
    serde_json::from_slice(stdin).map_err(|error| {
        CniError::new(
            Code::Decode,
            format!("the network configuration on stdin is no valid JSON object: {error}"),
        )
        .with_details(format!("stdin is {:?}", shortened(&String::from_utf8_lossy(stdin))))
    })
}

/// `cniVersion`, if it is among `supported`. Absent or empty means 0.1.0.
fn parse_version(object: &Object, supported: &[SpecVersion]) -> Result<SpecVersion, CniError> {
    let text: String = object.get("cniVersion")?.unwrap_or_default();
    let version = match text.as_str() {
        "" => Ok(SpecVersion::V0_1_0),
        text => text.parse(),
    };
    match version {
        Ok(version) if supported.contains(&version) => Ok(version),
        Err(error @ VersionError::Malformed(_)) => {
            Err(CniError::new(Code::Decode, error.to_string()))
        }
        Ok(_) | Err(VersionError::Unknown(_)) => {
            // Both texts are the reference's; tools match them.
            let config = if text.is_empty() { SpecVersion::V0_1_0.as_str() } else { &text };
            let supported: Vec<String> =
                supported.iter().map(|version| format!("{:?}", version.as_str())).collect();
            Err(CniError::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(
                format!("config is {config:?}, plugin supports [{}]", supported.join(" ")),
            ))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
