//! The node's subnet as flannel's daemon writes it (`/run/flannel/subnet.env`), for those who read
//! that: its CNI plugin `flannel`, and people's scripts.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::node_files::Facts;
use crate::replace::replace;

/// Where flannel's plugin looks unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/flannel/subnet.env";

/// Why the file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum SubnetEnvError {
    /// Writing failed.
    #[error("{}: cannot {what}: {source}; give another path with --subnet-env", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The operating system's word.
        source: io::Error,
    },
    /// Its readers insist on the range that the subnet was cut from.
    #[error(
        "{}: not written, since no range of the cluster has this node's {subnet} in it; give the \
         range with --cluster-cidr",
        path.display()
    )]
    NoNetwork {
        /// The file.
        path: PathBuf,
        /// This node's subnet.
        subnet: IpNetwork,
    },
}

/// The file's text; the first subnet without a range of the cluster around it is the error.
fn render(facts: &Facts) -> Result<String, IpNetwork> {
    let mut text = String::new();
    for (family, v4) in [("", true), ("IPV6_", false)] {
        // It has place for one subnet a family.
        let Some(&subnet) = facts.ranges.iter().find(|range| range.is_ipv4() == v4) else {
            continue;
        };
        let networks: Vec<String> = facts
            .cluster
            .iter()
            .filter(|network| network.is_ipv4() == v4)
            .map(ToString::to_string)
            .collect();
        if networks.is_empty() {
            return Err(subnet);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "FLANNEL_{family}NETWORK={}", networks.join(","));
        let _ = writeln!(text, "FLANNEL_{family}SUBNET={}/{}", gateway(subnet), subnet.prefix());
    }
    // The daemon masquerades, so that the plugin need not.
    let _ = writeln!(text, "FLANNEL_MTU={}\nFLANNEL_IPMASQ=true", facts.mtu);
    Ok(text)
}

/// The first address of a subnet, which is the bridge's.
fn gateway(subnet: IpNetwork) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(v4) => IpAddr::from((u32::from(v4).saturating_add(1)).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6).saturating_add(1)).to_be_bytes()),
    }
}

/// Writes the file, if it is not there or differs. Returns whether it was written.
///
/// # Errors
/// It cannot be written, or the ranges of the cluster are not known. What is there is as it was.
pub fn write(path: &Path, facts: &Facts) -> Result<bool, SubnetEnvError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| SubnetEnvError::Io { path, what, source }
    };
    let text = render(facts)
        .map_err(|subnet| SubnetEnvError::NoNetwork { path: path.to_owned(), subnet })?;
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(failed("make its folder"))?;
    replace(path, text.as_bytes(), 0o644).map_err(failed("write it"))?;
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn facts(ranges: &[&str], cluster: &[&str]) -> Facts {
        Facts { ranges: networks(ranges), mtu: 1500, cluster: networks(cluster) }
    }

    #[test]
    fn it_is_as_flannel_writes_it() {
        let cluster = ["10.0.0.0/14", "fd00::/48", "10.8.0.0/16"];
        assert_eq!(
            render(&facts(&["fd00:0:0:1::/64", "10.0.1.0/24"], &cluster)).unwrap(),
            "FLANNEL_NETWORK=10.0.0.0/14,10.8.0.0/16\n\
             FLANNEL_SUBNET=10.0.1.1/24\n\
             FLANNEL_IPV6_NETWORK=fd00::/48\n\
             FLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n\
             FLANNEL_MTU=1500\n\
             FLANNEL_IPMASQ=true\n"
        );
        assert_eq!(
            render(&facts(&["10.0.1.0/24"], &cluster[..1])).unwrap(),
            "FLANNEL_NETWORK=10.0.0.0/14\nFLANNEL_SUBNET=10.0.1.1/24\n\
             FLANNEL_MTU=1500\nFLANNEL_IPMASQ=true\n"
        );
    }

    #[test]
    fn it_is_written_when_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flannel/subnet.env");
        let cluster = ["10.0.0.0/14"];
        assert!(write(&path, &facts(&["10.0.1.0/24"], &cluster)).unwrap());
        assert!(!write(&path, &facts(&["10.0.1.0/24"], &cluster)).unwrap());
        assert!(write(&path, &facts(&["10.0.2.0/24"], &cluster)).unwrap());
    }

    #[test]
    fn without_the_clusters_range_it_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subnet.env");
        let facts = facts(&["10.0.1.0/24", "fd00:1::/64"], &["10.0.0.0/14"]);
        let error = write(&path, &facts).unwrap_err().to_string();
        assert!(error.contains("fd00:1::/64") && error.contains("--cluster-cidr"), "{error}");
        assert!(!path.exists());
    }
}
