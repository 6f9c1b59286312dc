//! Many connections that do nothing, or do it slowly, while the gateway goes on sending.

use std::{io, ops::RangeInclusive, time::Duration};

use anyhow::Context as _;
use e2e::testing::{Ferry, Metric, assert_all_delivered, or_untested, payloads, with_environment};
use harness::pinhole::Trigger;
use host::{
    process::raise_open_files,
    wait::{Seen, Wait},
};
use render::envoy::{HANDSHAKE_LIMIT, MAX_CONNECTIONS, MAX_PLAINTEXT_CONNECTIONS};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

use super::{
    attack::{Attack, Sign, attack, withstand},
    door::Door,
    strangers::{gateways, ingress},
};

pub(crate) const TEST: &str =
    "e2e/tests/it/attackers/floods.rs::gateway_passes_two_thousand_idle_connections";

const CONNECTIONS: u32 = 2000;

/// Connections of the sink's Envoy that have not said what they are, and all others.
const SILENT: Metric = ingress("envoy_listener_downstream_pre_cx_active");
const OPEN: Metric = ingress("envoy_listener_downstream_cx_active");

const SILENCE_ENDED: Metric = ingress("envoy_listener_downstream_pre_cx_timeout");
const HANDSHAKE_ENDED: Metric =
    ingress("envoy_listener_downstream_cx_transport_socket_connect_timeout");
const HEAD_ENDED: Metric = Metric::named("envoy_http_downstream_rq_header_timeout")
    .with(&[("envoy_http_conn_manager_prefix", "ingress")]);
const TOO_MANY: Metric = Metric::named("envoy_connection_limit_limited_connections");

/// A connection that says nothing is closed after this long by Envoy; with room for a busy machine.
const PATIENCE: Duration = HANDSHAKE_LIMIT.saturating_mul(12);

pub(crate) const ATTACKS: &[Attack] = &[
    attack!(
        "2,000 connections that say nothing",
        "the sink's Envoy: 5 s to the first bytes, 4,096 connections",
        [Sign::Rises(SILENCE_ENDED)],
        async |ferry| { flood(&ferry, b"", SILENT, CONNECTIONS, SILENCE_ENDED).await }
    ),
    attack!(
        "2,000 handshakes that begin and do not go on",
        "the sink's Envoy: 5 s for a handshake, 4,096 connections",
        [Sign::Rises(SILENCE_ENDED)],
        async |ferry| {
            // The head of a TLS record, of which 512 bytes shall follow.

            let head = b"\x16\x03\x01\x02\x00\x01";
            flood(&ferry, head, SILENT, CONNECTIONS, SILENCE_ENDED).await
        }
    ),
    attack!(
        "2,000 handshakes whose client does not answer the sink",
        "the sink's Envoy: 5 s for a handshake, 4,096 connections",
        [Sign::Rises(HANDSHAKE_ENDED)],
        async |ferry| {
            let hello = client_hello(&ferry)?;
            flood(&ferry, &hello, OPEN, CONNECTIONS, HANDSHAKE_ENDED).await
        }
    ),
    attack!(
        "2,000 requests whose head has no end",
        "the sink's Envoy: 5 s for a head, 512 connections without TLS",
        [Sign::Rises(HEAD_ENDED), Sign::Rises(TOO_MANY)],
        async |ferry| {
            let head = b"GET /health HTTP/1.1\r\nhost: sink\r\nx: ";
            let held = MAX_PLAINTEXT_CONNECTIONS / 2;
            flood(&ferry, head, OPEN, held, HEAD_ENDED).await
        }
    ),
];

/// Holds connections that say `bytes` and no more, each opened anew when the sink has closed it. While `open` shows that
/// `held` of them are there, messages and a new session of the gateway must get through; and as many must be `ended`.
async fn flood(
    ferry: &Ferry,
    bytes: &[u8],
    open: Metric,
    held: u32,
    ended: Metric,
) -> anyhow::Result<String> {
    let sink = ferry.sink()?.name;
    let before = ferry.pod(sink.pod()).counters().await?.sum(&ended);
    let door = Door::of_sink(ferry)?;
    let nearer = door.clone().behind_k3d(ferry).await?;
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (door, bytes) = (nearer.clone(), bytes.to_vec());
        connections.spawn(async move {
            loop {
                // A connection that cannot be opened at this moment is opened at the next.
                let _ = hold(&door, &bytes).await;
                tokio::task::yield_now().await;
            }
        });
    }
    in_force(ferry, open, held).await?;
    // By the acknowledgements: what the sink has stored is read without TLS, where a flood may have every place.
    let acks = ferry
        .messages()
        .trigger(&Trigger::Each(payloads(50)))
        .await?;
    assert_all_delivered(&acks, 50);
    door.admitted(&gateways(ferry)?).await?;
    // It was not over before.
    in_force(ferry, open, held).await?;
    reaches(ferry, ended, before + u64::from(held)..=u64::MAX).await?;
    connections.shutdown().await;
    gone(ferry, open, held).await?;
    Ok(format!("{held} connections were held"))
}

