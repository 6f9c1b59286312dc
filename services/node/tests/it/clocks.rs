//! Clocks: a pod's own, that of a peer, and the duration of a message by one clock.

use hyper::StatusCode;
use messages::{
    Protocol::{self, Grpc, Websocket},
    Role, Timestamp,
};
use rstest::rstest;
use serde::Deserialize;

use crate::support::{
    eventually,
    http::{get, request, text},
    mint::Root,
    pod::{Spec, gateway_and_sink},
};

#[rstest]
#[tokio::test]
async fn session_measures_the_peers_clock(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let (gateway, _sink) = gateway_and_sink(&root, protocol).await;
    let name = r#"ferry_clock_skew_seconds{peer="sink"} "#;
    let skew: f64 = eventually("the skew of the sink", async || {
        let (_, metrics) = get(gateway.http, "/metrics").await;
        let mut lines = metrics.lines();
        lines.find_map(|line| line.strip_prefix(name)?.parse().ok())
    })
    .await;
    // Both pods are of this process, and so of one clock; how far off the measure may be depends on
    // the machine.
    assert!(skew.abs() < 60.0, "{skew}");
}

#[tokio::test]
async fn ready_answer_has_the_pods_time() {
    #[derive(Deserialize)]
    struct Ready {
        clock: Timestamp,
    }
    let before = Timestamp::now();
    let sink = Spec::without_identity(Role::Sink, "sink").start().await;
    let (status, body) = get(sink.http, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let said: Ready = serde_json::from_str(&body).unwrap();
    assert!(before <= said.clock && said.clock <= Timestamp::now());
}

#[tokio::test]
async fn trigger_lines_have_the_duration() {
    #[derive(Deserialize)]
    struct Line {
        took_us: u64,
    }
    let root = Root::new();
    let (gateway, _sink) = gateway_and_sink(&root, Grpc).await;
    let trigger = request("POST", "/trigger?count=3").body(Default::default());
    let (status, lines) = text(gateway.http, trigger.unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{lines}");
    let lines: Vec<Line> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.took_us > 0));
}
