//! The HTTP side: authorisation, and answers to wrong requests.

use hyper::{StatusCode, header};
use messages::{Protocol, Role};
use rstest::rstest;
use settings::logging::Format;

use crate::support::{
    http::{self, get, output, request, text},
    log::Log,
    mint::Root,
    pod::{Pod, Spec, TOKEN, gateway_and_sink},
};

async fn pair(root: &Root) -> (Pod, Pod) {
    gateway_and_sink(root, Protocol::Websocket).await
}

#[rstest]
#[case::absent(None)]
#[case::wrong(Some("Bearer wrong-token-of-a-length".into()))]
#[case::shorter(Some(format!("Bearer {}", &TOKEN[1..])))]
#[case::other_scheme(Some(format!("Basic {TOKEN}")))]
#[case::bare(Some(TOKEN.into()))]
#[tokio::test]
async fn requests_without_token_learn_nothing(#[case] authorization: Option<String>) {
    let root = Root::new();
    let (gateway, sink) = pair(&root).await;
    for (pod, method, path) in [(&gateway, "POST", "/trigger"), (&sink, "GET", "/output")] {
        let mut request = hyper::Request::builder().method(method).uri(path);
        if let Some(value) = &authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let (status, body) = text(pod.http, request.body("x".into()).unwrap()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(body, "");
    }
    assert!(
        output(sink.http, "").await.is_empty(),
        "nothing may have been sent"
    );
}

#[tokio::test]
async fn guesses_are_limited_token_holder_is_not() {
    let root = Root::new();
    let log = Log::default();
    let _listening = log.listen(Format::Json, "trace");
    let (_gateway, sink) = pair(&root).await;
    let guess = async || {
        let request = hyper::Request::builder()
            .uri("/output")
            .header(header::AUTHORIZATION, "Bearer a-guess-of-an-attacker")
            .body(String::new().into())
            .unwrap();
        http::send(sink.http, request).await
    };
    // The burst of the limit, and one a second while this takes.
    let mut refused = 0;
    let limited = loop {
        let answer = guess().await;
        match answer.status() {
            StatusCode::UNAUTHORIZED => refused += 1,
            _ => break answer,
        }
    };
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()[header::RETRY_AFTER], "1");
    assert!(
        refused >= 10,
        "a few mistakes must be answered 401: {refused}"
    );
    for _ in 0..20 {
        assert_eq!(
            get(sink.http, "/output").await.0,
            StatusCode::OK,
            "the right token must pass while guesses are limited"
        );
    }

    let (_, metrics) = get(sink.http, "/metrics").await;
    assert!(
        metrics.contains(r#"ferry_pinhole_refusals_total{answer="limited"} 1"#),
        "{metrics}"
    );
    let log = log.text();
    assert_eq!(
        log.matches("without the token").count(),
        refused,
        "each 401 is in the log, and nothing above the limit: {log}"
    );
    for secret in [TOKEN, "a-guess-of-an-attacker"] {
        assert!(!log.contains(secret), "no token may be in the log: {log}");
    }
}

#[tokio::test]
async fn pod_without_token_has_no_pinhole() {
    let root = Root::new();
    let mut sink = Spec::new(&root, Role::Sink);
    sink.config.token = None;
    let sink = sink.start().await.ready().await;
    assert_eq!(get(sink.http, "/output").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(sink.http, "/trigger").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pod_has_only_its_roles_pinhole() {
    let root = Root::new();
    let (gateway, sink) = pair(&root).await;
    assert_eq!(get(gateway.http, "/output").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(sink.http, "/trigger").await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        get(gateway.http, "/trigger").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[rstest]
#[case::not_json(
    "/trigger",
    "application/json",
    "{",
    StatusCode::BAD_REQUEST,
    "not JSON"
)]
#[case::bad_line(
    "/trigger",
    "application/x-ndjson",
    "1\n{\n3",
    StatusCode::BAD_REQUEST,
    "line 2"
)]
#[case::count(
    "/trigger?count=none",
    "application/json",
    "1",
    StatusCode::BAD_REQUEST,
    "count"
)]
#[case::form(
    "/trigger",
    "application/x-www-form-urlencoded",
    "a=b",
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "application/json"
)]
#[tokio::test]
async fn wrong_trigger_is_refused_and_sends_nothing(
    #[case] path: &str,
    #[case] media_type: &str,
    #[case] body: &str,
    #[case] status: StatusCode,
    #[case] reason: &str,
) {
    let root = Root::new();
    let (gateway, sink) = pair(&root).await;
    let request = request("POST", path)
        .header(header::CONTENT_TYPE, media_type)
        .body(body.to_owned().into())
        .unwrap();
    let (seen, text) = text(gateway.http, request).await;
    assert_eq!(seen, status, "{text}");
    assert!(text.contains(reason), "{text}");
    assert!(output(sink.http, "").await.is_empty());
}

#[tokio::test]
async fn body_over_the_limit_is_refused() {
    let root = Root::new();
    let (gateway, _sink) = pair(&root).await;
    // Announced: refused without being read.
    let announced = request("POST", "/trigger")
        .header(header::CONTENT_TYPE, "application/json")
        .body(vec![b' '; 64 * 1024 * 1024 + 1].into())
        .unwrap();
    let response = http::send(gateway.http, announced).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn health_and_ready_describe_the_pod() {
    let root = Root::new();
    let lonely = Spec::without_identity(Role::Gateway, "gateway");
    // Port 9 (discard) of this machine: no process listens there.
    let gateway = lonely
        .to("sink", Protocol::Websocket, "127.0.0.1:9".parse().unwrap())
        .start()
        .await;
    let (status, health) = get(gateway.http, "/health").await;
    assert_eq!(status, StatusCode::OK);
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["role"], "gateway");
    let (status, ready) = get(gateway.http, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["ready"], false);
    let waiting = ready["waiting_for"].to_string();
    for missing in [
        "workload identity",
        "an answer from `sink` through the tunnel",
    ] {
        assert!(waiting.contains(missing), "{waiting}");
    }
    let (status, text) = text(
        gateway.http,
        request("POST", "/trigger").body("1".into()).unwrap(),
    )
    .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.contains("identity"), "{text}");
    drop(root);
}
