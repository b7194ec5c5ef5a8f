//! What is answered to whom.

use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::gauges::Gauges;
use super::meters::Meters;
use super::pulse::Hand;
use super::snapshot::Snapshots;
use crate::source::Term;

/// How long the loop may take for a turn. A sync of thousands of routes takes a second or two.
const LONGEST_TURN: Duration = Duration::from_secs(30);
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that is needed to answer.
pub struct Desk {
    hand: Hand,
    snapshots: Snapshots,
    registry: Registry,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) text: String,
}

impl Desk {
    /// Answers from these.
    pub fn new(hand: Hand, snapshots: Snapshots, term: Option<Term>, meters: &Meters) -> Self {
        let mut registry = Registry::with_prefix("cbr0");
        meters.register(&mut registry);
        registry.register_collector(Box::new(Gauges { snapshots: snapshots.clone(), term }));
        Self { hand, snapshots, registry }
    }

    /// The answer to a request.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Answer {
        if ![Method::GET, Method::HEAD].contains(method) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
        }
        match path {
            "/metrics" => self.metrics(),
            "/livez" => self.alive().await,
            "/readyz" => self.ready(),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz"),
        }
    }

    async fn alive(&self) -> Answer {
        if self.hand.feels(LONGEST_TURN).await {
            return text(StatusCode::OK, "ok");
        }
        let words = format!("the daemon has done nothing for {LONGEST_TURN:?}");
        text(StatusCode::SERVICE_UNAVAILABLE, &words)
    }

    fn ready(&self) -> Answer {
        match self.snapshots.borrow().unready() {
            None => text(StatusCode::OK, "ok"),
            Some(words) => text(StatusCode::SERVICE_UNAVAILABLE, &words),
        }
    }

    fn metrics(&self) -> Answer {
        let mut words = String::new();
        match encode(&mut words, &self.registry) {
            Ok(()) => Answer { status: StatusCode::OK, content_type: METRICS, text: words },
            Err(problem) => text(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
        }
    }
}

fn text(status: StatusCode, words: &str) -> Answer {
    Answer { status, content_type: TEXT, text: format!("{words}\n") }
}
