//! The workload identity: waited for, taken when it is renewed, never used when it has expired.

use std::time::Duration;

use hyper::StatusCode;
use messages::{Outcome, Protocol, Role, signature::verify_trail};
use tonic::Code;

use crate::support::{
    eventually,
    http::{get, metric, output, trigger},
    mint::Root,
    pod::Spec,
    raw::{Socket, Stream, handshake, message},
};

#[tokio::test]
async fn a_pod_is_ready_once_its_identity_is_there() {
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
    root.issue(
        &sink.config.name,
        sink.identity_dir(),
        Duration::from_secs(60),
    );
    let sink = sink.ready().await;
    assert_eq!(
        Socket::open(sink.relay)
            .await
            .ask(&message(1, "1"))
            .await
            .outcome,
        Outcome::Delivered
    );
    assert!(metric(sink.http, "ferry_identity_remaining_seconds").await > 1.0);
}

#[tokio::test]
async fn another_pods_identity_is_none() {
    let root = Root::new();
    let sink = Spec::without_identity(Role::Sink, "sink");
    let other = Spec::without_identity(Role::Sink, "other");
    root.issue(
        &other.config.name,
        &sink.config.identity_dir,
        Duration::from_secs(60),
    );
    let sink = sink.start().await;
    let (status, _) = get(sink.http, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    root.issue(
        &sink.config.name,
        sink.identity_dir(),
        Duration::from_secs(60),
    );
    sink.ready().await;
}

#[tokio::test]
async fn a_renewed_identity_signs_the_next_message() {
    let first = Root::new();
    let sink = Spec::new(&first, Role::Sink).start().await.ready().await;
    let mut socket = Socket::open(sink.relay).await;
    let one = socket.ask(&message(1, "1")).await;
    verify_trail(one.id, &one.trail, &first.certificates()).unwrap();
    // From another root, so that it can be told apart.
    let second = Root::new();
    second.issue(
        &sink.config.name,
        sink.identity_dir(),
        Duration::from_secs(60),
    );
    eventually("a hop by the new identity", async || {
        let next = socket.ask(&message(2, "2")).await;
        verify_trail(next.id, &next.trail, &second.certificates()).ok()
    })
    .await;
}

#[tokio::test]
async fn with_an_expired_identity_nothing_is_taken_and_nothing_is_lost() {
    let root = Root::new();
    let sink = Spec::without_identity(Role::Sink, "sink");
    root.issue(
        &sink.config.name,
        &sink.config.identity_dir,
        Duration::from_secs(6),
    );
    let sink = sink.start().await.ready().await;
    let gateway = Spec::new(&root, Role::Gateway).to("sink", Protocol::Websocket, sink.relay);
    let gateway = gateway.start().await.ready().await;
    let mut socket = Socket::open(sink.relay).await;
    eventually("a pod that is no longer ready", async || {
        let (status, waiting) = get(sink.http, "/ready").await;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(waiting)
    })
    .await;
    // An open session is closed with 1013, try again later, instead of an answer.
    socket.message(&message(1, "1")).await;
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1013, "{reason}");
    // A message of the gateway waits until there is an identity again.
    let triggered = tokio::spawn(async move { trigger(gateway.http, "", "\"late\"").await });
    eventually("a gateway that tries", async || {
        (metric(sink.http, "ferry_identity_remaining_seconds").await == 0.0).then_some(())
    })
    .await;
    assert!(output(sink.http, "").await.is_empty());
    root.issue(
        &sink.config.name,
        sink.identity_dir(),
        Duration::from_secs(60),
    );
    let acks = triggered.await.unwrap();
    assert_eq!(acks[0].outcome, Outcome::Delivered);
    assert_eq!(output(sink.http, "").await.len(), 1);
}
