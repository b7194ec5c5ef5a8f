//! What the administrator decides.

use std::path::PathBuf;

use ipnetwork::IpNetwork;

use crate::host::options::HostOptions;
use crate::off_link::OffLink;
use crate::serve::options::ServeOptions;
use crate::unreachable::Unreachable;

/// What the administrator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Ranges that are in the cluster: what Pods send there is not masqueraded.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Ranges that no claim may touch.
    pub service_cidrs: Vec<IpNetwork>,
    /// How many routes to other nodes there can be, at most.
    pub max_routes: usize,
    /// The number that marks our routes.
    pub protocol: u8,
    /// What is done about nodes behind a router.
    pub off_link: OffLink,
    /// Which ranges are to be unreachable where no better route leads.
    pub unreachable: Unreachable,
    /// The daemon's folder.
    pub run_dir: PathBuf,
    /// The file in which the last list of nodes outlives a reboot, where the source has no memory
    /// of its own and may be away then.
    pub memory: Option<PathBuf>,
    /// The largest packet that Pods may send, in bytes, unless it follows from the uplink.
    pub mtu: Option<u32>,
    /// The network configuration to write for container runtimes.
    pub conflist: Option<PathBuf>,
    /// The file to write this node's subnet to, as flannel does.
    pub subnet_env: Option<PathBuf>,
    /// What is not done about the host.
    pub host: HostOptions,
    /// How the daemon can be asked.
    pub serve: ServeOptions,
}
