//! The daemon over HTTP, if it is asked for ([`options`]): `/metrics` for Prometheus, `/livez` and
//! `/readyz` for whoever starts and stops daemons.
//!
//! Whoever asks changes nothing and asks the kernel nothing: the answers ([`answers`]) are made of
//! what the reconciler counted ([`meters`]) and handed out after its last sync ([`snapshot`]). Only
//! `/livez` asks the daemon's loop, by waking it ([`pulse`]).

pub mod answers;
mod gauges;
pub mod meters;
pub mod options;
pub mod pulse;
pub mod snapshot;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::answers::Desk;
use crate::error::Error;

/// How many are answered at a time; others wait.
const AT_A_TIME: usize = 16;
/// How long one may take to ask and to be answered: `/livez` may take 30 s to say no.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long to wait when no connection can be taken, as without file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens at an address.
///
/// # Errors
/// It cannot.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| Error::Listen { address, source })
}

/// Answers for ever.
pub async fn answer(listener: TcpListener, desk: Desk) {
    if let Ok(address) = listener.local_addr() {
        info!("answering at http://{address}: /metrics, /livez, /readyz");
    }
    let (desk, places) = (Arc::new(desk), Arc::new(Semaphore::new(AT_A_TIME)));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    converse(stream, &desk).await;
                    drop(place);
                });
            }
            Err(problem) => {
                warn!("cannot take a connection: {problem}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// One question and its answer. A connection is not kept for more: nothing is held for who only
/// might ask again.
async fn converse(stream: TcpStream, desk: &Desk) {
    let service = service_fn(async |request: Request<Incoming>| {
        let answer = desk.answer(request.method(), request.uri().path()).await;
        let response = Response::builder()
            .status(answer.status)
            .header(CONTENT_TYPE, answer.content_type)
            .body(Full::new(Bytes::from(answer.text)));
        Ok::<_, Infallible>(response.unwrap_or_default())
    });
    let mut server = http1::Builder::new();
    // The time for all of it is limited below.
    server.keep_alive(false).header_read_timeout(None);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => debug!("a connection broke: {problem}"),
        Err(_) => debug!("a connection took too long"),
    }
}
