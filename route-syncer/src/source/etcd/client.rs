//! The connection to etcd: endpoints, TLS, user, time limits.

use std::path::Path;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error as ClientError, GetOptions, Identity, KeyValue,
    TlsOptions,
};
use tokio::time::timeout;

use super::contents::{Contents, Layout, Stored};
use super::error::{EtcdError, explain, silent};
use super::jitter::random;
use super::options::EtcdOptions;
use super::timing::Timing;
use super::value;
use crate::source::Term;

/// How long a list of everything may be, in bytes. A limit is needed, and this one is not met: etcd's
/// own, of all that it has, is 8 GiB at most, of which we read one prefix.
const LONGEST_LIST: usize = 1 << 30;

/// How to connect.
#[derive(Clone)]
pub struct Connection {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// How patient we are.
    pub(super) timing: Timing,
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
    /// How long it may take to answer.
    patience: Duration,
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
        let timing = options.timing;
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(timing.answer)
            .with_keep_alive(timing.ping, timing.answer)
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
            timing,
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
        let first = random() as usize % self.endpoints.len();
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
        let patience = self.timing.answer;
        let client = match timeout(patience, connected).await {
            Ok(connected) => {
                connected.map_err(|error| explain(&error, endpoint, &self.layout.prefix))?
            }
            Err(_) => return Err(silent(endpoint, patience)),
        };
        let (layout, endpoint) = (self.layout.clone(), endpoint.to_owned());
        let term = self.term.clone();
        let etcd = Etcd { client, layout, term, endpoint, patience };
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
        match timeout(self.patience, call).await {
            Ok(answer) => answer.map_err(|error| self.explain(&error)),
            Err(_) => Err(silent(&self.endpoint, self.patience)),
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
        let mut kv = self.client.kv_client().max_decoding_message_size(LONGEST_LIST);
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

/// A key's value, as we keep it: of one that is too long, enough to know that it is.
pub(super) fn stored(kv: &KeyValue) -> Stored {
    let value = kv.value();
    let value = value[..value.len().min(value::LONGEST + 1)].to_vec();
    Stored { value, revision: kv.mod_revision(), lease: kv.lease() }
}
