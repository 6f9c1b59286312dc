//! A peer with the gateway's own identity that does not keep to the protocol.

use e2e::testing::{Ferry, Metric, with_environment};
use messages::limits::{MAX_FRAME_BYTES, MAX_PAYLOAD_DEPTH};
use rstest::rstest;
use uuid::Uuid;

use super::{
    attack::{Attack, Sign, attack, withstand},
    door::Door,
    speech::{
        BINARY, PING, Socket, TEXT, call, field, frame, frame_head, grpc_frame, grpc_frame_of,
    },
    strangers::gateways,
};

pub(crate) const TEST: &str =
    "e2e/tests/it/attackers/peers.rs::protocol_violation_is_refused_with_reason";

const PROTOCOL: &str = "the sink's app: the protocol";
const LIMITS: &str = "the sink's app: limits on messages";
const BROKE: Sign = Sign::App("a sender broke the protocol");
const REJECTED: Sign =
    Sign::RisesInApp(Metric::named("ferry_messages_total").with(&[("outcome", "rejected")]));

const TRAIL: &str = "the sink's app: verification of trails";
const REFUSED: Sign = Sign::RisesInApp(Metric::named("ferry_trails_refused_total"));
const UNTAKEN: Sign = Sign::App("a trail was refused, its session ended");

const CARRY: &str = "/ferry.v1.Relay/Carry";

const MILLION: usize = 1_000_000;

/// A hop that can be read.
const HOP: &str = r#"{"pod":"p","role":"processor","cluster":"c","namespace":"n","node":"x","at":"2026-01-01T00:00:00.000000Z","signature":""}"#;

pub(crate) const ATTACKS: &[Attack] = &[
    attack!(
        "garbage (WebSocket)",
        PROTOCOL,
        [BROKE, Sign::Told("closed with 1007: frame cannot be read")],
        async |ferry| { socket(&ferry, frame(TEXT, b"}{ garbage")).await }
    ),
    attack!(
        "a binary frame (WebSocket)",
        PROTOCOL,
        [
            BROKE,
            Sign::Told("closed with 1008: binary frames carry nothing"),
        ],
        async |ferry| { socket(&ferry, frame(BINARY, &[0xff; 64])).await }
    ),
    attack!(
        "a frame that says it has 4 EiB (WebSocket)",
        LIMITS,
        [BROKE, Sign::Told("closed with 1009")],
        async |ferry| { socket(&ferry, frame_head(TEXT, 1 << 62)).await }
    ),
    attack!(
        "a trail of a million hops, all empty (WebSocket)",
        LIMITS,
        [REJECTED, Sign::Told("cannot be read: missing field")],
        async |ferry| {
            let text = message(&ferry, "1", &vec!["{}"; MILLION].join(","));
            socket(&ferry, frame(TEXT, text.as_bytes())).await
        }
    ),
    attack!(
        "a trail of 50,000 whole hops (WebSocket)",
        LIMITS,
        [
            REJECTED,
            Sign::Told("trail of more than 32 hops is over the limit"),
        ],
        async |ferry| {
            let text = message(&ferry, "1", &vec![HOP; 50_000].join(","));
            socket(&ferry, frame(TEXT, text.as_bytes())).await
        }
    ),
    attack!(
        "JSON half a million levels deep (WebSocket)",
        LIMITS,
        [
            REJECTED,
            Sign::Told("nested arrays and objects is over the limit"),
        ],
        async |ferry| {
            let text = message(&ferry, &deep(500_000), "");
            socket(&ferry, frame(TEXT, text.as_bytes())).await
        }
    ),
    attack!(
        "a flood of 100,000 control frames (WebSocket)",
        PROTOCOL,
        [
            BROKE,
            Sign::App("more than 256 control frames without a message"),
        ],
        async |ferry| { socket(&ferry, frame(PING, &[7; 125]).repeat(100_000)).await }
    ),
    attack!(
        "garbage (gRPC)",
        PROTOCOL,
        [BROKE, Sign::Told("grpc-status 3: ")],
        async |ferry| { grpc(&ferry, grpc_frame(&[0xff; 64])).await }
    ),
    attack!(
        "a protobuf message of another kind (gRPC)",
        PROTOCOL,
        [BROKE, Sign::Told("grpc-status 3: ")],
        async |ferry| {
            // Right fields, none of which has what belongs there.
            let other: Vec<_> = (1..=5).flat_map(|number| field(number, b"other")).collect();
            grpc(&ferry, grpc_frame(&other)).await
        }
    ),
    attack!(
        "a frame that says it has 4 GiB (gRPC)",
        LIMITS,
        [BROKE, Sign::Told("grpc-status 8: ")],
        async |ferry| { grpc(&ferry, grpc_frame_of(u64::from(u32::MAX), &[0; 64])).await }
    ),
    attack!(
        "a trail of a million hops, all empty (gRPC)",
        LIMITS,
        [REJECTED, Sign::Told("cannot be read: trail[0]")],
        async |ferry| {
            let hops = field(5, b"").repeat(MILLION);
            let content = [protobuf(&ferry, "1"), hops].concat();
            grpc(&ferry, grpc_frame(&content)).await
        }
    ),
    attack!(
        "JSON half a million levels deep (gRPC)",
        LIMITS,
        [
            REJECTED,
            Sign::Told("nested arrays and objects is over the limit"),
        ],
        async |ferry| {
            let content = protobuf(&ferry, &deep(500_000));
            grpc(&ferry, grpc_frame(&content)).await
        }
    ),
    attack!(
        "a hop that its pod has not signed (WebSocket)",
        TRAIL,
        [
            REFUSED,
            UNTAKEN,
            Sign::Told("closed with 1008: trail refused: trail[0]"),
        ],
        async |ferry| {
            let text = message(&ferry, "1", HOP);
            socket(&ferry, frame(TEXT, text.as_bytes())).await
        }
    ),
    attack!(
        "a message without a trail (gRPC)",
        TRAIL,
        // The log has at most one such line a second, and the attack before may have had it.
        [REFUSED, Sign::Told("grpc-status 7: ")],
        async |ferry| {
            let content = protobuf(&ferry, "1");
            grpc(&ferry, grpc_frame(&content)).await
        }
    ),
    attack!(
        "a method that is not there (gRPC)",
        PROTOCOL,
        [Sign::Told("grpc-status 12: ")],
        async |ferry| {
            let (door, leaf) = (Door::of_sink(&ferry)?, gateways(&ferry)?);
            let called = call(&door, &leaf, "/ferry.v1.Relay/Drop", grpc_frame(&[])).await?;
            Ok(called.told())
        }
    ),
];

