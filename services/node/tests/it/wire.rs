//! The protocols as a client in another language sees them: limits, answers, ends of connections.

use std::time::Duration;

use futures_util::SinkExt as _;
use messages::{
    Outcome,
    Protocol::{self, Grpc, Websocket},
    Role, Timestamp,
    limits::{MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, MAX_TRAIL_HOPS},
    proto::v1,
};
use rstest::rstest;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tonic::Code;

use crate::support::{
    door::door,
    http::{LOSSES, metric, output, trigger},
    mint::Root,
    pod::{Spec, gateway_and_sink, name, sink},
    raw::{Socket, Stream, handshake, hop, message, payload_of, signed, signed_at},
};

#[track_caller]
fn assert_rejected(outcome: &Outcome, expected: &str) {
    match outcome {
        Outcome::Rejected { reason } if reason.contains(expected) => {}
        other => panic!("must be rejected for `{expected}`, not {other:?}"),
    }
}

#[tokio::test]
async fn rejection_keeps_the_websocket() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;

    let large = message(&root, 1, &payload_of(MAX_PAYLOAD_BYTES + 1));
    assert_rejected(
        &socket.ask(&large).await.outcome,
        "payload of 1048577 bytes",
    );
    let largest = message(&root, 2, &payload_of(MAX_PAYLOAD_BYTES));
    socket.send_ok(&largest).await;

    let mut long = message(&root, 3, "1");
    long.trail = vec![hop("c"); MAX_TRAIL_HOPS + 1];
    assert_rejected(&socket.ask(&long).await.outcome, "trail");

    let mut foreign = message(&root, 4, "1");
    foreign.blueprint = "another-ferry".into();
    assert_rejected(&socket.ask(&foreign).await.outcome, "`another-ferry`");

    // A hop before may be of a clock that is far off. No message is lost by it; auditors of trails
    // decide.
    for at in ["2099-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"] {
        let mut strange = message(&root, 5, "1");
        strange.trail.clear();
        let time = at.parse().unwrap();
        let strange = signed_at(&root, strange, "gateway", Role::Gateway, time);
        let ack = socket.ask(&strange).await;
        assert_eq!(ack.outcome, Outcome::Delivered, "{at}");
        let (own, now) = (ack.trail.last().unwrap().at, Timestamp::now());
        let apart = own.as_jiff().duration_since(now.as_jiff()).abs();
        assert!(apart.as_secs() < 3600, "the sink's own time, not {own}");
    }

    // The frame is not a message, but its id can be read.
    let half = message(&root, 6, "1");
    socket
        .send(Frame::text(format!(
            r#"{{"type":"message","id":"{}","seq":"six"}}"#,
            half.id
        )))
        .await;
    let ack = socket.ack().await;
    assert_eq!(ack.id, half.id);
    assert_rejected(&ack.outcome, "cannot be read");

    socket.send_ok(&message(&root, 7, "7")).await;
    let stored: Vec<_> = output(sink.http, "")
        .await
        .iter()
        .map(|one| one.message.seq)
        .collect();
    assert_eq!(stored, [2, 5, 5, 7]);
}

#[tokio::test]
async fn rejection_keeps_the_grpc_stream() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut stream = Stream::open(sink.relay).await.unwrap();

    let large = message(&root, 1, &payload_of(MAX_PAYLOAD_BYTES + 1));
    assert_rejected(
        &stream.ask(&large).await.outcome,
        "payload of 1048577 bytes",
    );
    let largest = message(&root, 2, &payload_of(MAX_PAYLOAD_BYTES));
    stream.send_ok(&largest).await;

    let mut bad = v1::Message::from(&message(&root, 3, "1"));
    bad.payload = "{".into();
    stream.send(bad).await;
    let ack = stream.ack().await.unwrap().unwrap();
    assert_rejected(&ack.outcome, "not JSON");

    let last = message(&root, 4, "4");
    stream.send((&last).into()).await;
    let acks = stream.finish().await;
    assert_eq!(
        acks.len(),
        1,
        "half-closed, the stream still answers: {acks:?}"
    );
    assert_eq!(acks[0].id, last.id);
}

