//! Whole chains: messages arrive once, in order, with trails that prove their way.

use std::{collections::BTreeMap, time::Duration};

use messages::{
    Ack, Message, Outcome,
    Protocol::{self, Grpc, Websocket},
    Role,
    signature::verify_trail,
};
use node::{Headers, Hooks, Payload, Refusal};
use rstest::rstest;

use crate::support::{
    eventually,
    http::{self, DELIVERED, REJECTED, metric, output, trigger, trigger_as},
    mint::Root,
    pod::{Pass, Spec, gateway_and_sink, sink, upstream},
};

/// The pods that a trail names, after its signatures were checked.
#[track_caller]
fn route(root: &Root, message: &Message) -> Vec<String> {
    let names = verify_trail(message.id, &message.trail, &root.certificates()).unwrap();
    names.iter().map(|name| name.pod().to_owned()).collect()
}

#[track_caller]
fn assert_delivered(acks: &[Ack], count: usize) {
    assert_eq!(acks.len(), count);
    for ack in acks {
        assert_eq!(ack.outcome, Outcome::Delivered, "{ack:?}");
    }
}

#[rstest]
#[tokio::test]
async fn auto_trigger_messages_are_stored(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut gateway = Spec::new(&root, Role::Gateway).to("sink", protocol, sink.relay);
    gateway.config.auto_trigger = 5;
    let gateway = gateway.start().await;
    let stored = eventually("five records", async || {
        Some(output(sink.http, "").await).filter(|stored| stored.len() >= 5)
    })
    .await;
    let seen: Vec<_> = stored
        .iter()
        .map(|one| (one.index, one.message.seq))
        .collect();
    assert_eq!(seen, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
    for (number, one) in (1..).zip(&stored) {
        let expected = format!(r#"{{"text":"message {number} of 5 from gateway-6d4f5c-x2k4p"}}"#);
        assert_eq!(one.message.payload.as_str(), expected);
        assert_eq!(route(&root, &one.message), ["gateway", "sink"]);
        assert!(one.message.trail[1].at <= one.stored_at, "{one:?}");
    }
    eventually("five counted as delivered", async || {
        (metric(gateway.http, DELIVERED).await == 5.0).then_some(())
    })
    .await;
}

#[rstest]
#[case::websocket(Websocket, Websocket)]
#[case::grpc(Grpc, Grpc)]
#[case::mixed(Grpc, Websocket)]
#[tokio::test]
async fn processor_relays_both_ways(#[case] first: Protocol, #[case] second: Protocol) {
    let root = Root::new();
    let sink = sink(&root).await;
    let processor = upstream(&root, Role::Processor, second, &sink).await;
    let gateway = upstream(&root, Role::Gateway, first, &processor).await;
    let acks = trigger(gateway.http, "?count=5", r#"{"n": 1.0e3, "ä": [null]}"#).await;
    assert_delivered(&acks, 5);
    let stored = output(sink.http, "").await;
    assert_eq!(stored.len(), 5);
    for (ack, one) in acks.iter().zip(&stored) {
        assert_eq!(route(&root, &one.message), ["gateway", "processor", "sink"]);
        assert_eq!(one.message.payload.as_str(), r#"{"n": 1.0e3, "ä": [null]}"#);
        assert_eq!((ack.id, &ack.trail), (one.message.id, &one.message.trail));
    }
}

#[rstest]
#[tokio::test]
async fn joined_branches_store_every_path(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut branches = Vec::new();
    for pod in ["left", "right"] {
        let spec = Spec::named(&root, Role::Processor, pod).to("sink", protocol, sink.relay);
        branches.push(spec.start().await.ready().await);
    }
    // A third processor joins both, so that one connection carries one id twice.
    let join = Spec::named(&root, Role::Processor, "join").to("sink", protocol, sink.relay);
    let join = join.start().await.ready().await;
    let mut upper = Vec::new();
    for pod in ["north", "south"] {
        let spec = Spec::named(&root, Role::Processor, pod).to("join", protocol, join.relay);
        upper.push(spec.start().await.ready().await);
    }
    let gateway = Spec::new(&root, Role::Gateway)
        .to("left", protocol, branches[0].relay)
        .to("right", protocol, branches[1].relay)
        .to("north", protocol, upper[0].relay)
        .to("south", protocol, upper[1].relay);
    let gateway = gateway.start().await.ready().await;
    let acks = trigger(gateway.http, "?count=20", "7").await;
    assert_delivered(&acks, 80);
    let mut routes = BTreeMap::<_, usize>::new();
    for one in output(sink.http, "").await {
        *routes
            .entry(route(&root, &one.message).join(" "))
            .or_default() += 1;
    }
    let expected = [
        "gateway left sink",
        "gateway north join sink",
        "gateway right sink",
        "gateway south join sink",
    ];
    assert_eq!(routes, expected.map(|route| (route.to_owned(), 20)).into());
    // Four lines a message, in the order of the connections.
    for (ack, pod) in acks
        .iter()
        .zip(["left", "right", "north", "south"].iter().cycle())
    {
        assert_eq!(ack.trail[1].cluster, format!("cluster-of-{pod}"));
    }
}

#[rstest]
#[tokio::test]
async fn small_window_keeps_order_and_count(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let mut sink = Spec::new(&root, Role::Sink);
    sink.config.window = 3;
    let sink = sink.start().await.ready().await;
    let mut gateway = Spec::new(&root, Role::Gateway).to("sink", protocol, sink.relay);
    gateway.config.window = 7;
    let gateway = gateway.start().await.ready().await;
    let lines: String = (1..=300)
        .map(|number| format!("{{\"n\":{number}}}\n"))
        .collect();
    let acks = trigger_as(gateway.http, "", "application/x-ndjson", &lines).await;
    assert_delivered(&acks, 300);
    let stored = output(sink.http, "").await;
    let payloads: Vec<_> = stored
        .iter()
        .map(|one| one.message.payload.as_str())
        .collect();
    assert_eq!(payloads, lines.lines().collect::<Vec<_>>());
    let page: Vec<_> = output(sink.http, "?after=298&limit=1")
        .await
        .iter()
        .map(|one| one.index)
        .collect();
    assert_eq!(page, [299]);
    assert_eq!(metric(gateway.http, "ferry_in_flight").await, 0.0);
}

#[tokio::test]
async fn sink_keeps_records_over_a_restart() {
    let root = Root::new();
    let (gateway, sink) = gateway_and_sink(&root, Websocket).await;
    assert_delivered(&trigger(gateway.http, "?count=3", "1").await, 3);
    let sink = sink.restart().await.ready().await;
    assert_delivered(&trigger(gateway.http, "?count=2", "2").await, 2);
    let stored: Vec<_> = output(sink.http, "")
        .await
        .iter()
        .map(|one| one.index)
        .collect();
    assert_eq!(stored, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn multiline_payload_is_one_output_line() {
    let root = Root::new();
    let (gateway, sink) = gateway_and_sink(&root, Grpc).await;
    assert_delivered(&trigger(gateway.http, "", "{\n  \"a\":\r\n 1\n}").await, 1);
    let stored = output(sink.http, "").await;
    assert_eq!(stored.len(), 1);
    let value: serde_json::Value = stored[0].message.payload.parse().unwrap();
    assert_eq!(value, serde_json::json!({"a": 1}));
}

/// Appends its name to the payload; refuses or panics if the payload asks for it.
struct Stamps(&'static str);

impl Stamps {
    fn stamp(&self, payload: &Payload, with: &str) -> Result<Payload, Refusal> {
        let mut text: String = payload.parse()?;
        if text.contains(&format!("refuse in {}", self.0)) {
            return Err(Refusal::because(format!("{} does not like it", self.0)));
        }
        assert!(!text.contains(&format!("panic in {}", self.0)), "as asked");
        text.push_str(&format!(" {}{with}", self.0));
        Ok(Payload::of(&text)?)
    }
}

impl Hooks for Stamps {
    async fn on_trigger(&self, payload: Payload, headers: &Headers) -> Result<Payload, Refusal> {
        assert_eq!(
            headers.get("authorization"),
            None,
            "hooks must not see the token"
        );
        self.stamp(&payload, headers.get("X-Mark").unwrap_or_default())
    }

    async fn on_receive_relay(&self, payload: Payload) -> Result<Payload, Refusal> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.stamp(&payload, "")
    }

    async fn on_receive_terminator(&self, payload: Payload) -> Result<(), Refusal> {
        self.stamp(&payload, "").map(drop)
    }
}

#[tokio::test]
async fn hooks_change_and_refuse_only_messages() {
    let root = Root::new();
    let sink = Spec::new(&root, Role::Sink)
        .start_with(Stamps("sink"))
        .await
        .ready()
        .await;
    let processor = Spec::new(&root, Role::Processor).to("sink", Grpc, sink.relay);
    let processor = processor
        .start_with(Stamps("processor"))
        .await
        .ready()
        .await;
    let gateway = Spec::new(&root, Role::Gateway).to("processor", Websocket, processor.relay);
    let gateway = gateway.start_with(Stamps("gateway")).await.ready().await;
    let lines = [
        "\"a\"",
        "\"refuse in gateway\"",
        "\"refuse in processor\"",
        "\"refuse in sink\"",
        "\"panic in gateway\"",
        "\"panic in processor\"",
        "\"panic in sink\"",
        "17",
        "\"z\"",
    ];
    let request = http::request("POST", "/trigger")
        .header("content-type", "application/x-ndjson")
        .header("x-mark", "!")
        .body(lines.join("\n").into())
        .unwrap();
    let (_, answer) = http::text(gateway.http, request).await;
    let reasons: Vec<_> = answer
        .lines()
        .map(
            |line| match serde_json::from_str::<Ack>(line).unwrap().outcome {
                Outcome::Delivered => "delivered".to_owned(),
                Outcome::Rejected { reason } => reason,
            },
        )
        .collect();
    let failed = "the pod's hook failed on this message";
    assert_eq!(reasons.len(), lines.len(), "{answer}");
    assert_eq!(reasons[0], "delivered");
    assert_eq!(reasons[1], "gateway does not like it");
    assert_eq!(reasons[2], "processor does not like it");
    assert_eq!(reasons[3], "sink does not like it");
    assert_eq!(reasons[4..7], [failed, failed, failed]);
    assert!(reasons[7].contains("payload"), "{}", reasons[7]);
    assert_eq!(reasons[8], "delivered");
    let stored = output(sink.http, "").await;
    let stored: Vec<_> = stored
        .iter()
        .map(|one| one.message.payload.as_str())
        .collect();
    assert_eq!(
        stored,
        ["\"a gateway! processor\"", "\"z gateway! processor\""]
    );
    let losses = r#"ferry_reconnects_total{downstream="processor",cause="loss"}"#;
    assert_eq!(metric(gateway.http, losses).await, 0.0);
    assert_eq!(metric(gateway.http, REJECTED).await, 7.0);
}

#[tokio::test]
async fn branches_are_answered_separately() {
    let root = Root::new();
    let left = Spec::named(&root, Role::Sink, "west")
        .start_with(Pass)
        .await
        .ready()
        .await;
    let right = Spec::named(&root, Role::Sink, "east")
        .start_with(Stamps("sink"))
        .await
        .ready()
        .await;
    let gateway = Spec::new(&root, Role::Gateway)
        .to("west", Websocket, left.relay)
        .to("east", Grpc, right.relay);
    let gateway = gateway.start().await.ready().await;
    let acks = trigger(gateway.http, "", "\"refuse in sink\"").await;
    assert_eq!(acks[0].outcome, Outcome::Delivered);
    assert_eq!(
        acks[1].outcome,
        Outcome::Rejected {
            reason: "sink does not like it".into()
        }
    );
    // To the gateway a message counts as delivered when every branch delivered it.
    assert_eq!(metric(gateway.http, DELIVERED).await, 0.0);
    assert_eq!(metric(gateway.http, REJECTED).await, 1.0);
}
