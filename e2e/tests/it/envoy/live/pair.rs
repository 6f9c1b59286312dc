//! Two pods, and what may be wrong with their identities.

use std::{collections::BTreeMap, net::SocketAddr};

use blueprint::plan::{PeerAddress, PodPlan, Sockets};
use host::wait::{Seen, Wait};
use messages::Role;
use serde_json::Value;

use super::{
    super::fixture::{name, pod},
    lab::{self, Envoy, Network, exchange, replace},
    pki::Pki,
};

use render::envoy::{EnvoyPaths, bootstrap, peers, pinhole};

/// A gateway's Envoy and a sink's, with an app behind the sink's that echoes on its relay port and answers any request
/// on its HTTP port with 200.
pub(super) struct Pair {
    pub(super) network: Network,
    pub(super) pki: Pki,
    pub(super) gateway_plan: PodPlan,
    pub(super) sink_plan: PodPlan,
    pub(super) gateway: Envoy,
    pub(super) sink: Envoy,
}

/// What is wrong with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// Of the right root, but another pod's.
    OtherPod,
    /// The right name, from the authority of another pod.
    OtherAuthority,
    /// The right name, from another environment's root.
    OtherRoot,
    /// A name below the right one, which the authority's name constraints permit.
    Subdomain,
    /// The right name, from an authority below that of the pod, which has this path length. Of a gateway's the sink's Envoy
    /// allows as long a chain.
    SecondAuthority(u8),
}

impl Pair {
    pub(super) async fn start(gateway_flaw: Flaw, sink_flaw: Flaw) -> Self {
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
        lab::echo_of(&gateway_plan.name, sink_plan.sockets.relay).await;
        lab::answer_ok(sink_plan.sockets.http).await;
        lab::answer_ok(gateway_plan.sockets.http).await;
        let pki = Pki::new();
        let root = identity::Root::create("live").unwrap();
        let [gateway, sink] =
            [(&gateway_plan, gateway_flaw), (&sink_plan, sink_flaw)].map(|(plan, flaw)| {
                let mut config = bootstrap(plan, &EnvoyPaths::in_working_directory());
                if matches!(gateway_flaw, Flaw::SecondAuthority(_)) && plan.role == Role::Sink {
                    config = allow_depth(&config);
                }
                let envoy = Envoy::prepare(&config);
                let none = peers(plan, &BTreeMap::new(), &EnvoyPaths::in_working_directory());
                replace(&envoy.file("peers/cds.json"), &none);
                let paths = EnvoyPaths::in_working_directory();
                replace(&envoy.file("pinhole.json"), &pinhole(&paths));
                let server = root.server(&plan.name).unwrap();
                server.save(&envoy.file("pinhole")).unwrap();
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
                    Flaw::SecondAuthority(path_length) => {
                        pki.publish_below(&folder, own, path_length);
                    }
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

    pub(super) fn egress(&self) -> SocketAddr {
        self.gateway_plan.egress[0].listen
    }

    /// Tells the gateway's Envoy where the sink is, by replacing its peers file.
    pub(super) fn point_at(&self, address: SocketAddr) {
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
    pub(super) async fn echoed(&self, text: &str) {
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

/// The same configuration, for chains as long as one likes.
fn allow_depth(config: &Value) -> Value {
    let (text, depth) = (config.to_string(), r#""max_verify_depth":2"#);
    assert!(text.contains(depth), "{text}");
    serde_json::from_str(&text.replace(depth, r#""max_verify_depth":9"#)).unwrap()
}