#[rstest]
#[case::not_json(Frame::text("hello"), 1007)]
#[case::no_frame(Frame::text(r#"{"type":"parcel"}"#), 1007)]
#[case::no_id(Frame::text(r#"{"type":"message","seq":1}"#), 1007)]
#[case::an_ack(
    Frame::text(concat!(
        r#"{"type":"ack","id":"01936b5f-8f2c-7000-8000-000000000000","#,
        r#""outcome":"delivered","trail":[]}"#
    )),
    1008
)]
#[case::binary(Frame::binary(vec![1, 2, 3]), 1008)]
#[tokio::test]
async fn garbage_closes_websocket_after_the_acks(#[case] garbage: Frame, #[case] code: u16) {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;
    let good = message(&root, 1, "1");
    socket.message(&good).await;
    socket.send(garbage).await;
    assert_eq!(
        socket.ack().await.id,
        good.id,
        "what came before is answered"
    );
    let (seen, reason) = socket.closed().await;
    assert_eq!(seen, code, "{reason}");
    assert!(!reason.is_empty());
    // The pod itself is none the worse.
    Socket::open(sink.relay)
        .await
        .send_ok(&message(&root, 2, "2"))
        .await;
}

#[tokio::test]
async fn oversized_websocket_frame_closes_its_session() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;
    // In pieces, so that each is within the limit and the whole is not: the pod reads what it
    // refuses.
    socket.fragments(&"x".repeat(MAX_FRAME_BYTES / 2), 3).await;
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1009, "{reason}");
    // In one piece the pod does not read it, so the sender may see a reset before the close frame.
    let mut socket = Socket::open(sink.relay).await;
    let _ = socket
        .0
        .send(Frame::text("x".repeat(MAX_FRAME_BYTES + 1)))
        .await;
    let mut healthy = Socket::open(sink.relay).await;
    healthy.send_ok(&message(&root, 1, "1")).await;
}

#[tokio::test]
async fn control_frame_flood_closes_its_session() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;
    // As many as are allowed, twice: a message between them resets the count.
    for seq in 1..=2 {
        for _ in 0..256 {
            socket.send(Frame::Ping(Default::default())).await;
        }
        let one = message(&root, seq, "1");
        socket.send_ok(&one).await;
    }
    for _ in 0..257 {
        socket.send(Frame::Pong(Default::default())).await;
    }
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1008, "{reason}");
    assert!(reason.contains("control frames"), "{reason}");
    let mut healthy = Socket::open(sink.relay).await;
    let next = healthy.ask(&message(&root, 3, "3")).await;
    assert_eq!(next.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn too_deep_payload_is_rejected() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let deep = message(&root, 1, &nested(MAX_PAYLOAD_DEPTH + 1));
    assert_rejected(&socket.ask(&deep).await.outcome, "128 nested arrays");
    let deepest = message(&root, 2, &nested(MAX_PAYLOAD_DEPTH));
    socket.send_ok(&deepest).await;
}

#[tokio::test]
async fn grpc_message_without_id_ends_the_stream() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut stream = Stream::open(sink.relay).await.unwrap();
    let good = message(&root, 1, "1");
    stream.send_ok(&good).await;
    stream.send(v1::Message::default()).await;
    let status = stream.ack().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn oversized_grpc_frame_exhausts_resources() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut stream = Stream::open(sink.relay).await.unwrap();
    stream
        .send((&message(&root, 1, &payload_of(MAX_FRAME_BYTES + 1))).into())
        .await;
    let status = stream.ack().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[rstest]
#[case::none(None)]
#[case::another(Some("ferry.v9"))]
#[tokio::test]
async fn websocket_needs_the_subprotocol(#[case] subprotocol: Option<&'static str>) {
    let root = Root::new();
    let sink = sink(&root).await;
    match handshake(sink.relay, subprotocol).await {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status().as_u16(), 400);
            let body = String::from_utf8(response.into_body().unwrap()).unwrap();
            assert!(body.contains("ferry.v1"), "{body}");
        }
        other => panic!("must be refused, not {:?}", other.map(|_| "opened")),
    }
}

