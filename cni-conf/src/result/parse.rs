//! Reading a result of any version.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{CniResult, Dns, Interface, IpConfig, Route};
use crate::error::{CniError, Code};
use crate::json::{self, DecodeError, Object, shortened};
use crate::version::SpecVersion;

impl CniResult {
    /// Reads a result. It is in the version it names itself, else in `version`: delegates may
    /// answer in their own version, and some leave it out.
    ///
    /// Fields are read wherever they stand, also those that the version does not have yet: the
    /// reference writes them there, and honours them.
    ///
    /// # Errors
    /// Code 6 if it is no JSON object or a value is wrong, 1 if its version is not known.
    pub fn parse(text: &str, version: SpecVersion) -> Result<CniResult, CniError> {
        let object: Object = serde_json::from_str(text).map_err(|error| {
            CniError::new(Code::Decode, format!("the result is no valid JSON object: {error}"))
                .with_details(format!("the result is {:?}", shortened(text)))
        })?;
        CniResult::from_object(&object, version)
    }

    /// Reads a result that is part of a document, such as `prevResult`.
    pub(crate) fn from_object(
        object: &Object,
        version: SpecVersion,
    ) -> Result<CniResult, CniError> {
        let named: String = object.get("cniVersion")?.unwrap_or_default();
        let version = match named.as_str() {
            "" => version,
            named => named.parse().map_err(|error| {
                CniError::new(
                    Code::IncompatibleVersion,
                    format!("{}: {error}", object.path_of("cniVersion")),
                )
            })?,
        };
        let mut result =
            if version < SpecVersion::V0_3_0 { by_family(object)? } else { by_list(object)? };
        if let Some(dns) = object.object("dns")? {
            result.dns = Dns::from_object(&dns)?;
        }
        Ok(result)
    }
}

impl Dns {
    /// Reads the value of a `dns` key.
    ///
    /// # Errors
    /// A value has the wrong type.
    pub fn from_object(object: &Object) -> Result<Dns, DecodeError> {
        Ok(Dns {
            nameservers: object.get("nameservers")?.unwrap_or_default(),
            domain: object.get("domain")?.unwrap_or_default(),
            search: object.get("search")?.unwrap_or_default(),
            options: object.get("options")?.unwrap_or_default(),
        })
    }
}

/// 0.1.0 and 0.2.0: one address a family, and the routes with it.
fn by_family(object: &Object) -> Result<CniResult, DecodeError> {
    let mut result = CniResult::default();
    for key in ["ip4", "ip6"] {
        let Some(family) = object.object(key)? else { continue };
        result.ips.push(IpConfig {
            interface: None,
            address: cidr(&family, "ip")?,
            gateway: ip(&family, "gateway")?,
        });
        for route in family.objects("routes")? {
            result.routes.push(parse_route(&route)?);
        }
    }
    Ok(result)
}

/// 0.3.0 and later: lists of interfaces, addresses and routes. (`ips[].version`, gone since 1.0.0,
/// says nothing that the address does not.)
fn by_list(object: &Object) -> Result<CniResult, DecodeError> {
    let interfaces = object.objects("interfaces")?;
    let ips = object.objects("ips")?;
    let routes = object.objects("routes")?;
    Ok(CniResult {
        interfaces: interfaces.iter().map(parse_interface).collect::<Result<_, _>>()?,
        ips: ips.iter().map(parse_ip).collect::<Result<_, _>>()?,
        routes: routes.iter().map(parse_route).collect::<Result<_, _>>()?,
        dns: Dns::default(),
    })
}

fn parse_interface(object: &Object) -> Result<Interface, DecodeError> {
    Ok(Interface {
        name: object.get("name")?.unwrap_or_default(),
        mac: object.get("mac")?.unwrap_or_default(),
        mtu: object.get("mtu")?,
        sandbox: object.get("sandbox")?.unwrap_or_default(),
        socket_path: object.get("socketPath")?.unwrap_or_default(),
        pci_id: object.get("pciID")?.unwrap_or_default(),
    })
}

fn parse_ip(object: &Object) -> Result<IpConfig, DecodeError> {
    Ok(IpConfig {
        interface: object.get("interface")?,
        address: cidr(object, "address")?,
        gateway: ip(object, "gateway")?,
    })
}

fn parse_route(object: &Object) -> Result<Route, DecodeError> {
    Ok(Route {
        dst: cidr(object, "dst")?,
        gw: ip(object, "gw")?,
        mtu: object.get("mtu")?,
        advmss: object.get("advmss")?,
        priority: object.get("priority")?,
        table: object.get("table")?,
        scope: object.get("scope")?,
    })
}

/// An address with prefix length that must be there.
fn cidr(object: &Object, key: &str) -> Result<IpNetwork, DecodeError> {
    let text: String = object.get(key)?.unwrap_or_default();
    json::cidr(&text).map_err(|error| object.error(key, error.to_string()))
}

/// An address that may be absent; Go writes and reads `""` for that too.
fn ip(object: &Object, key: &str) -> Result<Option<IpAddr>, DecodeError> {
    match object.get::<String>(key)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => {
            json::ip(text).map(Some).map_err(|error| object.error(key, error.to_string()))
        }
    }
}
