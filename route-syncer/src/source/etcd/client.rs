//! The connection to etcd: endpoints, TLS, user, time limits, and errors that tell the remedy.

use std::error::Error as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error as ClientError, GetOptions, Identity, KeyValue,
    TlsOptions,
};
use tokio::time::timeout;

use super::contents::{Contents, Layout, Stored};
use super::options::EtcdOptions;
use crate::source::Term;

/// How long etcd may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an idle connection is tried: each time wakes the daemon. Etcd's least is 5 seconds.
const PING: Duration = Duration::from_secs(30);
/// How long the answer to that may take.
const PONG: Duration = Duration::from_secs(10);

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

/// How to connect.
#[derive(Clone)]
pub struct Connection {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// The names of the keys.
    pub layout: Layout,
    /// How long the lease holds that is kept alive by this.
    pub(super) term: Term,
}

/// A connection.
pub struct Etcd {
    pub(super) client: Client,
    pub(super) layout: Layout,
    pub(super) term: Term,
    endpoint: String,
}

impl Connection {
    /// Reads what the options name.
    ///
    /// # Errors
    /// A file is missing, or the options do not go together.
    pub fn new(options: &EtcdOptions) -> Result<Self, EtcdError> {
        if options.endpoints.is_empty() {
            return Err(EtcdError::NoEndpoints);
        }
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(PING, PONG)
            .with_require_leader(true);
        if let Some(tls) = tls(options)? {
            if let Some(plain) = options.endpoints.iter().find(|url| !url.starts_with("https://")) {
                return Err(EtcdError::NotTls(plain.clone()));
            }
            connect = connect.with_tls(tls);
        }
        match (&options.username, &options.password_file) {
            (Some(user), Some(path)) => {
                let password = read("--etcd-password-file", path)?;
                let password = String::from_utf8_lossy(&password);
                connect = connect
                    .with_user(user, password.trim_end_matches(['\r', '\n']))
                    .with_auto_token_refresh(true);
            }
            (None, None) => {}
            (Some(_), None) => {
                return Err(EtcdError::Half("--etcd-username", "--etcd-password-file"));
            }
            (None, Some(_)) => {
                return Err(EtcdError::Half("--etcd-password-file", "--etcd-username"));
            }
        }
        Ok(Self {
            endpoints: options.endpoints.clone(),
            options: connect,
            layout: Layout::new(&options.prefix),
            term: Term::default(),
        })
    }

    /// Connects to the first member that answers, and reads what is there. (A client of all of them
    /// would go on asking those that are dead, now and then.)
    ///
    /// # Errors
    /// None answers, or not to us.
    pub async fn open(&self) -> Result<(Etcd, Contents), EtcdError> {
        let mut problem = None;
        // Not all nodes ask the same one.
        let first = RandomState::new().build_hasher().finish() as usize % self.endpoints.len();
        for endpoint in self.endpoints.iter().cycle().skip(first).take(self.endpoints.len()) {
            match self.open_one(endpoint).await {
                Ok(opened) => return Ok(opened),
                // That one is away says less than why another lets nobody in.
                Err(EtcdError::Away { reason, .. }) if problem.is_none() => {
                    let endpoints = self.endpoints.join(", ");
                    problem = Some(EtcdError::Away { endpoints, reason });
                }
                Err(EtcdError::Away { .. }) => {}
                Err(other) => problem = Some(other),
            }
        }
        Err(problem.unwrap_or(EtcdError::NoEndpoints))
    }

    async fn open_one(&self, endpoint: &str) -> Result<(Etcd, Contents), EtcdError> {
        let connected = Client::connect([endpoint], Some(self.options.clone()));
        let client = match timeout(PATIENCE, connected).await {
            Ok(connected) => {
                connected.map_err(|error| explain(&error, endpoint, &self.layout.prefix))?
            }
            Err(_) => return Err(silent(endpoint)),
        };
        let (layout, endpoint) = (self.layout.clone(), endpoint.to_owned());
        let etcd = Etcd { client, layout, term: self.term.clone(), endpoint };
        let contents = etcd.list().await?;
        Ok((etcd, contents))
    }
}

fn tls(options: &EtcdOptions) -> Result<Option<TlsOptions>, EtcdError> {
    let mut tls = TlsOptions::new();
    if let Some(path) = &options.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read("--etcd-cafile", path)?));
    }
    match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => {
            let cert = read("--etcd-certfile", cert)?;
            tls = tls.identity(Identity::from_pem(cert, read("--etcd-keyfile", key)?));
        }
        (None, None) => {}
        (Some(_), None) => return Err(EtcdError::Half("--etcd-certfile", "--etcd-keyfile")),
        (None, Some(_)) => return Err(EtcdError::Half("--etcd-keyfile", "--etcd-certfile")),
    }
    let wanted = options.ca_file.is_some() || options.cert_file.is_some();
    Ok(wanted.then_some(tls))
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, EtcdError> {
    let read = std::fs::read(path);
    read.map_err(|source| EtcdError::File { option, path: path.into(), source })
}

impl Etcd {
    /// Waits for an answer, not for ever.
    pub(super) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, EtcdError> {
        match timeout(PATIENCE, call).await {
            Ok(answer) => answer.map_err(|error| self.explain(&error)),
            Err(_) => Err(silent(&self.endpoint)),
        }
    }

    /// Says what is wrong, and what to do.
    pub(super) fn explain(&self, error: &ClientError) -> EtcdError {
        explain(error, &self.endpoint, &self.layout.prefix)
    }

    /// An answer that is not of the protocol.
    pub(super) fn strange(&self, what: &str) -> EtcdError {
        EtcdError::Refused { endpoints: self.endpoint.clone(), reason: what.to_owned() }
    }

    /// Reads everything below the prefix, at one revision.
    ///
    /// # Errors
    /// Etcd does not answer, or not to us.
    async fn list(&self) -> Result<Contents, EtcdError> {
        let mut kv = self.client.kv_client();
        let prefix = self.layout.prefix.clone();
        let answer = self.ask(kv.get(prefix, Some(GetOptions::new().with_prefix()))).await?;
        let header = answer.header().ok_or_else(|| self.strange("an answer without a header"))?;
        let mut contents = Contents {
            cluster: header.cluster_id(),
            revision: header.revision(),
            ..Contents::default()
        };
        for kv in answer.kvs() {
            contents.set(&self.layout, kv.key(), kv.mod_revision(), Some(stored(kv)));
        }
        Ok(contents)
    }
}

/// A key's value, as we keep it.
pub(super) fn stored(kv: &KeyValue) -> Stored {
    Stored { value: kv.value().to_vec(), revision: kv.mod_revision(), lease: kv.lease() }
}

fn silent(endpoint: &str) -> EtcdError {
    let reason = format!("no answer within {PATIENCE:?}");
    EtcdError::Away { endpoints: endpoint.to_owned(), reason }
}

fn explain(error: &ClientError, endpoint: &str, prefix: &str) -> EtcdError {
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
