//! `POST /trigger`: payloads in, acknowledgements out.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    },
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use messages::{Ack, Payload};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;

use super::{NDJSON, refuse};
use crate::{
    hooks::Headers,
    relay::{
        Pod,
        origin::{AckResult, Origin, Payloads, default_payload},
    },
    unavailable::Unavailable,
};

/// Longest body of a trigger, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Most messages of one trigger with `?count=`.
const MAX_COUNT: u32 = 1_000_000;
/// Limit on the bodies of all unfinished triggers together, in KiB: 256 MiB.
const MAX_PENDING_KIB: u32 = 256 * 1024;
/// Least that a trigger counts, in KiB: at most 1,024 triggers at the same time.
const MIN_PENDING_KIB: u32 = 256;

/// Longest wait for a valid identity. `wosp` mints one within a second after the clock was set.
const IDENTITY_LIMIT: Duration = Duration::from_secs(3);

/// Admission control of triggers.
#[derive(Clone)]
pub(super) struct Admission {
    pod: Arc<Pod>,
    origin: Arc<Origin>,
    /// The KiB that further triggers may bring.
    room: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new(pod: Arc<Pod>, origin: Arc<Origin>) -> Self {
        let room = Arc::new(Semaphore::new(MAX_PENDING_KIB as usize));
        Self { pod, origin, room }
    }
}

#[derive(Deserialize)]
pub(super) struct TriggerQuery {
    count: Option<u32>,
}

