//! Real Envoys: what the configuration does, beyond what it says.

mod lab;
pub(super) mod pki;

use std::{collections::BTreeMap, io::ErrorKind, net::SocketAddr, sync::Arc};

use messages::Role;
use rstest::rstest;
use tokio::net::TcpStream;
use tokio_rustls::rustls;

use super::{
    super::{EnvoyPaths, bootstrap, load_balancer, peer_cluster, peers},
    fixture::{name, pod},
};
use crate::{
    plan::{PeerAddress, PodPlan, Sockets},
    wait::{Seen, Wait},
};
use lab::{Envoy, Network, exchange, replace};
use pki::Pki;

/// A gateway's Envoy and a sink's, with an app behind the sink's that echoes on its relay port and answers any request
/// on its HTTP port with 200.
struct Pair {
    network: Network,
    pki: Pki,
    gateway_plan: PodPlan,
    sink_plan: PodPlan,
    gateway: Envoy,
    sink: Envoy,
}

/// What is wrong with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Of the right root, but another pod's.
    OtherPod,
    /// The right name, from the authority of another pod.
    OtherAuthority,
    /// The right name, from another environment's root.
    OtherRoot,
    /// A name below the right one, which the authority's name constraints permit.
    Subdomain,
}

impl Pair {
    async fn start(gateway_flaw: Flaw, sink_flaw: Flaw) -> Self {
        let network = Network::claim().await;
        let gateway = name("live", "cluster-a", "gateway");
        let sink = name("live", "cluster-b", "sink");
        let [gateway_plan, sink_plan] = [
            pod(
                gateway.clone(),
                Role::Gateway,
                Sockets::at(network.host(10)),
                &[],
                std::slice::from_ref(&sink),
            ),
            pod(
                sink,
                Role::Sink,
                Sockets::at(network.host(20)),
                &[gateway],
                &[],
            ),
        ];
        lab::echo(sink_plan.sockets.relay).await;
        lab::answer_ok(sink_plan.sockets.http).await;
        lab::answer_ok(gateway_plan.sockets.http).await;
        let pki = Pki::new();
        let [gateway, sink] =
            [(&gateway_plan, gateway_flaw), (&sink_plan, sink_flaw)].map(|(plan, flaw)| {
                let envoy = Envoy::prepare(&bootstrap(plan, &EnvoyPaths::in_working_directory()));
                let none = peers(plan, &BTreeMap::new(), &EnvoyPaths::in_working_directory());
                replace(&envoy.file("peers/cds.json"), &none);
                let folder = envoy.file("identity");
                let own = &plan.name;
                let other = name("live", "cluster-a", "other");
                match flaw {
                    Flaw::None => pki.publish(&folder, own),
                    Flaw::OtherPod => pki.publish(&folder, &other),
                    Flaw::OtherAuthority => pki.publish_as(&folder, &other, &own.to_string()),
                    Flaw::OtherRoot => {
                        // Trusts the right root, so that it is the other side that refuses.
                        pki.publish(&folder, own);
                        let roots = std::fs::read(folder.join("roots.json")).unwrap();
                        Pki::new().publish(&folder, own);
                        std::fs::write(folder.join("roots.json"), roots).unwrap();
                    }
                    Flaw::Subdomain => pki.publish_as(&folder, own, &format!("x.{own}")),
                }
                envoy
            });
        let mut pair = Self {
            network,
            pki,
            gateway_plan,
            sink_plan,
            gateway,
            sink,
        };
        pair.gateway
            .run(pair.gateway_plan.sockets.envoy_stats)
            .await;
        pair.sink.run(pair.sink_plan.sockets.envoy_stats).await;
        pair
    }

    fn egress(&self) -> SocketAddr {
        self.gateway_plan.egress[0].listen
    }

    /// Tells the gateway's Envoy where the sink is, by replacing its peers file.
    fn point_at(&self, address: SocketAddr) {
        let address = PeerAddress {
            host: address.ip().to_string(),
            port: address.port(),
        };
        let addresses = BTreeMap::from([(self.sink_plan.name.clone(), address)]);
        let file = peers(
            &self.gateway_plan,
            &addresses,
            &EnvoyPaths::in_working_directory(),
        );
        replace(&self.gateway.file("peers/cds.json"), &file);
    }

    /// Waits until bytes come back through the egress port.
    async fn echoed(&self, text: &str) {
        Wait::until("an echo through the tunnel")
            .poll(|| async {
                Ok(match exchange(self.egress(), text).await {
                    Ok(answer) if answer == text => Seen::Ready(()),
                    other => Seen::Waiting(format!("{other:?}")),
                })
            })
            .await
            .unwrap_or_else(|error| {
                panic!("{error:#}\n{}\n{}", self.gateway.log(), self.sink.log())
            });
    }
}

#[tokio::test]
async fn bytes_cross_two_envoys_by_mutual_tls_1_3_with_a_full_handshake_each() {
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
    assert!(
        pair.sink
            .log()
            .contains(r#""peer_names":"gateway.cluster-a.live.ferry.internal""#),
        "{}",
        pair.sink.log()
    );
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
async fn an_identity_and_an_address_are_taken_from_replaced_files() {
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
async fn a_load_balancer_passes_bytes_and_its_claim_is_exclusive() {
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

#[tokio::test]
async fn tls_to_a_pod_without_upstreams_is_closed() {
    let pair = Pair::start(Flaw::None, Flaw::None).await;
    let stream = TcpStream::connect(pair.gateway_plan.sockets.ingress)
        .await
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let error = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("gateway".try_into().unwrap(), stream)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{error}"
    );
}