#[tokio::test]
async fn repeat_is_stored_once_and_acked_again() {
    let root = Root::new();
    let sink = sink(&root).await;
    let made = message(&root, 1, "1");
    let over = |pod| signed(&root, made.clone(), pod, Role::Processor);
    let mut socket = Socket::open_as("left", sink.relay).await;
    let mut stream = Stream::open_as("left", sink.relay).await.unwrap();
    socket.send_ok(&over("left")).await;
    // The same pod at another time and with another identity is still the same path.
    stream.send_ok(&over("left")).await;
    let mut other_path = Socket::open_as("right", sink.relay).await;
    other_path.send_ok(&over("right")).await;
    assert_eq!(output(sink.http, "").await.len(), 2);
    assert_eq!(
        metric(sink.http, r#"ferry_messages_total{outcome="repeated"}"#).await,
        1.0
    );
}

#[tokio::test]
async fn sink_reads_no_further_than_its_window() {
    let root = Root::new();
    let mut spec = Spec::new(&root, Role::Sink);
    spec.config.window = 4;
    let (started, held) = tokio::sync::watch::channel(0_usize);
    let sink = spec.start_with(Holds(started)).await.ready().await;
    let mut socket = Socket::open(sink.relay).await;
    for seq in 1..=20 {
        socket.message(&message(&root, seq, "1")).await;
    }
    // A hook is shown one message of a connection at a time; none is answered while the first is
    // held.
    let mut held = held;
    held.wait_for(|count| *count == 1).await.unwrap();
    assert_eq!(metric(sink.http, "ferry_in_flight").await, 1.0);
}

/// Holds the first message for ever.
struct Holds(tokio::sync::watch::Sender<usize>);

impl node::Hooks for Holds {
    async fn on_receive_terminator(&self, _: node::Payload) -> Result<(), node::Refusal> {
        self.0.send_modify(|count| *count += 1);
        std::future::pending().await
    }
}

#[rstest]
#[tokio::test]
async fn payload_limit_holds_over_a_chain(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let (gateway, _sink) = gateway_and_sink(&root, protocol).await;
    let large = trigger(gateway.http, "", &payload_of(MAX_PAYLOAD_BYTES + 1)).await;
    assert_rejected(&large[0].outcome, "1048577");
    let largest = trigger(gateway.http, "?count=70", &payload_of(MAX_PAYLOAD_BYTES)).await;
    assert_eq!(
        largest
            .iter()
            .filter(|ack| ack.outcome.is_delivered())
            .count(),
        70
    );
    assert_eq!(metric(gateway.http, LOSSES).await, 0.0);
}

#[tokio::test]
async fn grpc_health_and_reflection_know_the_relay() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let root = Root::new();
    let sink = sink(&root).await;
    let relay = door(sink.relay, &name("gateway"));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{relay}")).unwrap();
    let channel = endpoint
        .timeout(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "ferry.v1.Relay"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status.as_str_name(), "SERVING", "of `{service}`");
    }
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("reflection must list services: {answer:?}");
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in ["ferry.v1.Relay", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test]
async fn gateway_takes_no_messages() {
    let root = Root::new();
    let (gateway, _sink) = gateway_and_sink(&root, Grpc).await;
    let ack = Socket::open(gateway.relay)
        .await
        .ask(&message(&root, 1, "1"))
        .await;
    assert_rejected(&ack.outcome, "gateway");
}

#[tokio::test]
async fn websocket_close_is_answered() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut socket = Socket::open(sink.relay).await;
    socket.send_ok(&message(&root, 1, "1")).await;
    let code = tungstenite::protocol::frame::coding::CloseCode::Normal;
    let reason = "".into();
    let close = tungstenite::protocol::CloseFrame { code, reason };
    socket.send(Frame::Close(Some(close))).await;
    assert_eq!(socket.closed().await.0, 1000);
}