/// Sends messages and answers with one acknowledgement a line, as they come.
pub(super) async fn trigger(
    State(admission): State<Admission>,
    query: Result<Query<TriggerQuery>, QueryRejection>,
    request: Request,
) -> Response {
    let count = match query {
        Ok(Query(TriggerQuery { count })) => count,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    if admission.pod.shutdown.draining.is_cancelled() {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the pod is ending; try again later",
        );
    }
    if let Err(Unavailable(reason)) = admission.pod.identity.awaited(IDENTITY_LIMIT).await {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, reason);
    }
    let Ok(pending) = admission
        .room
        .clone()
        .try_acquire_many_owned(kib_of(&request))
    else {
        return refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "too many triggers are running; wait for one to finish",
        );
    };
    let headers = custom_headers(request.headers());
    let lines = request
        .headers()
        .get(CONTENT_TYPE)
        .map(|value| media_type(value.as_bytes()));
    let body = match body(request).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let payloads = match payloads(
        lines.as_deref(),
        &body,
        count,
        &admission.pod.config.pod_name,
    ) {
        Ok(payloads) => payloads,
        Err((status, reason)) => return refuse(status, reason),
    };
    drop(body);
    let answers = admission.origin.trigger(payloads, headers, Some(pending));
    let lines = ReceiverStream::new(answers).map(answer_lines);
    ([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

/// Returns what a request counts against [`MAX_PENDING_KIB`], in KiB: its announced length,
/// otherwise the longest.
fn kib_of(request: &Request) -> u32 {
    let bytes = announced_length(request)
        .unwrap_or(MAX_BODY_BYTES)
        .min(MAX_BODY_BYTES);
    u32::try_from(bytes / 1024)
        .unwrap_or(u32::MAX)
        .max(MIN_PENDING_KIB)
}

fn announced_length(request: &Request) -> Option<usize> {
    let length = request.headers().get(CONTENT_LENGTH);
    match length {
        Some(length) => length.to_str().ok()?.parse().ok(),
        // Without a length and without chunks there is no body (RFC 9112, section 6.3).
        None => request
            .headers()
            .get(TRANSFER_ENCODING)
            .is_none()
            .then_some(0),
    }
}

/// One line of an answer.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    ack: &'a Ack,
    /// Microseconds from the creation of the message to the acknowledgement of all its branches, by
    /// this pod's clock. The times on the trail are of several clocks.
    took_us: u64,
}

/// Returns the acknowledgements of one message, a line each. An error cuts the response, so that
/// the client notices that it is incomplete.
fn answer_lines(answers: AckResult) -> Result<Bytes, std::io::Error> {
    let answered = answers.map_err(|Unavailable(reason)| std::io::Error::other(reason))?;
    let took_us = u64::try_from(answered.took.as_micros()).unwrap_or(u64::MAX);
    let mut lines = Vec::new();
    for ack in &answered.acks {
        serde_json::to_writer(&mut lines, &Line { ack, took_us })?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

fn custom_headers(headers: &HeaderMap) -> Headers {
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-"))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// `application/json; charset=utf-8` → `application/json`
fn media_type(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

async fn body(request: Request) -> Result<Bytes, Response> {
    let too_large = || {
        let reason = format!("the body is over the limit of {MAX_BODY_BYTES} bytes; split it");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    if announced_length(&request).is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    to_bytes(request.into_body(), MAX_BODY_BYTES)
        .await
        .map_err(|error| {
            let limit = std::error::Error::source(&error)
                .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            match limit {
                true => too_large(),
                false => refuse(
                    StatusCode::BAD_REQUEST,
                    format!("the body did not arrive: {error}"),
                ),
            }
        })
}

type Refused = (StatusCode, String);

/// Returns the payloads of a trigger. The whole body is parsed before the first message is sent: a
/// bad line sends nothing.
fn payloads(
    media_type: Option<&str>,
    body: &[u8],
    count: Option<u32>,
    pod: &str,
) -> Result<Payloads, Refused> {
    let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
    if count.is_some_and(|count| !(1..=MAX_COUNT).contains(&count)) {
        return Err(bad(format!("`count` goes from 1 to {MAX_COUNT}")));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| bad(format!("the body is not UTF-8: {error}")))?;
    // A byte order mark, which some editors write (RFC 8259, section 8.1).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match media_type {
        Some(NDJSON) if count.is_some() => Err(bad(
            "`count` is for one payload; with lines, each is sent once".into(),
        )),
        Some(NDJSON) => {
            let mut payloads = Vec::new();
            for (number, line) in text.lines().enumerate() {
                if !line.trim().is_empty() {
                    let payload = parse(line)
                        .map_err(|error| bad(format!("line {}: {error}", number + 1)))?;
                    payloads.push(payload);
                }
            }
            Ok(Box::new(payloads.into_iter()))
        }
        _ if text.trim().is_empty() => {
            let count = count.unwrap_or(1);
            let pod = pod.to_owned();
            Ok(Box::new(
                (1..=count).map(move |number| default_payload(number, count, &pod)),
            ))
        }
        None | Some("application/json") => {
            let payload = parse(text).map_err(bad)?;
            let count = usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX);
            Ok(Box::new(std::iter::repeat_n(payload, count)))
        }
        Some(other) => Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "unsupported media type `{other}`: send `application/json` (one payload) \
                 or `{NDJSON}` (one a line)"
            ),
        )),
    }
}

fn parse(text: &str) -> Result<Payload, String> {
    Payload::from_text(text.trim().to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(media_type: Option<&str>, body: &str, count: Option<u32>) -> Result<usize, Refused> {
        payloads(media_type, body.as_bytes(), count, "gateway-1").map(Iterator::count)
    }

    proptest::proptest! {
        #[test]
        fn no_body_breaks_the_trigger_parser(
            body: Vec<u8>,
            json in "([\\[\\]{},: \n0-9]|\"a\"|null){0,30}",
            kind in 0_usize..4,
            count: Option<u32>,
        ) {
            let kind = [None, Some("application/json"), Some(NDJSON), Some("text/plain")][kind];
            // Counts that are allowed are lazy, and long.
            let count = count.map(|count| count % 100);
            for body in [body.as_slice(), json.as_bytes()] {
                match payloads(kind, body, count, "gateway-1") {
                    Ok(payloads) => payloads.for_each(|payload| assert!(!payload.is_empty())),
                    Err((status, reason)) => {
                        assert!(status.is_client_error() && !reason.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn trigger_takes_one_payload_many_or_none() {
        assert_eq!(count(None, "", None).unwrap(), 1);
        assert_eq!(count(None, "", Some(7)).unwrap(), 7);
        assert_eq!(
            count(Some("application/json"), "{\"a\":1}", None).unwrap(),
            1
        );
        assert_eq!(
            count(Some("application/json"), "{\n\"a\":1}\n", Some(3)).unwrap(),
            3
        );
        assert_eq!(count(Some(NDJSON), "1\n\n\"two\"\n[3]\n", None).unwrap(), 3);
        assert_eq!(count(Some(NDJSON), "", None).unwrap(), 0);
    }

    #[test]
    fn byte_order_mark_is_removed() {
        for (media_type, body, number) in [
            (None, "\u{feff}", 1),
            (None, "\u{feff}{\"a\":1}\r\n", 1),
            (Some("application/json"), "\u{feff}[1]", 1),
            (Some(NDJSON), "\u{feff}1\r\n2\r\n", 2),
        ] {
            let all = payloads(media_type, body.as_bytes(), None, "gateway-1").unwrap();
            let all: Vec<_> = all.collect();
            assert_eq!(all.len(), number, "`{body}`");
            assert!(
                all.iter()
                    .all(|payload| !payload.as_str().contains('\u{feff}'))
            );
        }
    }

    #[test]
    fn wrong_trigger_names_the_cause() {
        for (media_type, body, number, expected) in [
            (None, "{", None, "not JSON"),
            (None, "", Some(0), "`count`"),
            (None, "", Some(MAX_COUNT + 1), "`count`"),
            (Some(NDJSON), "1\nnope\n", None, "line 2"),
            (Some(NDJSON), "1\n", Some(2), "`count`"),
            (
                Some("application/x-www-form-urlencoded"),
                "a=1",
                None,
                "application/json",
            ),
        ] {
            let (_, reason) = count(media_type, body, number).unwrap_err();
            assert!(
                reason.contains(expected),
                "`{body}` must be refused for {expected}: {reason}"
            );
        }
    }
}