/// One connection until the sink closes it.
async fn hold(door: &Door, bytes: &[u8]) -> io::Result<()> {
    let mut stream = door.tcp().await?;
    stream.write_all(bytes).await?;
    let mut answer = vec![];
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(
        ended.is_ok(),
        "a connection that does nothing must be closed"
    );
    Ok(())
}

/// Nine in ten are enough: some are always on their way back.
async fn in_force(ferry: &Ferry, metric: Metric, held: u32) -> anyhow::Result<()> {
    let enough = u64::from(held) * 9 / 10;
    reaches(ferry, metric, enough..=u64::MAX).await
}

async fn gone(ferry: &Ferry, metric: Metric, held: u32) -> anyhow::Result<()> {
    reaches(ferry, metric, 0..=u64::from(held) / 10).await
}

async fn reaches(ferry: &Ferry, metric: Metric, wanted: RangeInclusive<u64>) -> anyhow::Result<()> {
    let sink = ferry.sink()?.name;
    Wait::until(format!("{metric} of the sink within {wanted:?}"))
        .poll(|| async {
            let now = ferry.pod(sink.pod()).counters().await?.sum(&metric);
            Ok(match wanted.contains(&now) {
                true => Seen::Ready(()),
                false => Seen::Waiting(now.to_string()),
            })
        })
        .await
}

/// The first flight of a real client.
fn client_hello(ferry: &Ferry) -> anyhow::Result<Vec<u8>> {
    let door = Door::of_sink(ferry)?;
    let client = door.client(None, super::door::Version::Tls13)?;
    let name = ferry.sink()?.name.to_string().try_into()?;
    let mut connection =
        tokio_rustls::rustls::ClientConnection::new(std::sync::Arc::new(client), name)?;
    let mut hello = vec![];
    connection.write_tls(&mut hello).context("a hello")?;
    Ok(hello)
}

/// What the page says of the numbers.
#[test]
fn the_numbers_are_those_of_the_configuration() {
    assert_eq!(HANDSHAKE_LIMIT.as_secs(), 5);
    assert_eq!(render::envoy::REQUEST_HEAD_LIMIT.as_secs(), 5);
    assert_eq!(MAX_CONNECTIONS, 4096);
    assert_eq!(MAX_PLAINTEXT_CONNECTIONS, 512);
    assert_eq!(render::envoy::MAX_PINHOLE_CONNECTIONS, 512);
    assert_eq!(render::envoy::IDLE_LIMIT.as_secs(), 5 * 60);
    assert_eq!(render::envoy::SESSION_LIMIT.as_secs(), 10 * 60 + 30);
    assert_eq!(render::envoy::MAX_HEAP_BYTES, 256 * 1024 * 1024);
    const { assert!(CONNECTIONS > MAX_PLAINTEXT_CONNECTIONS && CONNECTIONS < MAX_CONNECTIONS) };
}

/// The test has all connections, and so has the sink's Envoy.
fn enough_files() -> anyhow::Result<()> {
    let needed = u64::from(CONNECTIONS) + 500;
    let allowed = raise_open_files()?;
    anyhow::ensure!(
        allowed.is_none_or(|allowed| allowed >= needed),
        "{needed} files must be open at once, and the hard limit is {} (`ulimit -Hn`)",
        allowed.unwrap_or_default()
    );
    Ok(())
}

#[tokio::test]
async fn gateway_passes_two_thousand_idle_connections() -> anyhow::Result<()> {
    if or_untested(enough_files(), "2,000 idle connections")?.is_none() {
        return Ok(());
    }
    with_environment("fast-international-ferry", |ferry| async move {
        withstand(&ferry, ATTACKS).await
    })
    .await
}
