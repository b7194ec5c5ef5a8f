//! The options by which the API server is reached.

use std::path::PathBuf;

use clap::Args;

/// Where the API server is, and who we are there.
#[derive(Clone, Debug, Args)]
pub struct KubernetesOptions {
    /// The kubeconfig for --source kubernetes [default: the Pod's ServiceAccount if there is one,
    /// else $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,

    /// How many seconds a watch of the API server lasts before the next one begins. A connection
    /// that is dead though nobody closed it is noticed 5 seconds after that.
    #[arg(long = "kube-watch-seconds", value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub watch_seconds: u16,
}
