//! How the API server is reached: by the Pod's ServiceAccount, or by a kubeconfig.
//!
//! All of it is read again for each connection, so that a token, certificate or CA that was replaced
//! takes effect at the next try, and kube itself re-reads token files once a minute.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::api::Nodes;
use super::error::{self, KubernetesError};
use super::options::KubernetesOptions;

/// By this variable a Pod knows where the API server is.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after the end of a watch its connection must have brought something.
const MARGIN: Duration = Duration::from_secs(5);

/// How to connect.
#[derive(Clone, Debug)]
pub struct Access {
    kubeconfig: Option<PathBuf>,
    watch_seconds: u16,
}

impl Access {
    /// As the options tell. Nothing is read yet.
    pub fn new(options: &KubernetesOptions) -> Self {
        Self { kubeconfig: options.kubeconfig.clone(), watch_seconds: options.watch_seconds }
    }

    /// Reads what is needed to connect. The connection itself is made by the first request.
    ///
    /// # Errors
    /// There is neither a ServiceAccount nor a kubeconfig, or it cannot be used.
    pub(super) async fn connect(&self) -> Result<Nodes, KubernetesError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(PATIENCE);
        // A connection that is dead though nobody closed it would be waited for without an end.
        config.read_timeout = Some(Duration::from_secs(self.watch_seconds.into()) + MARGIN);
        config.reset_reader_on_write = true;
        // We try again ourselves, and tell people meanwhile.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| error::explain(error, &server))?;
        Ok(Nodes::new(client, server, self.watch_seconds))
    }

    async fn config(&self) -> Result<Config, KubernetesError> {
        if let Some(path) = &self.kubeconfig {
            let kubeconfig = Kubeconfig::read_from(path)?;
            let options = KubeConfigOptions::default();
            return Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?);
        }
        if std::env::var_os(IN_CLUSTER).is_some() {
            return Ok(Config::incluster()?);
        }
        Ok(Config::from_kubeconfig(&KubeConfigOptions::default()).await?)
    }
}
