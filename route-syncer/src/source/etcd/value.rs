//! The value of a lease's key: flannel's JSON, with three fields of ours that flannel ignores.
//!
//! ```json
//! {"PublicIP": "10.100.0.2", "PublicIPv6": null, "BackendType": "host-gw",
//!  "NodeName": "node1", "MachineID": "0123456789abcdef0123456789abcdef"}
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::backend::{self, Backend, BackendError};
use crate::off_link::OffLink;
use crate::tunnel::Vteps;

/// The longest value that is read, in bytes. Those of leases have some 200.
pub const LONGEST: usize = 16 << 10;

/// Who a node is: what tells it from others, and from itself after a new installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub name: String,
    /// The content of `/etc/machine-id`; none in a lease that flannel wrote.
    pub machine: Option<String>,
    /// Its address for IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Its address for IPv6.
    pub v6: Option<Ipv6Addr>,
    /// How it is reached.
    pub backend: Backend,
}

impl Identity {
    /// The addresses by which others reach it.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6)).collect()
    }

    /// The same node, as others reach it if nodes behind routers are treated so.
    #[must_use]
    pub fn reached(self, off_link: OffLink) -> Self {
        let backend = match off_link {
            OffLink::Vxlan => Backend::Vxlan(Vteps::derived(self.addresses())),
            OffLink::Skip | OffLink::Fail => Backend::HostGw,
        };
        Self { backend, ..self }
    }

    /// Whether both are one node: the same machine under the same name or address. Without a
    /// machine ID the address decides, as it does for flannel.
    pub fn is_same_node(&self, other: &Self) -> bool {
        match (&self.machine, &other.machine) {
            (Some(own), Some(others)) => {
                own == others && (self.name == other.name || self.shares_address(other))
            }
            _ => self.shares_address(other),
        }
    }

    /// Whether packets to the one would reach the other.
    pub fn shares_address(&self, other: &Self) -> bool {
        (self.v4.is_some() && self.v4 == other.v4) || (self.v6.is_some() && self.v6 == other.v6)
    }

    /// The value for this node's lease.
    pub fn value(&self) -> String {
        let written = Written {
            public_ip: self.v4.map(|v4| v4.to_string()),
            public_ipv6: self.v6.map(|v6| v6.to_string()),
            backend: self.backend.written(),
            node_name: Some(self.name.clone()),
            machine_id: self.machine.clone(),
        };
        serde_json::json!(written).to_string()
    }
}

/// Why a value names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Nobody's lease.
    #[error("the value is longer than {LONGEST} bytes")]
    TooLong,
    /// Not JSON, or not of the shape.
    #[error("the value is no lease in JSON: {0}")]
    Json(String),
    /// How it is reached.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Not an address.
    #[error("{key} {text:?} is no address of its family")]
    Address {
        /// The key in the JSON.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// No way to the node.
    #[error("it has neither PublicIP nor PublicIPv6")]
    NoAddress,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    #[serde(rename = "PublicIP", default)]
    public_ip: Option<String>,
    #[serde(rename = "PublicIPv6", default)]
    public_ipv6: Option<String>,
    #[serde(flatten)]
    backend: backend::Written,
    #[serde(default)]
    node_name: Option<String>,
    #[serde(rename = "MachineID", default)]
    machine_id: Option<String>,
}

/// Reads a lease's value.
///
/// # Errors
/// It is malformed, or of a backend that is not spoken here.
pub fn parse(bytes: &[u8]) -> Result<Identity, ValueError> {
    if bytes.len() > LONGEST {
        return Err(ValueError::TooLong);
    }
    let written = serde_json::from_slice(bytes);
    let written: Written = written.map_err(|error| ValueError::Json(error.to_string()))?;
    let v4 = address::<Ipv4Addr>("PublicIP", written.public_ip)?.filter(|v4| !v4.is_unspecified());
    let v6 = address::<Ipv6Addr>("PublicIPv6", written.public_ipv6)?;
    let v6 = v6.filter(|v6| !v6.is_unspecified());
    let addresses: Vec<IpAddr> = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect();
    let backend = written.backend.read(&addresses)?;
    let address = addresses.first().ok_or(ValueError::NoAddress)?;
    let name = written.node_name.filter(|name| is_name(name));
    let name = name.unwrap_or_else(|| address.to_string());
    let machine = written.machine_id.filter(|id| !id.is_empty());
    Ok(Identity { name, machine, v4, v6, backend })
}

fn address<A: std::str::FromStr>(
    key: &'static str,
    text: Option<String>,
) -> Result<Option<A>, ValueError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|_| ValueError::Address { key, text })).transpose()
}

/// Whether a name can be shown in a table and told from no name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn node(name: &str, machine: Option<&str>, last: u8) -> Identity {
        let v4 = Some(Ipv4Addr::new(10, 100, 0, last));
        Identity {
            name: name.into(),
            machine: machine.map(Into::into),
            v4,
            v6: None,
            backend: Backend::HostGw,
        }
    }

    #[test]
    fn what_flannel_writes_is_read() {
        let text = br#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"host-gw"}"#;
        let identity = parse(text).unwrap();
        assert_eq!(identity.name, "192.168.64.3");
        assert_eq!(identity.machine, None);
        let text = br#"{"PublicIP":"10.0.0.1","PublicIPv6":"fd00::1","BackendType":"host-gw",
                        "BackendData":null,"BackendV6Data":{"x":1}}"#;
        assert_eq!(parse(text).unwrap().addresses().len(), 2);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut written = node("node1", Some("m1"), 2);
        assert_eq!(parse(written.value().as_bytes()).unwrap(), written);
        written.v6 = Some("fd00::2".parse().unwrap());
        assert_eq!(parse(written.value().as_bytes()).unwrap(), written);
    }

    #[test]
    fn what_names_no_node_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "no lease in JSON"),
            ("[]", "no lease in JSON"),
            (r#"{"PublicIP":"10.0.0.1"}"#, "BackendType"),
            (r#"{"PublicIP":"10.0.0.1","BackendType":"udp"}"#, "\"udp\""),
            (r#"{"PublicIP":"10.0.0.1","BackendType":"vxlan"}"#, "VtepMAC"),
            (r#"{"PublicIP":"10.0.0","BackendType":"host-gw"}"#, "\"10.0.0\""),
            (r#"{"PublicIPv6":"10.0.0.1","BackendType":"host-gw"}"#, "PublicIPv6"),
            (r#"{"PublicIP":"0.0.0.0","BackendType":"host-gw"}"#, "neither"),
            (r#"{"BackendType":"host-gw"}"#, "neither"),
        ] {
            let error = parse(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_machine_is_known_by_its_id_and_flannels_by_their_address() {
        let own = node("node1", Some("m1"), 2);
        assert!(own.is_same_node(&node("node1", Some("m1"), 3)), "moved");
        assert!(own.is_same_node(&node("renamed", Some("m1"), 2)), "renamed");
        assert!(own.is_same_node(&node("10.100.0.2", None, 2)), "flannel's");
        assert!(!own.is_same_node(&node("node2", Some("m1"), 3)), "a copied machine ID");
        assert!(!own.is_same_node(&node("node1", Some("m2"), 2)), "another machine");
        assert!(!own.is_same_node(&node("10.100.0.3", None, 3)));
    }
}
