//! Faults: cut connections, replaced pods, ended sessions, signals.

use std::{collections::HashSet, time::Duration};

use hyper::StatusCode;
use messages::{
    Outcome,
    Protocol::{self, Grpc, Websocket},
    Role,
};
use node::{Hooks, Payload, Refusal};
use rstest::rstest;
use tokio::sync::Semaphore;

use crate::support::{
    eventually,
    http::{self, LOSSES, get, metric, output, trigger},
    mint::Root,
    pod::{Pod, Spec, sink, upstream},
    proxy::Proxy,
    raw::{Socket, Stream, message},
};

async fn through_proxy(root: &Root, protocol: Protocol, sink: Spec) -> (Pod, Proxy, Pod) {
    let sink = sink.start().await.ready().await;
    let proxy = Proxy::to(sink.relay).await;
    let mut gateway = Spec::new(root, Role::Gateway).to("sink", protocol, proxy.address);
    gateway.config.window = 64;
    (gateway.start().await.ready().await, proxy, sink)
}

/// Each message once, in order.
async fn assert_stored(sink: &Pod, count: u64) {
    let stored: Vec<_> = output(sink.http, "")
        .await
        .iter()
        .map(|one| one.message.seq)
        .collect();
    assert_eq!(stored, (1..=count).collect::<Vec<_>>());
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_cuts_lose_nothing(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let (gateway, proxy, sink) = through_proxy(&root, protocol, Spec::new(&root, Role::Sink)).await;
    let (count, http) = (1500, gateway.http);
    let triggered =
        tokio::spawn(async move { trigger(http, &format!("?count={count}"), "1").await });
    for cut in 1..=4 {
        eventually("progress between two cuts", async || {
            let last = output(sink.http, &format!("?after={}", cut * 200)).await;
            (!last.is_empty()).then_some(())
        })
        .await;
        proxy.cut();
        // The next cut must find a session, however fast the sink stores.
        eventually("a new session after a cut", async || {
            let losses = metric(http, LOSSES).await;
            let ready = get(http, "/ready").await.0 == StatusCode::OK;
            (losses >= f64::from(cut) && ready).then_some(())
        })
        .await;
    }
    let acks = triggered.await.unwrap();
    assert_eq!(
        acks.iter().filter(|ack| ack.outcome.is_delivered()).count(),
        count
    );
    assert_stored(&sink, count as u64).await;
    assert!(metric(gateway.http, LOSSES).await >= 4.0);
}

#[rstest]
#[tokio::test]
async fn messages_wait_while_the_path_is_down(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let (gateway, proxy, sink) = through_proxy(&root, protocol, Spec::new(&root, Role::Sink)).await;
    proxy.close();
    eventually("a gateway that waits for its sink", async || {
        let (_, text) = get(gateway.http, "/ready").await;
        text.contains("an answer from `sink` through the tunnel (last: ")
            .then_some(())
    })
    .await;
    let http = gateway.http;
    // More than the window takes, from a client that goes away before anything is answered.
    let request = http::request("POST", "/trigger?count=100")
        .body("\"patience\"".to_owned().into())
        .unwrap();
    drop(http::send(http, request).await);
    assert!(output(sink.http, "").await.is_empty());
    proxy.open();
    eventually("all messages of the client that left", async || {
        (output(sink.http, "").await.len() == 100).then_some(())
    })
    .await;
    assert_stored(&sink, 100).await;
    gateway.ready().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_processor_loses_nothing(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let sink = sink(&root).await;
    let processor = upstream(&root, Role::Processor, protocol, &sink).await;
    let gateway = upstream(&root, Role::Gateway, protocol, &processor).await;
    let http = gateway.http;
    let triggered = tokio::spawn(async move { trigger(http, "?count=1000", "1").await });
    eventually("the first messages", async || {
        (!output(sink.http, "?after=100").await.is_empty()).then_some(())
    })
    .await;
    let processor = processor.restart().await;
    let acks = triggered.await.unwrap();
    assert_eq!(
        acks.iter().filter(|ack| ack.outcome.is_delivered()).count(),
        1000
    );
    assert_stored(&sink, 1000).await;
    drop(processor);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_under_load_loses_nothing(#[values(Websocket, Grpc)] protocol: Protocol) {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut gateway = Spec::new(&root, Role::Gateway).to("sink", protocol, sink.relay);
    gateway.config.session_lifetime = Duration::from_millis(100);
    let gateway = gateway.start().await.ready().await;
    let renewals = r#"ferry_reconnects_total{downstream="sink",cause="renewal"}"#;
    let mut count = 0;
    while metric(gateway.http, renewals).await < 3.0 {
        let acks = trigger(gateway.http, "?count=200", "1").await;
        assert!(acks.iter().all(|ack| ack.outcome.is_delivered()));
        count += 200;
    }
    assert_stored(&sink, count).await;
    for name in [LOSSES, r#"ferry_resends_total{downstream="sink"}"#] {
        assert_eq!(metric(gateway.http, name).await, 0.0, "{name}");
    }
    let (_, ready) = get(gateway.http, "/ready").await;
    assert!(
        ready.contains("true"),
        "a renewal is no reason to be not ready: {ready}"
    );
}

/// Holds messages until it is allowed to go on.
struct Holds(&'static Semaphore);

impl Hooks for Holds {
    async fn on_receive_terminator(&self, _: Payload) -> Result<(), Refusal> {
        self.0.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test]
async fn draining_pod_answers_and_takes_nothing_new() {
    static GO: Semaphore = Semaphore::const_new(0);
    let root = Root::new();
    let mut sink = Spec::new(&root, Role::Sink)
        .start_with(Holds(&GO))
        .await
        .ready()
        .await;
    let mut socket = Socket::open(sink.relay).await;
    let mut stream = Stream::open(sink.relay).await.unwrap();
    let (one, two) = (message(&root, 1, "1"), message(&root, 2, "2"));
    socket.message(&one).await;
    stream.send((&two).into()).await;
    sink.in_flight(2.0).await;
    sink.stop();
    eventually("a pod that says it ends", async || {
        get(sink.http, "/ready")
            .await
            .1
            .contains("this one is ending")
            .then_some(())
    })
    .await;
    // Not taken any more: it stays with its sender.
    socket.message(&message(&root, 3, "3")).await;
    GO.add_permits(2);
    let ack = socket.ack().await;
    assert_eq!((ack.id, ack.outcome), (one.id, Outcome::Delivered));
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1001, "{reason}");
    assert_eq!(stream.ack().await.unwrap().unwrap().id, two.id);
    assert_eq!(
        stream.ack().await.unwrap_err().code(),
        tonic::Code::Unavailable
    );
    sink.ended().await;
}

#[tokio::test]
async fn stuck_pod_ends_within_its_limit() {
    static NEVER: Semaphore = Semaphore::const_new(0);
    let root = Root::new();
    let mut spec = Spec::new(&root, Role::Sink);
    spec.config.drain_limit = Duration::from_millis(200);
    let mut sink = spec.start_with(Holds(&NEVER)).await.ready().await;
    let mut socket = Socket::open(sink.relay).await;
    socket.message(&message(&root, 1, "1")).await;
    sink.in_flight(1.0).await;
    sink.stop();
    sink.ended().await;
}

#[tokio::test]
async fn ending_gateway_finishes_its_trigger() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut gateway = Spec::new(&root, Role::Gateway).to("sink", Grpc, sink.relay);
    gateway.config.window = 2;
    let mut gateway = gateway.start().await.ready().await;
    let request = http::request("POST", "/trigger?count=200")
        .body("1".to_owned().into())
        .unwrap();
    let response = http::send(gateway.http, request).await;
    gateway.stop();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    let lines = String::from_utf8(body.to_vec()).unwrap();
    let delivered = lines
        .lines()
        .filter(|line| line.contains("delivered"))
        .count();
    assert_eq!(delivered, 200, "{lines}");
    gateway.ended().await;
    assert_stored(&sink, 200).await;
}

#[tokio::test]
async fn two_gateways_share_a_sink() {
    let root = Root::new();
    let sink = sink(&root).await;
    let mut ids = HashSet::new();
    let mut gateways = Vec::new();
    for (pod, protocol) in [("one", Websocket), ("two", Grpc)] {
        let gateway = Spec::named(&root, Role::Gateway, pod).to("sink", protocol, sink.relay);
        gateways.push(gateway.start().await.ready().await);
    }
    let (one, two) = tokio::join!(
        trigger(gateways[0].http, "?count=50", "1"),
        trigger(gateways[1].http, "?count=50", "2"),
    );
    ids.extend(one.iter().chain(&two).map(|ack| ack.id));
    assert_eq!(ids.len(), 100);
    let stored: HashSet<_> = output(sink.http, "")
        .await
        .iter()
        .map(|one| one.message.id)
        .collect();
    assert_eq!(stored, ids);
}
