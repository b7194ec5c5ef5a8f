//! How a node is reached, as a lease tells it: flannel's `BackendType`, `BackendData` and
//! `BackendV6Data`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tunnel::vtep::is_end;
use crate::tunnel::{VNI, Vteps};

const HOST_GW: &str = "host-gw";
const VXLAN: &str = "vxlan";

/// How a node is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// By a route to its address.
    #[default]
    HostGw,
    /// Through a tunnel to these ends. If it is a node of ours, by a route too.
    Vxlan(Vteps),
}

/// Why a lease does not tell how its node is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// A tunnel of another kind, most often.
    #[error("its backend is {0:?}, and only \"host-gw\" and \"vxlan\" are spoken here")]
    Unknown(String),
    /// Not of the shape.
    #[error("its backend is \"vxlan\", and {key} is none of that: {problem}")]
    Data {
        /// The key in the JSON.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Another network on the same wire.
    #[error("its {key} has the VNI {vni}, and only {VNI} is spoken here")]
    Vni {
        /// The key in the JSON.
        key: &'static str,
        /// What it says.
        vni: u32,
    },
    /// No end of the tunnel.
    #[error(
        "its backend is \"vxlan\", and it has no VtepMAC of a family that it has an address of"
    )]
    NoEnd,
}

/// The part of a lease's value that is about the backend.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Written {
    backend_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend_data: Option<Value>,
    #[serde(rename = "BackendV6Data", default, skip_serializing_if = "Option::is_none")]
    backend_v6_data: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl Backend {
    /// The ends of the tunnel; none where there is no tunnel.
    pub fn vteps(self) -> Vteps {
        match self {
            Self::HostGw => Vteps::default(),
            Self::Vxlan(vteps) => vteps,
        }
    }

    /// The part of a lease's value.
    pub fn written(self) -> Written {
        let data = |mac: Option<kernel::MacAddress>| {
            mac.map(|mac| serde_json::json!({"VNI": VNI, "VtepMAC": mac.to_string()}))
        };
        match self {
            Self::HostGw => Written { backend_type: HOST_GW.to_owned(), ..Written::default() },
            Self::Vxlan(Vteps { v4, v6 }) => Written {
                backend_type: VXLAN.to_owned(),
                backend_data: data(v4),
                backend_v6_data: data(v6),
            },
        }
    }
}

impl Written {
    /// What it says of a node with these addresses. What there is of other families does not count.
    ///
    /// # Errors
    /// It cannot be understood, or tells no end of the tunnel.
    pub fn read(self, addresses: &[IpAddr]) -> Result<Backend, BackendError> {
        match self.backend_type.as_str() {
            HOST_GW => return Ok(Backend::HostGw),
            VXLAN => {}
            _ => return Err(BackendError::Unknown(self.backend_type)),
        }
        let has = |v4: bool| addresses.iter().any(|address| address.is_ipv4() == v4);
        let end =
            |key, data: Option<Value>, v4| match data.filter(|data| has(v4) && !data.is_null()) {
                Some(data) => read_end(key, data).map(Some),
                None => Ok(None),
            };
        let vteps = Vteps {
            v4: end("BackendData", self.backend_data, true)?,
            v6: end("BackendV6Data", self.backend_v6_data, false)?,
        };
        if vteps == Vteps::default() { Err(BackendError::NoEnd) } else { Ok(Backend::Vxlan(vteps)) }
    }
}

fn read_end(key: &'static str, data: Value) -> Result<kernel::MacAddress, BackendError> {
    let wrong = |problem: String| BackendError::Data { key, problem };
    let data: Data = serde_json::from_value(data).map_err(|error| wrong(error.to_string()))?;
    if data.vni != VNI {
        return Err(BackendError::Vni { key, vni: data.vni });
    }
    let mac: kernel::MacAddress =
        data.mac.parse().map_err(|error: kernel::mac::ParseMacError| wrong(error.to_string()))?;
    if is_end(mac) { Ok(mac) } else { Err(wrong(format!("{mac} is not of one device"))) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Backend, BackendError> {
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        serde_json::from_str::<Written>(text).unwrap().read(&addresses)
    }

    #[test]
    fn what_flannel_writes_is_read() {
        let text = r#"{"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:00:00:00:00:01"},
                       "BackendV6Data":{"VNI":1,"VtepMAC":"c6:00:00:00:00:02","x":[]}}"#;
        let mac = |text: &str| text.parse().ok();
        let vteps = Vteps { v4: mac("c6:00:00:00:00:01"), v6: mac("c6:00:00:00:00:02") };
        assert_eq!(read(text), Ok(Backend::Vxlan(vteps)));
        let text = r#"{"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:00:00:00:00:01"},
                       "BackendV6Data":null}"#;
        assert_eq!(read(text), Ok(Backend::Vxlan(Vteps { v6: None, ..vteps })));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let ends = Vteps::derived(["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        for backend in [Backend::HostGw, Backend::Vxlan(ends)] {
            let text = serde_json::to_string(&backend.written()).unwrap();
            assert_eq!(read(&text), Ok(backend));
        }
    }

    #[test]
    fn what_is_no_end_is_refused_with_its_reason() {
        let vxlan = |data: &str| format!(r#"{{"BackendType":"vxlan","BackendData":{data}}}"#);
        for (text, reason) in [
            (r#"{"BackendType":"wireguard"}"#.to_owned(), "\"wireguard\""),
            (vxlan("null"), "no VtepMAC"),
            (vxlan("7"), "BackendData"),
            (vxlan(r#"{"VNI":1}"#), "VtepMAC"),
            (vxlan(r#"{"VNI":7,"VtepMAC":"c6:00:00:00:00:01"}"#), "VNI 7"),
            (vxlan(r#"{"VNI":1,"VtepMAC":"c6"}"#), "\"c6\""),
            (vxlan(r#"{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}"#), "one device"),
            (vxlan(r#"{"VNI":1,"VtepMAC":"33:33:00:00:00:01"}"#), "one device"),
        ] {
            let error = read(&text).expect_err(&text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
