//! What is asked of the API server: to list the Nodes, and to watch them. Nothing else ever is.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;

use super::error::{self, KubernetesError};
use super::object::NodeObject;

const PATH: &str = "/api/v1/nodes";
/// How many Nodes are asked for at once. A Node can have 10 KB and more.
const PAGE: u32 = 100;

/// What a watch tells.
pub(super) type Events = BoxStream<'static, Result<WatchEvent<NodeObject>, KubernetesError>>;

/// The Nodes of an API server.
pub(super) struct Nodes {
    client: Client,
    /// Where it is, for people.
    pub(super) server: String,
    watch_seconds: u16,
}

/// A part of a list.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<NodeObject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: String,
    /// What to ask for the next part with; empty in the last one.
    #[serde(default)]
    r#continue: String,
}

impl Nodes {
    pub(super) fn new(client: Client, server: String, watch_seconds: u16) -> Self {
        Self { client, server, watch_seconds }
    }

    /// Lists all Nodes, and tells the version of which that is the list: all pages are of the same.
    ///
    /// It is the newest: what a cache of the API server has (resourceVersion=0) may be older than
    /// what we know, and lack Nodes that are there.
    ///
    /// # Errors
    /// The API server does not answer, or not to us.
    pub(super) async fn list(&self) -> Result<(Vec<NodeObject>, String), KubernetesError> {
        let mut nodes = Vec::new();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(PATH).list(&parameters);
            let request = request.map_err(kube::Error::BuildRequest);
            let request = request.map_err(|error| self.explain(error))?;
            let page = self.client.request::<Page>(request).await;
            let Page { metadata, items } = page.map_err(|error| self.explain(error))?;
            nodes.extend(items);
            if metadata.r#continue.is_empty() {
                return Ok((nodes, metadata.resource_version));
            }
            parameters.continue_token = Some(metadata.r#continue);
        }
    }

    /// Watches what comes after a version.
    ///
    /// # Errors
    /// As [`Nodes::list`].
    pub(super) async fn watch(&self, version: &str) -> Result<Events, KubernetesError> {
        let parameters = WatchParams::default().timeout(self.watch_seconds.into());
        let request = Request::new(PATH).watch(&parameters, version);
        let request = request.map_err(kube::Error::BuildRequest);
        let request = request.map_err(|error| self.explain(error))?;
        let events = self.client.request_events::<NodeObject>(request).await;
        let events = events.map_err(|error| self.explain(error))?;
        let server = self.server.clone();
        Ok(events.map(move |event| event.map_err(|error| error::explain(error, &server))).boxed())
    }

    fn explain(&self, error: kube::Error) -> KubernetesError {
        error::explain(error, &self.server)
    }
}
