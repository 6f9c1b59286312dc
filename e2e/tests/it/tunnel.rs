//! The way between two pods leads through two Envoys and TLS 1.3, and nowhere else.

use blueprint::container::Container;
use e2e::testing::{
    Counters, Ferry, Setup, assert_all_delivered, assert_delivered, payload_of, payloads,
    with_environment,
};
use harness::{pinhole::Trigger, runtime::request::Ending};
use rstest::rstest;

/// What an Envoy counts of the tunnel, whichever end it is: the sink's as `listener.ingress`, the gateway's as `cluster.peer/…`.
#[track_caller]
fn assert_modern_sessions_only(who: &str, prefix: &str, counters: &Counters) -> u64 {
    let sum = |end: &str| counters.sum(prefix, end);
    // The pinhole's HTTPS is on the same port and has no certificate of the client.
    let pinhole = match prefix {
        "listener.ingress" => counters.sum("http.pinhole.", ".downstream_cx_ssl_total"),
        _ => 0,
    };
    let handshakes = sum(".ssl.handshake") - pinhole;
    let seen = counters.with(".ssl.");
    assert!(handshakes > 0, "{who} must have shaken hands: {seen:#?}");
    assert_eq!(
        sum(".ssl.versions.TLSv1.3") - pinhole,
        handshakes,
        "{who} must speak TLS 1.3 only: {seen:#?}"
    );
    // Our own client of the pinhole has no post-quantum key agreement.
    assert_eq!(
        sum(".ssl.curves.X25519MLKEM768"),
        handshakes,
        "{who} must agree keys by X25519MLKEM768: {seen:#?}"
    );
    assert_eq!(
        sum(".ssl.session_reused"),
        0,
        "{who} must reuse no session: {seen:#?}"
    );
    assert_eq!(
        sum(".ssl.no_certificate"),
        pinhole,
        "{who} must see a certificate in each session: {seen:#?}"
    );
    handshakes
}

async fn ends(ferry: &Ferry) -> anyhow::Result<(String, String)> {
    Ok((
        ferry.gateway()?.name.pod().into(),
        ferry.sink()?.name.pod().into(),
    ))
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn messages_cross_two_envoys_by_tls_1_3(#[case] blueprint: &str) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        let (gateway, sink) = ends(&ferry).await?;
        let out =
            |counters: &Counters| counters.sum("cluster.peer/", ".upstream_cx_tx_bytes_total");
        let inside = |counters: &Counters| counters.sum("cluster.", ".upstream_cx_tx_bytes_total");
        let before = (
            ferry.pod(&gateway).envoy_counters().await?,
            ferry.pod(&sink).envoy_counters().await?,
        );

        // 32 messages of 8 KiB: more than anything else that passes meanwhile.
        let verdict = ferry
            .messages()
            .deliver(vec![payload_of(8 * 1024); 32])
            .await?;
        assert_delivered(&verdict, 32);

        let after = (
            ferry.pod(&gateway).envoy_counters().await?,
            ferry.pod(&sink).envoy_counters().await?,
        );
        let sent = out(&after.0) - out(&before.0);
        assert!(
            sent >= 32 * 8 * 1024,
            "they must leave through the gateway's Envoy, which sent {sent} bytes"
        );
        let received = inside(&after.1) - inside(&before.1);
        assert!(
            received >= 32 * 8 * 1024,
            "they must arrive through the sink's Envoy, which passed on {received} bytes"
        );

        assert_modern_sessions_only("the gateway's Envoy", "cluster.peer/", &after.0);
        assert_modern_sessions_only("the sink's Envoy", "listener.ingress", &after.1);
        Ok(())
    })
    .await
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn a_new_session_is_a_new_handshake(#[case] blueprint: &str) -> anyhow::Result<()> {
    Setup::of(blueprint)
        .no_other_settings()
        .run(|ferry| async move {
            let (gateway, sink) = ends(&ferry).await?;
            let before = assert_modern_sessions_only(
                "the sink's Envoy",
                "listener.ingress",
                &ferry.pod(&sink).envoy_counters().await?,
            );
            ferry
                .faults()
                .stop(&gateway, Container::App, Ending::Graceful)
                .await?;
            ferry.faults().start(&gateway, Container::App).await?;
            let after = assert_modern_sessions_only(
                "the sink's Envoy",
                "listener.ingress",
                &ferry.pod(&sink).envoy_counters().await?,
            );
            assert!(
                after > before,
                "a restarted gateway must shake hands again: {before}, then {after}"
            );
            Ok(())
        })
        .await
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Gateway,
    Sink,
}

#[rstest]
#[tokio::test]
async fn lost_envoy_stops_messages_until_restart(
    #[values("fast-international-ferry", "international-ferry")] blueprint: &str,
    #[values(Side::Gateway, Side::Sink)] side: Side,
) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        let (gateway, sink) = ends(&ferry).await?;
        let broken = match side {
            Side::Gateway => &gateway,
            Side::Sink => &sink,
        };
        let mark = ferry.messages().last_index().await?;
        ferry
            .faults()
            .stop(broken, Container::Envoy, Ending::Abrupt)
            .await?;
        ferry.pod(&gateway).not_ready().await?;

        // Past the gateway's Envoy, which may be the one that is gone: the messages are with the gateway, and only there.
        let inside = ferry.inside().await?;
        let sending = Trigger::Each(payloads(3));
        let mut acks = inside.messages().begin(&sending).await?;
        let stored = inside.messages().output(mark).await?;
        assert!(
            stored.is_empty(),
            "nothing must cross before the Envoy is back: {stored:#?}"
        );
        ferry.faults().start(broken, Container::Envoy).await?;

        let mut all = vec![];
        while let Some(ack) = acks.next().await? {
            all.push(ack);
        }
        assert_all_delivered(&all, 3);
        let stored = ferry.messages().output(mark).await?;
        assert_eq!(
            stored.len(),
            3,
            "each message must be stored once: {stored:#?}"
        );
        assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
        Ok(())
    })
    .await
}
