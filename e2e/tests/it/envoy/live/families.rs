//! Real Envoys that listen by IPv4 and IPv6, and dial by whichever leads there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use blueprint::plan::{PodPlan, Sockets};
use e2e::testing::or_untested;
use host::wait::{Seen, Wait};
use messages::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    super::fixture::{name, paths, pod},
    lab::{self, Envoy, replace, status},
    pki::Pki,
};

use render::envoy::{
    EnvoyPaths, bootstrap, egress, ingress, listeners, parts, peer_cluster, peers, pinhole,
};

/// Whether this machine has `::1`.
fn ipv6() -> bool {
    let bound = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).map_err(anyhow::Error::from);
    or_untested(bound, "listeners by IPv6").unwrap().is_some()
}

/// Free by both families, and none that the kernel gives to outgoing connections.
fn port() -> u16 {
    loop {
        let [.., high, low] = uuid::Uuid::now_v7().into_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        if messages::listen::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).is_ok() {
            return port;
        }
    }
}

/// A sink as in a cluster, on ports that nobody else has.
fn sink() -> PodPlan {
    let everywhere = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let here = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let sockets = Sockets {
        http: everywhere(port()),
        relay: here(port()),
        ingress: everywhere(port()),
        envoy_stats: everywhere(port()),
        wosp: everywhere(port()),
        egress_host: Ipv4Addr::LOCALHOST.into(),
    };
    let gateway = name("live", "cluster-a", "gateway");
    pod(
        name("live", "cluster-b", "sink"),
        Role::Sink,
        sockets,
        &[gateway],
        &[],
    )
}

async fn start(plan: &PodPlan, listeners: &Value) -> Envoy {
    let mut envoy = Envoy::prepare(&bootstrap(plan, &paths()));
    let none = peers(plan, &Default::default(), &paths());
    replace(&envoy.file("peers/cds.json"), &none);
    replace(&envoy.file("pinhole.json"), &pinhole(&paths()));
    replace(&envoy.file("listeners.json"), listeners);
    let root = identity::Root::create("live").unwrap();
    let server = root.server(&plan.name).unwrap();
    server.save(&envoy.file("pinhole")).unwrap();
    Pki::new().publish(&envoy.file("identity"), &plan.name);
    lab::answer_ok(SocketAddr::new(
        Ipv4Addr::LOCALHOST.into(),
        plan.sockets.http.port(),
    ))
    .await;
    let stats = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), plan.sockets.envoy_stats.port());
    envoy.run(stats).await;
    envoy
}

#[tokio::test]
async fn a_pod_answers_by_both_families() {
    if !ipv6() {
        return;
    }
    let plan = sink();
    let envoy = start(&plan, &listeners(&plan, &paths()).unwrap()).await;
    let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for host in hosts {
        let ingress = SocketAddr::new(host, plan.sockets.ingress.port());
        assert_eq!(status(ingress, "GET", "/health").await, 200, "{ingress}");
        assert_eq!(status(ingress, "GET", "/nothing").await, 404, "{ingress}");
        let stats = SocketAddr::new(host, plan.sockets.envoy_stats.port());
        assert_eq!(status(stats, "GET", "/ready").await, 200, "{stats}");
    }
    let stats = envoy.stats().await;
    assert_eq!(
        stats["http.ingress.downstream_rq_2xx"], 2,
        "both are counted as one: {stats:#?}"
    );
}

/// Where a node has no IPv6, Envoy calls `::` a malformed address; here it is given one.
#[tokio::test]
async fn a_pod_answers_by_ipv4_where_that_is_all() {
    let plan = sink();
    let file = listeners(&plan, &paths()).unwrap();
    let file = file
        .to_string()
        .replace(r#""address":"::""#, r#""address":":::""#);
    let envoy = start(&plan, &serde_json::from_str(&file).unwrap()).await;
    envoy.logged("malformed IP address").await;
    let ingress = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), plan.sockets.ingress.port());
    assert_eq!(status(ingress, "GET", "/health").await, 200);
}

/// A name with addresses of both families, of which one leads nowhere.
#[rstest]
#[case::by_ipv4(Ipv4Addr::LOCALHOST.into())]
#[case::by_ipv6(Ipv6Addr::LOCALHOST.into())]
#[tokio::test]
async fn peer_is_reached_by_either_ip_family(#[case] host: IpAddr) {
    if !ipv6() {
        return;
    }
    let target = name("live", "cluster-b", "sink");
    let address = SocketAddr::new(host, port());
    lab::echo(address).await;
    let mut cluster = egress::peer(
        &target,
        &blueprint::plan::PeerAddress {
            host: "localhost".into(),
            port: address.port(),
        },
        &EnvoyPaths::in_working_directory(),
    );
    // What is of interest is before TLS.
    cluster.as_object_mut().unwrap().remove("transport_socket");
    cluster.as_object_mut().unwrap().remove("@type");
    let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port());
    let stats = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port());
    let config = json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": parts::admin("admin.sock".as_ref()),
        "static_resources": {
            "listeners": [
                egress::listener(&blueprint::plan::Egress {
                    target: target.clone(),
                    protocol: messages::Protocol::Grpc,
                    public_port: address.port(),
                    listen: own,
                }),
                ingress::stats_listener(stats),
            ],
            "clusters": [cluster, parts::admin_cluster("admin.sock".as_ref())],
        },
    });
    let mut envoy = Envoy::prepare(&config);
    envoy.run(stats).await;
    for round in 0..4 {
        Wait::until("an echo")
            .poll(|| async {
                // The name is looked up after the port is open.
                Ok(match lab::exchange(own, "hello").await {
                    Ok(answer) if answer == "hello" => Seen::Ready(()),
                    other => Seen::Waiting(format!("{round}: {other:?}")),
                })
            })
            .await
            .unwrap();
    }
    let stats = envoy.stats().await;
    let failed = format!("cluster.{}.upstream_cx_connect_fail", peer_cluster(&target));
    assert_eq!(stats.get(&failed), Some(&0), "{stats:#?}");
}
