//! A Pod of the laboratory: a network namespace with nothing in it, as a runtime makes it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::NetNs;
use serde_json::Value;

use crate::error::{LabError, Result};
use crate::runtime::Attachment;

/// A Pod. The namespace dies with the value, and with it what is inside.
#[derive(Debug)]
pub struct Pod {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    netns: NetNs,
}

impl Pod {
    /// A Pod whose namespace is new.
    ///
    /// # Errors
    /// The process may not make namespaces.
    pub fn create(container_id: &str) -> Result<Self> {
        Ok(Self::with(container_id, NetNs::create()?))
    }

    /// A Pod in a namespace that somebody else made.
    pub fn with(container_id: &str, netns: NetNs) -> Self {
        Pod { container_id: container_id.to_owned(), netns }
    }

    /// Its network namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Its `eth0`, as a runtime names it to the plugins.
    pub fn attachment(&self) -> Attachment {
        Attachment::new(&self.container_id, self.netns.path())
    }
}

/// The addresses that a result says the Pod has, in its order.
///
/// # Errors
/// The result has none, or one that is no address with a prefix.
pub fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let wrong = || LabError::Wrong(format!("the result has no readable ips: {result}"));
    let ips = result["ips"].as_array().filter(|ips| !ips.is_empty()).ok_or_else(wrong)?;
    let address =
        |ip: &Value| ip["address"].as_str()?.parse().ok().map(|address: IpNetwork| address.ip());
    ips.iter().map(address).collect::<Option<_>>().ok_or_else(wrong)
}
