//! The HTTP side of a pod: `/health`, `/ready` and `/metrics` for every client, `/trigger` and
//! `/output` with the token.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use messages::{Readiness, Role, Timestamp};
use serde::Serialize;

use crate::{
    metrics,
    relay::{Destination, Pod, origin::Origin},
};

mod guard;
mod output;
mod trigger;

const NDJSON: &str = "application/x-ndjson";

/// Returns the routes of a pod. `origin` is `Some` on a gateway.
pub(crate) fn router(pod: &Arc<Pod>, origin: Option<Arc<Origin>>) -> Router {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pod.clone());
    if let Some(token) = &pod.config.token {
        let guarded = match (&pod.destination, origin) {
            (Destination::Store(store), _) => Some(output::routes(store.clone())),
            (Destination::Links(_), Some(origin)) => {
                let admission = trigger::Admission::new(pod.clone(), origin);
                let trigger = post(trigger::trigger).with_state(admission);
                Some(Router::new().route("/trigger", trigger))
            }
            // A processor has nothing behind a token.
            (Destination::Links(_), None) => None,
        };
        if let Some(routes) = guarded {
            let guard = guard::Guard::new(token.clone(), pod.metrics.clone());
            let guard = middleware::from_fn_with_state(guard, guard::authorized);
            router = router.merge(routes.route_layer(guard));
        }
    }
    router
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    pod: &'a str,
    workload: String,
    role: Role,
}

/// Answers as soon as the pod listens.
async fn health(State(pod): State<Arc<Pod>>) -> Response {
    let config = &pod.config;
    let body = Health {
        status: "ok",
        pod: &config.pod_name,
        workload: config.name.to_string(),
        role: config.role,
    };
    json(StatusCode::OK, &body)
}

async fn ready(State(pod): State<Arc<Pod>>) -> Response {
    let readiness = Readiness::new(pod.ready.waiting_for(), Some(Timestamp::now()));
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &readiness)
}

async fn metrics(State(pod): State<Arc<Pod>>) -> Response {
    match pod
        .metrics
        .encode(pod.identity.remaining(), pod.ready.is_ready())
    {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Returns an error that a client can act on: one line of text.
fn refuse(status: StatusCode, reason: impl Into<String>) -> Response {
    let mut text = reason.into();
    text.push('\n');
    (status, text).into_response()
}
