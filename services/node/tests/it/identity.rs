//! The workload identity: waited for, taken when it is renewed, never used when it has expired.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use hyper::StatusCode;
use messages::{Outcome, Protocol, Role, env, signature::verify_trail};
use tonic::Code;

use crate::support::{
    eventually,
    http::{LOSSES, get, metric, output, trigger},
    mint::Root,
    pod::{Pod, Spec, sink, upstream},
    raw::{Socket, Stream, handshake, message},
};

/// The life of an identity that must not end before the test does.
const LONG: Duration = Duration::from_secs(3600);

/// The life of an identity that must expire during a test. The pod has everything else by then, and
/// takes it within this time.
const SHORT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn pod_is_ready_once_its_identity_is_there() {
    let root = Root::new();
    let sink = Spec::without_identity(Role::Sink, "sink").start().await;
    let (status, waiting) = get(sink.http, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(waiting.contains("workload identity"), "{waiting}");
    assert!(
        handshake(sink.relay, Some("ferry.v1")).await.is_err(),
        "no session before it is ready"
    );
    let refused = Stream::open(sink.relay).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    sink.issue(&root, LONG);
    let sink = sink.ready().await;
    Socket::open(sink.relay)
        .await
        .send_ok(&message(&root, 1, "1"))
        .await;
    assert!(metric(sink.http, "ferry_identity_remaining_seconds").await > 1.0);
}

#[tokio::test]
async fn identity_of_another_pod_is_ignored() {
    let root = Root::new();
    let sink = Spec::without_identity(Role::Sink, "sink");
    let other = Spec::without_identity(Role::Sink, "other");
    root.issue(&other.config.name, &sink.config.identity_dir, LONG);
    let sink = sink.start().await;
    let (status, _) = get(sink.http, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    sink.issue(&root, LONG);
    sink.ready().await;
}

#[tokio::test]
async fn renewed_identity_signs_the_next_message() {
    let first = Root::new();
    let sink = Spec::new(&first, Role::Sink).start().await.ready().await;
    let mut socket = Socket::open(sink.relay).await;
    let one = socket.ask(&message(&first, 1, "1")).await;
    verify_trail(one.id, &one.trail, &first.certificates()).unwrap();
    // From another root, so that the two can be distinguished.
    let second = Root::new();
    second.issue(&sink.config.name, sink.identity_dir(), LONG);
    eventually("a hop by the new identity", async || {
        let next = socket.ask(&message(&first, 2, "2")).await;
        let roots = [first.certificates(), second.certificates()].concat();
        let names = verify_trail(next.id, &next.trail, &roots).unwrap();
        let own = verify_trail(next.id, &next.trail, &first.certificates());
        own.is_err().then_some(names)
    })
    .await;
}

/// Returns what a pod lacks, by its `/ready`, or `None` while it is ready.
async fn lacks(pod: &Pod) -> Option<String> {
    let (status, text) = get(pod.http, "/ready").await;
    (status == StatusCode::SERVICE_UNAVAILABLE).then_some(text)
}

#[tokio::test]
async fn aging_identity_degrades_the_pod() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut running = Socket::open(sink.relay).await;
    // Minted for 240 s: it should have been replaced once less than 60 s are left, which is in 10
    // s. The time of its file does not count.
    root.issue_aged(
        &sink.config.name,
        sink.identity_dir(),
        Duration::from_secs(70),
        Duration::from_secs(170),
    );
    let file = File::open(sink.config.identity_dir.join(env::IDENTITY_FILE)).unwrap();
    let later = SystemTime::now() + Duration::from_secs(600);
    file.set_modified(later).unwrap();

    let text = eventually("a pod that is no longer ready", async || lacks(&sink).await).await;
    assert!(
        text.contains("a new workload identity: this one is valid for "),
        "{text}"
    );
    assert!(metric(sink.http, "ferry_identity_remaining_seconds").await > 0.0);
    assert_eq!(metric(sink.http, "ferry_ready").await, 0.0);

    running.send_ok(&message(&root, 1, "1")).await;
    Socket::open(sink.relay)
        .await
        .send_ok(&message(&root, 2, "2"))
        .await;
    Stream::open(sink.relay).await.unwrap();

    sink.issue(&root, LONG);
    sink.ready().await;
}

#[tokio::test]
async fn expired_identity_pauses_sessions_without_loss() {
    let root = Root::new();
    let sink = sink(&root).await;
    let gateway = upstream(&root, Role::Gateway, Protocol::Websocket, &sink).await;
    let mut socket = Socket::open(sink.relay).await;
    let mut stream = Stream::open(sink.relay).await.unwrap();
    sink.issue(&root, SHORT);
    let text = eventually("a pod without a valid identity", async || {
        lacks(&sink)
            .await
            .filter(|text| text.contains("was valid until"))
    })
    .await;
    assert!(text.contains("workload identity"), "{text}");
    assert_eq!(
        metric(sink.http, "ferry_identity_remaining_seconds").await,
        0.0
    );

    assert!(handshake(sink.relay, Some("ferry.v1")).await.is_err());
    let refused = Stream::open(sink.relay).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    let by_socket = message(&root, 1, "1");
    let by_stream = message(&root, 2, "2");
    socket.message(&by_socket).await;
    stream.send((&by_stream).into()).await;
    let gateway_http = gateway.http;
    let triggered = tokio::spawn(async move { trigger(gateway_http, "", "\"late\"").await });
    sink.in_flight(3.0).await;
    assert!(output(sink.http, "").await.is_empty());

    sink.issue(&root, LONG);
    let acks = triggered.await.unwrap();
    assert_eq!(acks[0].outcome, Outcome::Delivered);
    assert_eq!(socket.ack().await.id, by_socket.id);
    assert_eq!(stream.ack().await.unwrap().unwrap().id, by_stream.id);
    assert_eq!(output(sink.http, "").await.len(), 3);
    assert_eq!(
        metric(gateway.http, LOSSES).await,
        0.0,
        "the gateway's session must have gone on"
    );
}

#[tokio::test]
async fn pod_without_identity_still_ends() {
    let root = Root::new();
    let mut sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;
    sink.issue(&root, SHORT);
    eventually("an identity that has expired", async || {
        lacks(&sink)
            .await
            .filter(|text| text.contains("was valid until"))
    })
    .await;
    socket.message(&message(&root, 1, "1")).await;
    sink.in_flight(1.0).await;
    sink.stop();
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1013, "{reason}");
    sink.ended().await;
}
