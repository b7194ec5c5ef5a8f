//! Writing a result in the format of any version.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{CniResult, Dns, IpConfig, Route};
use crate::error::{CniError, Code};
use crate::version::SpecVersion;

impl CniResult {
    /// The result as it goes to stdout in `version`: indented by four, no newline at the end.
    ///
    /// What the version cannot say is left out: before 1.1.0 an interface's `mtu`, `socketPath`
    /// and `pciID` and all of a route but `dst` and `gw`; before 0.3.0 also the interfaces, all
    /// but the first address of a family, and routes of a family without an address.
    ///
    /// # Errors
    /// Code 7 before 0.3.0 if there is no address, since those formats consist of addresses.
    pub fn render(&self, version: SpecVersion) -> Result<String, CniError> {
        if version < SpecVersion::V0_3_0 {
            to_text(&by_family(self, version)?)
        } else {
            to_text(&by_list(self, version))
        }
    }
}

/// 0.3.0 and later.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ByList<'a> {
    cni_version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<InterfaceOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpOut>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<DnsOut<'a>>,
}

#[derive(Serialize)]
struct InterfaceOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
    #[serde(rename = "socketPath", skip_serializing_if = "str::is_empty")]
    socket_path: &'a str,
    #[serde(rename = "pciID", skip_serializing_if = "str::is_empty")]
    pci_id: &'a str,
}

#[derive(Serialize)]
struct IpOut {
    /// `"4"` or `"6"`, until 0.4.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

#[derive(Serialize)]
struct RouteOut {
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

#[derive(Serialize)]
struct DnsOut<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    nameservers: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    search: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    options: &'a [String],
}

fn by_list(result: &CniResult, version: SpecVersion) -> ByList<'_> {
    let has_v1_1_fields = version >= SpecVersion::V1_1_0;
    let interfaces = result
        .interfaces
        .iter()
        .map(|interface| InterfaceOut {
            name: &interface.name,
            mac: &interface.mac,
            mtu: interface.mtu.filter(|_| has_v1_1_fields),
            sandbox: &interface.sandbox,
            socket_path: if has_v1_1_fields { &interface.socket_path } else { "" },
            pci_id: if has_v1_1_fields { &interface.pci_id } else { "" },
        })
        .collect();
    let ips = result
        .ips
        .iter()
        .map(|ip| IpOut {
            version: (version < SpecVersion::V1_0_0).then(|| family(&ip.address)),
            interface: ip.interface,
            address: ip.address.to_string(),
            gateway: ip.gateway,
        })
        .collect();
    // 0.x always has `dns`, be it empty; 1.x leaves an empty one out.
    let has_dns = version < SpecVersion::V1_0_0 || !result.dns.is_empty();
    ByList {
        cni_version: version.as_str(),
        interfaces,
        ips,
        routes: result.routes.iter().map(|route| route_out(route, has_v1_1_fields)).collect(),
        dns: has_dns.then(|| dns_out(&result.dns)),
    }
}

/// 0.1.0 and 0.2.0.
#[derive(Serialize)]
struct ByFamily<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<FamilyOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<FamilyOut>,
    dns: DnsOut<'a>,
}

#[derive(Serialize)]
struct FamilyOut {
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteOut>,
}

fn by_family(result: &CniResult, version: SpecVersion) -> Result<ByFamily<'_>, CniError> {
    let first = |v4: bool| result.ips.iter().find(|ip| ip.address.is_ipv4() == v4);
    let (ip4, ip6) = (first(true), first(false));
    if ip4.is_none() && ip6.is_none() {
        // The first words are the reference's.
        return Err(CniError::new(
            Code::InvalidConfig,
            format!(
                "cannot convert: no valid IP addresses: a result of cniVersion {version} must have \
                 one; use 0.3.0 or later for a network without addresses"
            ),
        ));
    }
    Ok(ByFamily {
        cni_version: version.as_str(),
        ip4: ip4.map(|ip| family_out(ip, &result.routes)),
        ip6: ip6.map(|ip| family_out(ip, &result.routes)),
        dns: dns_out(&result.dns),
    })
}

fn family_out(ip: &IpConfig, routes: &[Route]) -> FamilyOut {
    FamilyOut {
        ip: ip.address.to_string(),
        gateway: ip.gateway,
        routes: routes
            .iter()
            .filter(|route| route.dst.is_ipv4() == ip.address.is_ipv4())
            .map(|route| route_out(route, false))
            .collect(),
    }
}

fn family(address: &IpNetwork) -> &'static str {
    if address.is_ipv4() { "4" } else { "6" }
}

fn route_out(route: &Route, has_v1_1_fields: bool) -> RouteOut {
    let Route { dst, gw, mtu, advmss, priority, table, scope } = route;
    let v1_1 = |value: &Option<u32>| value.filter(|_| has_v1_1_fields);
    RouteOut {
        dst: dst.to_string(),
        gw: *gw,
        mtu: v1_1(mtu),
        advmss: v1_1(advmss),
        priority: v1_1(priority),
        table: v1_1(table),
        scope: scope.filter(|_| has_v1_1_fields),
    }
}

fn dns_out(dns: &Dns) -> DnsOut<'_> {
    DnsOut {
        nameservers: &dns.nameservers,
        domain: &dns.domain,
        search: &dns.search,
        options: &dns.options,
    }
}

fn to_text(value: &impl Serialize) -> Result<String, CniError> {
    let mut bytes = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    let failed =
        |error: String| CniError::new(Code::Io, format!("cannot write the result: {error}"));
    value.serialize(&mut serializer).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}
