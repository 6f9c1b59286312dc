//! Trails are verified before anything comes of a message: it is not shown to a hook, not stored,
//! not a repeat of another.

use std::time::Duration;

use messages::{Message, Payload, Protocol, Role};
use rstest::rstest;
use tonic::Code;

use crate::support::{
    eventually,
    http::{DELIVERED, get, metric, output, trigger},
    mint::Root,
    pod::{Spec, gateway_and_sink, sink},
    raw::{Socket, Stream, hop, message, message_of, signed},
};

fn refused(reason: &str) -> String {
    format!(r#"ferry_trails_refused_total{{reason="{reason}"}}"#)
}

/// A message of the gateway that `south` carried.
fn over_south(root: &Root) -> Message {
    signed(root, message(root, 1, "\"true\""), "south", Role::Processor)
}

/// Each is sent by `left`, an upstream of the sink.
#[rstest]
#[case::no_hop("other-peer", |root: &Root| {
    let mut message = message(root, 1, "1");
    message.trail.clear();
    message
})]
#[case::not_signed("malformed", |root: &Root| {
    let mut message = message(root, 1, "1");
    message.trail.push(hop("cluster-of-left"));
    message
})]
#[case::of_another_message("replayed", |root: &Root| {
    let (mut message, other) = (message(root, 1, "1"), message(root, 2, "2"));
    message.trail = other.trail;
    signed(root, message, "left", Role::Processor)
})]
#[case::by_another_root("other-root", |_: &Root| {
    let root = Root::new();
    signed(&root, message(&root, 1, "1"), "left", Role::Processor)
})]
#[case::of_another_pod("other-peer", |root: &Root| {
    signed(root, message(root, 1, "1"), "right", Role::Processor)
})]
#[case::its_own_message("other-route", |root: &Root| message_of(root, "left", 1, "1"))]
#[case::round_about("other-route", |root: &Root| {
    signed(root, over_south(root), "left", Role::Processor)
})]
#[case::as_another_role("other-route", |root: &Root| {
    signed(root, message(root, 1, "1"), "left", Role::Gateway)
})]
#[tokio::test]
async fn false_trail_ends_its_session_unstored(
    #[case] reason: &str,
    #[case] forge: fn(&Root) -> Message,
) {
    let root = Root::new();
    let sink = sink(&root).await;
    let good = signed(&root, message(&root, 1, "1"), "left", Role::Processor);
    let forged = forge(&root);

    let mut socket = Socket::open_as("left", sink.relay).await;
    socket.send_ok(&good).await;
    socket.message(&forged).await;
    let (code, why) = socket.closed().await;
    assert_eq!(code, 1008, "{why}");
    assert!(why.contains("trail refused"), "{why}");

    let mut stream = Stream::open_as("left", sink.relay).await.unwrap();
    stream.send((&forged).into()).await;
    let status = stream.ack().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");

    assert_eq!(metric(sink.http, &refused(reason)).await, 2.0);
    let stored = output(sink.http, "").await;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(stored[0].message.id, good.id);
}

/// `right` sends what `left` has, with the way over `left`, before `left` does.
#[tokio::test]
async fn no_branch_silences_another() {
    let root = Root::new();
    let sink = sink(&root).await;
    let made = message(&root, 1, "\"true\"");
    let mut false_one = made.clone();
    false_one.payload = Payload::of(&"false").unwrap();
    false_one.trail.push(hop("cluster-of-left"));
    false_one.trail[1].namespace = "test-ferry-left-ns".into();

    let mut right = Socket::open_as("right", sink.relay).await;
    right.message(&false_one).await;
    assert_eq!(right.closed().await.0, 1008);
    let mut left = Socket::open_as("left", sink.relay).await;
    left.send_ok(&signed(&root, made, "left", Role::Processor))
        .await;

    let stored = output(sink.http, "").await;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(stored[0].message.payload.as_str(), "\"true\"");
    let repeated = r#"ferry_messages_total{outcome="repeated"}"#;
    assert_eq!(metric(sink.http, repeated).await, 0.0);
}

#[tokio::test]
async fn connection_without_preamble_is_closed() {
    let root = Root::new();
    let (gateway, sink) = gateway_and_sink(&root, Protocol::Grpc).await;
    let stranger = tokio_tungstenite::connect_async(format!("ws://{}/v1/carry", sink.relay));
    assert!(stranger.await.is_err());
    trigger(gateway.http, "", "1").await;
    assert_eq!(metric(gateway.http, DELIVERED).await, 1.0);
}

#[tokio::test]
async fn replaced_roots_are_taken() {
    let (old, new) = (Root::new(), Root::new());
    let sink = sink(&old).await;
    let mut socket = Socket::open(sink.relay).await;
    socket.send_ok(&message(&old, 1, "1")).await;
    // Both, as during a rotation, then the new one alone.
    Root::trust(&[&old, &new], sink.identity_dir());
    socket.send_ok(&message(&new, 2, "2")).await;
    socket.send_ok(&message(&old, 3, "3")).await;
    Root::trust(&[&new], sink.identity_dir());
    eventually("a sink that refuses the old root", async || {
        let mut socket = Socket::open(sink.relay).await;
        socket.message(&message(&old, 4, "4")).await;
        socket.answer().await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn pod_without_roots_is_not_ready() {
    let root = Root::new();
    let sink = Spec::without_identity(Role::Sink, "sink");
    root.issue(
        &sink.config.name,
        &sink.config.identity_dir,
        Duration::from_secs(600),
    );
    let sink = sink.start().await;
    let (_, ready) = get(sink.http, "/ready").await;
    assert!(ready.contains("the trusted roots"), "{ready}");
    Root::trust(&[&root], sink.identity_dir());
    sink.ready().await;
}
