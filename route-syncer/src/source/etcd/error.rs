//! What can be wrong with etcd, and what to do about it.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::Error as ClientError;

/// Why etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No endpoint was named.
    #[error("no etcd is named; give --etcd-endpoints, such as http://10.100.0.1:2379")]
    NoEndpoints,
    /// Files for TLS, but an endpoint without.
    #[error("the endpoint {0} is without TLS, but there are options for it; write https://")]
    NotTls(String),
    /// One without the other.
    #[error("{0} is given without {1}; give both")]
    Half(&'static str, &'static str),
    /// A certificate, a key or a password.
    #[error("cannot read the file {path:?} of {option}: {source}")]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "etcd at {endpoints} does not answer: {reason}; is it running, and is the address right, \
         with http or https?"
    )]
    Away {
        /// Where.
        endpoints: String,
        /// What was tried, and what came of it.
        reason: String,
    },
    /// TLS failed.
    #[error(
        "etcd at {endpoints}: the connection is not trusted: {reason}; --etcd-cafile must name the \
         CA of etcd's certificate, the endpoints a name or address that is in it, and \
         --etcd-certfile a certificate that etcd's CA has signed"
    )]
    Certificate {
        /// Where.
        endpoints: String,
        /// What TLS said.
        reason: String,
    },
    /// The user.
    #[error(
        "etcd at {endpoints} lets nobody in: {reason}; see --etcd-username and \
         --etcd-password-file, and that the user may read and write {prefix}"
    )]
    Denied {
        /// Where.
        endpoints: String,
        /// What etcd said.
        reason: String,
        /// The prefix of our keys.
        prefix: String,
    },
    /// Anything else that etcd says.
    #[error("etcd at {endpoints}: {reason}")]
    Refused {
        /// Where.
        endpoints: String,
        /// What it said.
        reason: String,
    },
    /// The watch ended.
    #[error("the watch of etcd ended: {0}")]
    Watch(String),
    /// The lease of this node is gone.
    #[error("this node's lease expired; it is taken again")]
    LeaseGone,
}

/// There was no answer in this time.
pub(super) fn silent(endpoint: &str, patience: Duration) -> EtcdError {
    let reason = format!("no answer within {patience:?}");
    EtcdError::Away { endpoints: endpoint.to_owned(), reason }
}

/// Says what is wrong with an endpoint, and what to do.
pub(super) fn explain(error: &ClientError, endpoint: &str, prefix: &str) -> EtcdError {
    let (endpoints, reason) = (endpoint.to_owned(), words(error));
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    // The types of the layers below do not tell; their words do.
    if says(&["certificate", "tls handshake", "TLS handshake", "UnknownIssuer"])
        // So ends a handshake in which the other side did not like our certificate.
        || (endpoints.starts_with("https://") && says(&["operation was canceled", "connection error"]))
    {
        return EtcdError::Certificate { endpoints, reason };
    }
    let denied = ["authentication failed", "permission denied", "user name", "auth token"];
    if says(&denied) {
        return EtcdError::Denied { endpoints, reason, prefix: prefix.to_owned() };
    }
    let away = [
        "transport error",
        "tcp connect",
        "Connection refused",
        "no leader",
        "timed out",
        "h2 protocol",
    ];
    if matches!(error, ClientError::TransportError(_)) || says(&away) {
        return EtcdError::Away { endpoints, reason };
    }
    EtcdError::Refused { endpoints, reason }
}

/// What it says, and what the layers below say.
fn words(error: &ClientError) -> String {
    let (mut text, mut below) = match error {
        ClientError::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        ClientError::TransportError(error) => (error.to_string(), error.source()),
        other => (other.to_string(), None),
    };
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}
