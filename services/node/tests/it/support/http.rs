//! A small HTTP client.

use std::net::SocketAddr;

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use messages::{Ack, Message, Timestamp};

use super::pod::TOKEN;

pub(crate) fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "pod")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

/// Sends a request and returns once the head of the response is there.
pub(crate) async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> hyper::Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

pub(crate) async fn text(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> (StatusCode, String) {
    let response = send(address, request).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> (StatusCode, String) {
    text(address, request("GET", path).body(Full::default()).unwrap()).await
}

/// Triggers and waits for all acknowledgements.
pub(crate) async fn trigger(address: SocketAddr, query: &str, body: &str) -> Vec<Ack> {
    trigger_as(address, query, "application/json", body).await
}

pub(crate) async fn trigger_as(
    address: SocketAddr,
    query: &str,
    media_type: &str,
    body: &str,
) -> Vec<Ack> {
    let request = request("POST", &format!("/trigger{query}"))
        .header(header::CONTENT_TYPE, media_type)
        .body(Full::from(body.to_owned()))
        .unwrap();
    let (status, lines) = text(address, request).await;
    assert_eq!(status, StatusCode::OK, "{lines}");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// One line of `/output`.
#[derive(Debug, Deserialize)]
pub(crate) struct Stored {
    pub(crate) index: u64,
    pub(crate) stored_at: Timestamp,
    pub(crate) message: Message,
}

pub(crate) async fn output(address: SocketAddr, query: &str) -> Vec<Stored> {
    let (status, lines) = get(address, &format!("/output{query}")).await;
    assert_eq!(status, StatusCode::OK, "{lines}");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) const DELIVERED: &str = r#"ferry_messages_total{outcome="delivered"}"#;
pub(crate) const REJECTED: &str = r#"ferry_messages_total{outcome="rejected"}"#;
/// Sessions with the sink that were lost.
pub(crate) const LOSSES: &str = r#"ferry_reconnects_total{downstream="sink",cause="loss"}"#;

/// Returns the value of one line of `/metrics`, or 0 if it is absent.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> f64 {
    let (_, text) = get(address, "/metrics").await;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0.0)
}
