//! What is said to the public port without TLS.

use e2e::testing::{Ferry, Metric, with_environment};
use host::environment::PodRecord;

use super::{
    attack::{Attack, Sign, attack, withstand},
    door::{Door, OPENING},
};

pub(crate) const TEST: &str =
    "e2e/tests/it/attackers/plaintext.rs::without_tls_there_is_health_and_nothing_else";

const HTTP: &str = "envoy_http_conn_manager_prefix";
const REFUSED: Metric = Metric::named("envoy_http_downstream_rq_xx")
    .with(&[(HTTP, "ingress"), ("envoy_response_code_class", "4")]);
const NOT_HTTP: Metric =
    Metric::named("envoy_http_downstream_cx_protocol_error").with(&[(HTTP, "ingress")]);

const STRICT_HTTP: &str = "the sink's Envoy: strict HTTP";
const NO_ROUTE: &str = "the sink's Envoy: no such route";

/// A request that must not be seen as one.
const HIDDEN: &str = "GET /output HTTP/1.1\r\nhost: hidden\r\n\r\n";

/// Headers that two readers of HTTP may understand in two ways.
const AMBIGUOUS: [&str; 8] = [
    "content-length: 4\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ncontent-length: 4",
    "content-length: 0\r\ncontent-length: 44",
    "content-length: +4",
    "content-length: 4, 44",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding : chunked",
];

pub(crate) const ATTACKS: &[Attack] = &[
    attack!(
        "a relay session without TLS (WebSocket)",
        NO_ROUTE,
        [Sign::Rises(REFUSED), Sign::Told("HTTP/1.1 4")],
        async |ferry| {
            let opening = OPENING.replace("connection: upgrade", "connection: upgrade, close");
            let told = Door::of_sink(&ferry)?.say(opening.as_bytes()).await?;
            anyhow::ensure!(!told.contains(" 101 "), "no session may open: {told}");
            Ok(told)
        }
    ),
    attack!(
        "a relay session without TLS (gRPC)",
        STRICT_HTTP,
        [Sign::Rises(NOT_HTTP), Sign::Told("HTTP/1.1 400")],
        async |ferry| {
            // RFC 9113, section 3.4, and an empty SETTINGS frame.
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            Door::of_sink(&ferry)?.say(preface).await
        }
    ),
    attack!(
        "bytes that are no protocol",
        STRICT_HTTP,
        [Sign::Rises(NOT_HTTP), Sign::Told("HTTP/1.1 400")],
        async |ferry| {
            let bytes = [&[0xff; 4096][..], b"\r\n\r\n"].concat();
            Door::of_sink(&ferry)?.say(&bytes).await
        }
    ),
    attack!(
        "a request that hides another: `content-length` against `transfer-encoding`, twice, malformed",
        STRICT_HTTP,
        [Sign::Rises(NOT_HTTP), Sign::Told("HTTP/1.1 400")],
        async |ferry| {
            let door = Door::of_sink(&ferry)?;
            let mut all = String::new();
            for header in AMBIGUOUS {
                let text = format!(
                    "GET /health HTTP/1.1\r\nhost: sink\r\n{header}\r\n\r\n0\r\n\r\n{HIDDEN}"
                );
                let told = door.say(text.as_bytes()).await?;
                anyhow::ensure!(
                    told.matches("HTTP/1.1 ").count() <= 1 && !told.contains(" 200 "),
                    "`{header}` must be refused, and end the connection: {told}"
                );
                all += &told;
            }
            Ok(all)
        }
    ),
    attack!(
        "a request that hides another in its body",
        "the sink's Envoy and app: a body is read as a body",
        [Sign::Told("HTTP/1.1 200 OK")],
        async |ferry| {
            let text = format!(
                "GET /health HTTP/1.1\r\nhost: sink\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{HIDDEN}",
                HIDDEN.len()
            );
            let told = Door::of_sink(&ferry)?.say(text.as_bytes()).await?;
            anyhow::ensure!(
                told.matches("HTTP/1.1 ").count() == 1,
                "one request must get one answer: {told}"
            );
            Ok(told)
        }
    ),
    attack!(
        "a head of more than 16 KiB, or of more than 64 headers",
        "the sink's Envoy: limits on heads",
        [Sign::Rises(REFUSED), Sign::Told("HTTP/1.1 431")],
        async |ferry| {
            let door = Door::of_sink(&ferry)?;
            let mut all = String::new();
            for headers in [
                format!("a: {}\r\n", "a".repeat(20_000)),
                "a: b\r\n".repeat(100),
            ] {
                let text = format!("GET /health HTTP/1.1\r\nhost: sink\r\n{headers}\r\n");
                let told = door.say(text.as_bytes()).await?;
                anyhow::ensure!(told.starts_with("HTTP/1.1 431 "), "{told}");
                all += &told;
            }
            Ok(all)
        }
    ),
    attack!(
        "`/output` without the token",
        "the sink's app: bearer token",
        [Sign::Rises(REFUSED), Sign::Told("HTTP/1.1 401")],
        async |ferry| { ask(&ferry, &ferry.sink()?, "GET", "/output", "401").await }
    ),
    attack!(
        "`/trigger` without the token",
        "the gateway's app: bearer token",
        [Sign::RisesAtGateway(REFUSED), Sign::Told("HTTP/1.1 401")],
        async |ferry| { ask(&ferry, &ferry.gateway()?, "POST", "/trigger", "401").await }
    ),
    attack!(
        "`/metrics`, `/ready`, Envoy's statistics and its admin interface",
        NO_ROUTE,
        [Sign::Rises(REFUSED), Sign::Told("HTTP/1.1 404")],
        async |ferry| {
            let mut told = String::new();
            for (method, path) in [
                ("GET", "/metrics"),
                ("GET", "/ready"),
                ("GET", "/stats"),
                ("GET", "/stats/prometheus"),
                ("GET", "/config_dump"),
                ("GET", "/certs"),
                ("GET", "/health/../metrics"),
                ("POST", "/quitquitquit"),
                ("POST", "/logging?level=trace"),
            ] {
                told = ask(&ferry, &ferry.sink()?, method, path, "404").await?;
            }
            Ok(told)
        }
    ),
];

async fn ask(
    ferry: &Ferry,
    pod: &PodRecord,
    method: &str,
    path: &str,
    status: &str,
) -> anyhow::Result<String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let told = Door::of(ferry, pod)?.say(request.as_bytes()).await?;
    anyhow::ensure!(
        told.starts_with(&format!("HTTP/1.1 {status} ")),
        "{method} {path} must be answered {status}: {told}"
    );
    Ok(told)
}

#[tokio::test]
async fn without_tls_there_is_health_and_nothing_else() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        ask(&ferry, &ferry.sink()?, "GET", "/health", "200").await?;
        withstand(&ferry, ATTACKS).await
    })
    .await
}
