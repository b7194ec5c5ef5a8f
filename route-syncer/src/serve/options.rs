//! The options by which the daemon can be asked over HTTP.

use std::net::SocketAddr;

use clap::Args;

/// Where the daemon can be asked.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeOptions {
    /// Answer /metrics (for Prometheus), /livez and /readyz at this address, such as
    /// 127.0.0.1:9218. Without it, nothing is listened at.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}
