//! `/output` beyond what is kept, and readers of it.

use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use messages::{Protocol, Role};
use node::config::{Retention, WhenFull};

use crate::support::{
    eventually,
    http::{self, get, metric, output, request, text, trigger},
    mint::Root,
    pod::{Pod, Spec, upstream},
};

/// Returns a gateway and a sink that keeps three messages.
async fn pair(root: &Root, when_full: WhenFull) -> (Pod, Pod) {
    let mut spec = Spec::new(root, Role::Sink);
    spec.config.retention = Retention {
        messages: 3,
        when_full,
        ..Retention::default()
    };
    let sink = spec.start().await.ready().await;
    let gateway = upstream(root, Role::Gateway, Protocol::Grpc, &sink).await;
    (gateway, sink)
}

/// Returns the status, the oldest index by the header, and the text.
async fn answer(sink: &Pod, query: &str) -> (StatusCode, String, String) {
    let request = request("GET", &format!("/output{query}"));
    let answer = http::send(sink.http, request.body(Full::default()).unwrap()).await;
    let header = answer.headers().get("x-ferry-oldest-index");
    let oldest = header.map_or_else(String::new, |oldest| oldest.to_str().unwrap().to_owned());
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, oldest, String::from_utf8(body.to_vec()).unwrap())
}

async fn read(sink: &Pod, query: &str) -> (StatusCode, String) {
    let request = request("POST", &format!("/output/read{query}"));
    text(sink.http, request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn output_before_the_oldest_is_gone() {
    let root = Root::new();
    let (gateway, sink) = pair(&root, WhenFull::DropOldest).await;
    let (status, oldest, _) = answer(&sink, "").await;
    assert_eq!((status, oldest.as_str()), (StatusCode::OK, "1"));
    trigger(gateway.http, "?count=7", "1").await;
    let (status, oldest, text) = answer(&sink, "?after=3").await;
    assert_eq!((status, oldest.as_str()), (StatusCode::GONE, "5"));
    assert!(text.contains("after=4"), "{text}");
    for query in ["", "?after=0", "?after=4"] {
        let (status, oldest, text) = answer(&sink, query).await;
        assert_eq!((status, oldest.as_str()), (StatusCode::OK, "5"), "{query}");
        assert_eq!(text.lines().count(), 3, "{query}");
    }
    let dropped = r#"ferry_store_evictions_total{cause="messages"}"#;
    assert_eq!(metric(sink.http, dropped).await, 4.0);
}

#[tokio::test]
async fn full_sink_waits_for_its_reader() {
    let root = Root::new();
    let (gateway, sink) = pair(&root, WhenFull::Refuse).await;
    let sending = tokio::spawn(async move {
        let acks = trigger(gateway.http, "?count=5", "1").await;
        (gateway, acks)
    });
    eventually("a full sink", async || {
        let (status, text) = get(sink.http, "/ready").await;
        (status == StatusCode::SERVICE_UNAVAILABLE && text.contains("full")).then_some(())
    })
    .await;
    let (health, _) = get(sink.http, "/health").await;
    assert_eq!(health, StatusCode::OK);
    assert_eq!(output(sink.http, "").await.len(), 3);
    let (status, text) = read(&sink, "?reader=billing&through=3").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(text, r#"{"reader":"billing","through":3}"#);
    let (_gateway, acks) = sending.await.unwrap();
    assert_eq!(acks.len(), 5);
    let last: Vec<_> = output(sink.http, "").await;
    assert_eq!(last.last().unwrap().index, 5);
    assert!(last.len() <= 3);
}

#[tokio::test]
async fn wrong_reading_is_refused_with_the_cause() {
    let root = Root::new();
    let (_gateway, sink) = pair(&root, WhenFull::DropOldest).await;
    for (query, cause) in [
        ("", "reader"),
        ("?reader=a", "through"),
        ("?reader=a&through=-1", "through"),
        ("?reader=a&through=1", "the last message is 0"),
        ("?reader=A%20b&through=0", "lower-case"),
    ] {
        let (status, text) = read(&sink, query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(text.contains(cause), "{query}: {text}");
    }
    let request = hyper::Request::post("/output/read?reader=a&through=0");
    let (status, _) = text(sink.http, request.body(Full::default()).unwrap()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
