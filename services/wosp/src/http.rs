//! `GET /health`, `GET /ready`, `GET /metrics` and `GET /identity`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use messages::{IDENTITY_REPORT_PATH, IdentityReport, Readiness};
use serde_json::json;

use crate::{metrics::Metrics, status::Status};

/// The state that the HTTP side reads.
#[derive(Clone, Debug)]
pub struct Shared {
    pub status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub rotation: Duration,
}

/// Returns the routes of the agent.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route(IDENTITY_REPORT_PATH, get(identity))
        .with_state(shared)
}

/// Answers 200 while the agent runs: it shares its one thread with this answer, so neither comes if
/// a file system hangs. An authority that is refused is no reason: a restart would not mend it.
async fn health() -> &'static str {
    "ok"
}

/// Answers 200, or 503 with the reason, as a [`Readiness`].
async fn ready(State(shared): State<Shared>) -> Response {
    let reason = shared
        .status
        .unready_reason(Timestamp::now(), shared.rotation);
    let readiness = Readiness::new(reason.into_iter().collect(), None);
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!(readiness).to_string();
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Answers the last published identity as a [`messages::IdentityReport`], or 503 before the first.
async fn identity(State(shared): State<Shared>) -> Response {
    match shared.status.report() {
        Some(report) => {
            let report = IdentityReport {
                clock: Some(Timestamp::now().into()),
                ..report
            };
            (
                [(CONTENT_TYPE, "application/json")],
                json!(report).to_string(),
            )
                .into_response()
        }
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no identity was published yet",
        )
            .into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match shared
        .metrics
        .text(shared.status.published(), Timestamp::now())
    {
        Ok(text) => (
            [(
                CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
