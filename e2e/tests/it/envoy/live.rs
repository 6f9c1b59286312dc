//! Real Envoys: what the configuration does, beyond what it says.

mod families;
pub(super) mod lab;
mod pair;
pub(super) mod pki;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::SocketAddr,
};

use blueprint::plan::PeerAddress;
use e2e::testing::{End, TunnelSession};
use host::wait::{Seen, Wait};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use lab::{Envoy, exchange, replace};
use pair::{Flaw, Pair};
use pki::Pki;

use render::envoy::{EnvoyPaths, load_balancer, peer_cluster, peers};

#[tokio::test]
async fn bytes_cross_envoys_by_full_tls_1_3_handshakes() {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    let early = exchange(pair.egress(), "too early").await;
    assert!(
        early.as_ref().map_or(true, String::is_empty),
        "an egress port without a peer must close: {early:?}"
    );
    pair.point_at(pair.sink_plan.sockets.ingress);
    pair.echoed("first").await;
    pair.echoed("second").await;

    let sink = pair.sink.stats().await;
    let handshakes = sink["listener.ingress.ssl.handshake"];
    assert!(handshakes >= 2, "{sink:#?}");
    assert_eq!(sink["listener.ingress.ssl.versions.TLSv1.3"], handshakes);
    assert_eq!(
        sink["listener.ingress.ssl.curves.X25519MLKEM768"],
        handshakes
    );
    assert_eq!(sink["listener.ingress.ssl.session_reused"], 0);
    let cluster = peer_cluster(&pair.sink_plan.name);
    let gateway = pair.gateway.stats().await;
    assert_eq!(gateway[&format!("cluster.{cluster}.ssl.session_reused")], 0);
    assert_eq!(
        gateway[&format!("cluster.{cluster}.ssl.versions.TLSv1.3")],
        handshakes
    );
    pair.sink
        .logged(r#""peer_names":"gateway.cluster-a.live.ferry.internal""#)
        .await;
    let log = pair
        .gateway
        .logged(r#""moment":"TcpUpstreamConnected""#)
        .await;
    let session = log.lines().find_map(TunnelSession::of_line);
    let Some((End::Client, session)) = session else {
        panic!("a session to the sink must be told of: {log}");
    };
    assert_eq!(session.peer_names, pair.sink_plan.name.to_string());
    let certificate = Pki::published(&pair.sink.file("identity"));
    assert_eq!(session.peer_serial, certificate.serial);
    assert_eq!(session.peer_valid_from, certificate.not_before);
}

#[rstest]
#[case::another_pod(Flaw::OtherPod, "fail_verify_san")]
#[case::an_authority_of_another_pod(Flaw::OtherAuthority, "fail_verify_error")]
#[case::another_root(Flaw::OtherRoot, "fail_verify_error")]
#[case::a_subdomain(Flaw::Subdomain, "fail_verify_san")]
#[tokio::test]
async fn a_wrong_identity_is_refused_by_either_side(#[case] flaw: Flaw, #[case] counter: &str) {
    let (client, server) =
        tokio::join!(Pair::start(flaw, Flaw::None), Pair::start(Flaw::None, flaw));
    for (pair, refusing, stat) in [
        (
            &client,
            &client.sink,
            format!("listener.ingress.ssl.{counter}"),
        ),
        (
            &server,
            &server.gateway,
            format!(
                "cluster.{}.ssl.{counter}",
                peer_cluster(&server.sink_plan.name)
            ),
        ),
    ] {
        pair.point_at(pair.sink_plan.sockets.ingress);
        Wait::until(format!("a refusal of {flaw:?}, counted in {stat}"))
            .poll(|| async {
                let answer = exchange(pair.egress(), "hello").await;
                assert_ne!(
                    answer.ok().as_deref(),
                    Some("hello"),
                    "{flaw:?} must not pass"
                );
                let stats = refusing.stats().await;
                Ok(match stats.get(&stat) {
                    Some(1..) => Seen::Ready(()),
                    other => Seen::Waiting(format!("{other:?}")),
                })
            })
            .await
            .unwrap();
        let log = refusing.logged("CERTIFICATE_VERIFY_FAILED").await;
        assert!(log.contains(r#""event":"#), "{log}");
    }
}

#[tokio::test]
async fn path_length_refuses_nested_authority() {
    // With an authority that may have one below it the same chain passes.
    let allowed = Pair::start(Flaw::SecondAuthority(1), Flaw::None).await;
    allowed.point_at(allowed.sink_plan.sockets.ingress);
    allowed.echoed("a longer chain").await;

    let refused = Pair::start(Flaw::SecondAuthority(0), Flaw::None).await;
    refused.point_at(refused.sink_plan.sockets.ingress);
    Wait::until("a refusal that is counted")
        .poll(|| async {
            let answer = exchange(refused.egress(), "hello").await;
            assert_ne!(answer.ok().as_deref(), Some("hello"), "it must not pass");
            let stats = refused.sink.stats().await;
            Ok(match stats.get("listener.ingress.ssl.fail_verify_error") {
                Some(1..) => Seen::Ready(()),
                other => Seen::Waiting(format!("{other:?}")),
            })
        })
        .await
        .unwrap();
    refused.sink.logged("path_length_constraint_exceeded").await;
}

#[tokio::test]
async fn replaced_identity_and_address_are_taken() {
    let pair = Pair::start(Flaw::OtherPod, Flaw::None).await;
    pair.point_at(pair.sink_plan.sockets.ingress);
    Wait::until("a refusal of the wrong identity")
        .poll(|| async {
            let _ = exchange(pair.egress(), "hello").await;
            Ok(if pair.sink.log().contains("CERTIFICATE_VERIFY_FAILED") {
                Seen::Ready(())
            } else {
                Seen::Waiting("none".into())
            })
        })
        .await
        .unwrap();
    pair.pki
        .publish(&pair.gateway.file("identity"), &pair.gateway_plan.name);
    pair.echoed("the new identity").await;

    // An address where nobody is, and back.
    pair.point_at((pair.network.host(99), 1).into());
    Wait::until("the address where nobody is")
        .poll(|| async {
            Ok(match exchange(pair.egress(), "lost").await {
                Ok(answer) if answer == "lost" => Seen::Waiting("the old one".into()),
                _ => Seen::Ready(()),
            })
        })
        .await
        .unwrap();
    pair.point_at(pair.sink_plan.sockets.ingress);
    pair.echoed("found again").await;
}

#[tokio::test]
async fn load_balancer_passes_bytes_on_exclusive_port() {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    let public = (pair.network.host(1), 30200).into();
    let claim = (pair.network.host(1), 9902).into();
    let config = load_balancer(
        &[(public, pair.sink_plan.sockets.ingress)],
        claim,
        "admin.sock".as_ref(),
    );
    let mut balancer = Envoy::prepare(&config);
    balancer.run(claim).await;
    pair.point_at(public);
    pair.echoed("through the load balancer").await;
    assert_eq!(lab::status(public, "GET", "/health").await, 200);

    let mut second = Envoy::prepare(&load_balancer(&[], claim, "admin.sock".as_ref()));
    let status = second.run_to_its_end().await;
    assert!(!status.success(), "{status}: {}", second.log());
    assert!(
        second.log().contains("Address already in use"),
        "{}",
        second.log()
    );
}

#[tokio::test]
async fn plaintext_gets_what_is_named_and_nothing_else() {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    let long = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    let many = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(100)
    );
    let of = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    for (sockets, request, expected) in [
        (pair.sink_plan.sockets, of("GET", "/health"), 200),
        (pair.sink_plan.sockets, of("GET", "/health?verbose"), 200),
        (pair.sink_plan.sockets, of("GET", "/output?limit=1"), 200),
        (pair.sink_plan.sockets, of("POST", "/output"), 404),
        (pair.sink_plan.sockets, of("POST", "/output/read"), 200),
        (pair.sink_plan.sockets, of("GET", "/output/read"), 404),
        (pair.sink_plan.sockets, of("POST", "/trigger"), 404),
        (pair.gateway_plan.sockets, of("POST", "/trigger?count=5"), 200),
        (pair.gateway_plan.sockets, of("GET", "/output"), 404),
        (pair.sink_plan.sockets, of("POST", "/health"), 404),
        (pair.sink_plan.sockets, of("HEAD", "/health"), 404),
        (pair.sink_plan.sockets, of("GET", "/health/"), 404),
        (pair.sink_plan.sockets, of("GET", "/HEALTH"), 404),
        (pair.sink_plan.sockets, of("GET", "/ready"), 404),
        (pair.sink_plan.sockets, of("GET", "/metrics"), 404),
        (pair.sink_plan.sockets, of("GET", "/v1/carry"), 404),
        (pair.sink_plan.sockets, of("GET", "/stats/prometheus"), 404),
        (pair.sink_plan.sockets, of("GET", "/health/../metrics"), 404),
        (pair.sink_plan.sockets, of("GET", "/health%2f..%2fmetrics"), 400),
        (pair.sink_plan.sockets, of("CONNECT", "x:80"), 404),
        (pair.sink_plan.sockets, long, 431),
        (pair.sink_plan.sockets, many, 431),
        (
            pair.sink_plan.sockets,
            "GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        (pair.sink_plan.sockets, "GET /health HTTP/1.0\r\n\r\n".into(), 426),
        (pair.sink_plan.sockets, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
    ] {
        let answer = lab::raw(sockets.ingress, &request).await;
        let shown: String = request.chars().take(60).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{shown:?} must get {expected}: {answer}"
        );
        assert!(
            !answer.to_lowercase().contains("envoy"),
            "{shown:?} must not learn what answers: {answer}"
        );
    }
    for (path, expected) in [
        ("/ready", 200),
        ("/stats/prometheus", 200),
        ("/config_dump", 404),
        ("/quitquitquit", 404),
    ] {
        assert_eq!(
            lab::status(pair.sink_plan.sockets.envoy_stats, "GET", path).await,
            expected,
            "{path} on the statistics port"
        );
    }
}

/// Shakes hands as a stranger and tries to say something; the error, if the other side ends it.
async fn knock(
    pair: &Pair,
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> io::Error {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = pair.sink_plan.name.to_string().try_into().unwrap();
    let talk = async {
        let mut stream = pair.pki.stranger(&[version]).connect(name, stream).await?;
        // In TLS 1.3 the client is done before the server has seen its certificate.
        stream.write_all(b"hello").await?;
        stream.read_u8().await
    };
    match talk.await {
        Ok(byte) => panic!("a stranger must not get an answer, got {byte}"),
        Err(error) => error,
    }
}

#[rstest]
#[case::without_certificate(&TLS13, "fail_verify_no_cert", "PEER_DID_NOT_RETURN_A_CERTIFICATE")]
#[case::with_tls_1_2(&TLS12, "connection_error", "UNSUPPORTED_PROTOCOL")]
#[tokio::test]
async fn stranger_never_reaches_app(
    #[case] version: &'static SupportedProtocolVersion,
    #[case] counter: &str,
    #[case] reason: &str,
) {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    knock(&pair, pair.sink_plan.sockets.ingress, version).await;
    let log = pair.sink.logged(reason).await;
    assert!(log.contains(r#""event":"refused""#), "{log}");
    assert!(!log.contains(r#""event":"tunnel""#), "{log}");
    let stats = pair.sink.stats().await;
    assert_eq!(stats[&format!("listener.ingress.ssl.{counter}")], 1);
    assert_eq!(stats["cluster.relay.upstream_cx_total"], 0);
}

#[tokio::test]
async fn tls_to_a_pod_without_upstreams_is_closed() {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    let error = knock(&pair, pair.gateway_plan.sockets.ingress, &TLS13).await;
    assert!(
        matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{error}"
    );
    let stats = pair.gateway.stats().await;
    assert_eq!(stats["listener.ingress.no_filter_chain_match"], 1);
}

#[tokio::test]
async fn many_megabytes_cross_both_ways_at_once() {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    pair.point_at(pair.sink_plan.sockets.ingress);
    pair.echoed("first").await;
    let text = "ferry".repeat(3 * 1024 * 1024);
    assert_eq!(exchange(pair.egress(), &text).await.unwrap(), text);
}

#[tokio::test]
async fn unresolved_peer_keeps_no_port_closed() {
    let mut pair = Pair::start(Flaw::None, Flaw::None).await;
    let addresses = BTreeMap::from([(
        pair.sink_plan.name.clone(),
        PeerAddress {
            host: "no-such-host.invalid".into(),
            port: 1,
        },
    )]);
    let file = peers(
        &pair.gateway_plan,
        &addresses,
        &EnvoyPaths::in_working_directory(),
    );
    replace(&pair.gateway.file("peers/cds.json"), &file);
    pair.gateway.stop().await;
    // Ready, although the first look-up may take its time.
    let stats = pair.gateway_plan.sockets.envoy_stats;
    pair.gateway.run(stats).await;
    let ingress = pair.gateway_plan.sockets.ingress;
    assert_eq!(lab::status(ingress, "GET", "/health").await, 200);
    pair.point_at(pair.sink_plan.sockets.ingress);
    pair.echoed("the right address").await;
}