async fn socket(ferry: &Ferry, bytes: Vec<u8>) -> anyhow::Result<String> {
    let door = Door::of_sink(ferry)?;
    let socket = Socket::open(&door, &gateways(ferry)?).await?;
    socket.say(bytes).await
}

async fn grpc(ferry: &Ferry, body: Vec<u8>) -> anyhow::Result<String> {
    let door = Door::of_sink(ferry)?;
    let called = call(&door, &gateways(ferry)?, CARRY, body).await?;
    Ok(called.told())
}

fn deep(levels: usize) -> String {
    assert!(levels > MAX_PAYLOAD_DEPTH);
    "[".repeat(levels) + &"]".repeat(levels)
}

/// A message as a text frame carries it.
fn message(ferry: &Ferry, payload: &str, trail: &str) -> String {
    let (id, blueprint) = (Uuid::now_v7(), ferry.blueprint());
    let text = format!(
        r#"{{"type":"message","id":"{id}","blueprint":"{blueprint}","seq":1,"payload":{payload},"trail":[{trail}]}}"#
    );
    assert!(
        text.len() < MAX_FRAME_BYTES,
        "the frame itself must be taken"
    );
    text
}

/// The same without a trail, as protobuf.
fn protobuf(ferry: &Ferry, payload: &str) -> Vec<u8> {
    [
        field(1, Uuid::now_v7().to_string().as_bytes()),
        field(2, ferry.blueprint().as_bytes()),
        vec![3 << 3, 1],
        field(4, payload.as_bytes()),
    ]
    .concat()
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn protocol_violation_is_refused_with_reason(#[case] blueprint: &str) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        withstand(&ferry, ATTACKS).await
    })
    .await
}
