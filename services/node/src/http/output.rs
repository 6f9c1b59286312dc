//! `GET /output`: the stored records; `POST /output/read`: how far a reader has read them.

use std::io;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures_util::{Stream, stream};
use journal::Reader;
use serde::{Deserialize, Serialize};

use super::{NDJSON, json, refuse};
use crate::{
    store::{self, Store},
    unavailable::Unavailable,
};

/// Header of every answer: the index of the oldest record that is kept, or of the next one.
const OLDEST: &str = "x-ferry-oldest-index";
/// Longest name of a reader, in bytes.
const MAX_NAME: usize = 63;

pub(super) fn routes(store: Store) -> Router {
    Router::new()
        .route("/output", get(output))
        .route("/output/read", post(read))
        .with_state(store)
}

#[derive(Deserialize)]
struct OutputQuery {
    /// 0 begins at the oldest record that is kept.
    #[serde(default)]
    after: u64,
    limit: Option<u64>,
}

/// Answers with the stored records, one a line, oldest first.
async fn output(
    State(store): State<Store>,
    query: Result<Query<OutputQuery>, QueryRejection>,
) -> Response {
    let OutputQuery { after, limit } = match query {
        Ok(Query(query)) => query,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let reader = match store.reader() {
        Ok(reader) => reader,
        Err(Unavailable(reason)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    let oldest = reader.oldest();
    let header = [(OLDEST, oldest.to_string())];
    if after > 0 && after.saturating_add(1) < oldest {
        let first = after.saturating_add(1);
        let reason = format!(
            "the records from {first} on are no longer kept; the oldest is {oldest}: \
             continue with `after={}`",
            oldest - 1
        );
        return (header, refuse(StatusCode::GONE, reason)).into_response();
    }
    let records = records(reader, after, limit.unwrap_or(u64::MAX));
    let lines = Body::from_stream(records);
    (header, [(CONTENT_TYPE, NDJSON)], lines).into_response()
}

/// Reads records in pieces, as fast as the client takes them. Ends with an error, which cuts the
/// answer, if the next ones are no longer kept.
fn records(
    reader: Reader,
    after: u64,
    limit: u64,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    /// Most records of one piece.
    const PIECE: u64 = 256;
    stream::try_unfold((reader, after, limit), async |(reader, after, left)| {
        let most = usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX);
        let piece = reader.clone();
        let records = tokio::task::spawn_blocking(move || store::lines(&piece, after, most))
            .await?
            .map_err(io::Error::other)?;
        let (Some((first, _)), Some((last, _))) = (records.first(), records.last()) else {
            return Ok(None);
        };
        if after > 0 && *first != after.saturating_add(1) {
            return Err(io::Error::other("the next records were dropped meanwhile"));
        }
        let (last, count) = (*last, records.len() as u64);
        let mut lines = Vec::new();
        for (_, line) in records {
            lines.extend(line);
            lines.push(b'\n');
        }
        Ok(Some((Bytes::from(lines), (reader, last, left - count))))
    })
}

#[derive(Deserialize)]
struct ReadQuery {
    reader: String,
    through: u64,
}

#[derive(Serialize)]
struct ReadAnswer {
    reader: String,
    through: u64,
}

/// Remembers how far a reader has read, and answers once that is on disk.
async fn read(
    State(store): State<Store>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Response {
    let ReadQuery { reader, through } = match query {
        Ok(Query(query)) => query,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    if reader.len() > MAX_NAME || !messages::is_dns_label(&reader) {
        let reason = "`reader` is a name of lower-case letters, digits and hyphens, 63 at most";
        return refuse(StatusCode::BAD_REQUEST, reason);
    }
    match store.read_through(reader.clone(), through).await {
        Ok(Ok(through)) => json(StatusCode::OK, &ReadAnswer { reader, through }),
        Ok(Err(error)) => refuse(StatusCode::BAD_REQUEST, error.to_string()),
        Err(Unavailable(reason)) => refuse(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}
