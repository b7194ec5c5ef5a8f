//! Why the API server tells nothing, and what to do about it.

use std::error::Error as _;

use kube::config::{InClusterError, KubeconfigError};
use kube::core::Status;

/// The version from which to watch is gone.
const GONE: u16 = 410;
const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;

/// Why the API server tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The ServiceAccount of the Pod.
    #[error("the Pod's ServiceAccount cannot be used: {0}; is automountServiceAccountToken off?")]
    ServiceAccount(#[from] InClusterError),
    /// The kubeconfig.
    #[error(
        "no ServiceAccount is here (KUBERNETES_SERVICE_HOST is not set), and the kubeconfig cannot \
         be used: {0}; name another with --kubeconfig"
    )]
    Kubeconfig(#[from] KubeconfigError),
    /// Nobody answers.
    #[error(
        "the API server {server} does not answer: {reason}; is it running, and reached from here?"
    )]
    Away {
        /// Its URL.
        server: String,
        /// What was tried, and what came of it.
        reason: String,
    },
    /// TLS failed.
    #[error(
        "the API server {server} is not trusted: {reason}; the kubeconfig's certificate-authority, \
         or the ServiceAccount's ca.crt, must be the CA of its certificate, and its address be in it"
    )]
    Certificate {
        /// Its URL.
        server: String,
        /// What TLS said.
        reason: String,
    },
    /// It does not know us.
    #[error(
        "the API server {server} does not let us in: {reason}; has the token or the certificate \
         expired? It is read again"
    )]
    Unauthorized {
        /// Its URL.
        server: String,
        /// What it said.
        reason: String,
    },
    /// It knows us, and we may not.
    #[error(
        "the API server {server} forbids it: {reason}; a ClusterRole with the verbs list and watch \
         for nodes must be bound to that user"
    )]
    Forbidden {
        /// Its URL.
        server: String,
        /// What it said.
        reason: String,
    },
    /// Too much has happened since.
    #[error("the API server {server} no longer knows what changed since: {reason}")]
    Gone {
        /// Its URL.
        server: String,
        /// What it said.
        reason: String,
    },
    /// Anything else.
    #[error("the API server {server}: {reason}")]
    Refused {
        /// Its URL.
        server: String,
        /// What it said, or what is wrong with that.
        reason: String,
    },
    /// The watch was closed before its time.
    #[error("the API server {server} ended the watch at once")]
    Ended {
        /// Its URL.
        server: String,
    },
    /// Not of the API server.
    #[error("the task that watches has ended")]
    TaskEnded,
}

/// Says what is wrong, and what to do.
pub(super) fn explain(error: kube::Error, server: &str) -> KubernetesError {
    if let kube::Error::Api(status) = error {
        return refusal(&status, server);
    }
    let (server, reason) = (server.to_owned(), words(&error));
    if reason.contains("certificate") {
        return KubernetesError::Certificate { server, reason };
    }
    match error {
        kube::Error::Auth(_) => KubernetesError::Unauthorized { server, reason },
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            KubernetesError::Away { server, reason }
        }
        _ => KubernetesError::Refused { server, reason },
    }
}

/// The API server's own word.
pub(super) fn refusal(status: &Status, server: &str) -> KubernetesError {
    let server = server.to_owned();
    let (code, reason) = (status.code, status.message.clone());
    match code {
        UNAUTHORIZED => KubernetesError::Unauthorized { server, reason },
        FORBIDDEN => KubernetesError::Forbidden { server, reason },
        GONE => KubernetesError::Gone { server, reason },
        _ => KubernetesError::Refused { server, reason: format!("{reason} (code {code})") },
    }
}

/// What it says, and what the layers below say.
fn words(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}
