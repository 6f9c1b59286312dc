//! What goes on without `wosp`, what ends, in which order, and that all heals.
//!
//! On the embedded runtime alone: a kubelet restarts a `wosp` that has ended or hangs (`tests/k3d/liveness.rs`).

use std::time::Duration;

use anyhow::Context as _;
use blueprint::container::Container;
use e2e::testing::{Ferry, Metric, Setup, assert_all_delivered, assert_delivered, payloads};
use harness::pinhole::{Acks, Trigger};
use host::wait::{Seen, Wait};
use rstest::rstest;
use tokio::io::AsyncReadExt as _;

/// TLS sessions that the sink's Envoy has made, those of the pinhole among them, and these.
const HANDSHAKES: Metric =
    Metric::named("envoy_listener_ssl_handshake").with(&[("envoy_listener_address", "ingress")]);
const PINHOLE: Metric = Metric::named("envoy_http_downstream_cx_ssl_total")
    .with(&[("envoy_http_conn_manager_prefix", "pinhole")]);
/// Certificates that an Envoy has refused as server and as client.
const REFUSED_CLIENT: Metric = Metric::named("envoy_listener_ssl_fail_verify_error")
    .with(&[("envoy_listener_address", "ingress")]);
const REFUSED_SERVER: Metric = Metric::named("envoy_cluster_ssl_fail_verify_error");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Gateway,
    Sink,
}

/// A blueprint's two pods, one of them without `wosp`.
struct Scene {
    /// Asked inside: without an identity a pod is not ready, and a cluster gives it no new connection.
    ferry: Ferry,
    gateway: String,
    sink: String,
    side: Side,
}

impl Scene {
    async fn new(ferry: &Ferry, side: Side) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: ferry.gateway()?.name.pod().into(),
            sink: ferry.sink()?.name.pod().into(),
            ferry: ferry.inside().await?,
            side,
        })
    }

    fn broken(&self) -> &str {
        match self.side {
            Side::Gateway => &self.gateway,
            Side::Sink => &self.sink,
        }
    }

    /// Waits until the `app` of the pod without `wosp` says on `/ready` that it lacks this.
    async fn lacks(&self, what: &str) -> anyhow::Result<String> {
        Wait::until(format!("`/ready` of {} to say `{what}`", self.broken()))
            .looking_every(Duration::from_millis(100))
            .poll(|| async {
                Ok(match self.ferry.pod(self.broken()).app_lacks().await? {
                    Some(text) if text.contains(what) => Seen::Ready(text),
                    Some(text) => Seen::Waiting(text),
                    None => Seen::Waiting("it is ready".into()),
                })
            })
            .await
    }

    /// Handshakes of the tunnel that the sink has completed.
    async fn handshakes(&self) -> anyhow::Result<u64> {
        let counters = self.ferry.pod(&self.sink).counters().await?;
        Ok(counters.sum(&HANDSHAKES) - counters.sum(&PINHOLE))
    }

    /// How often the other pod has had no session for the lack of a valid identity.
    async fn refused(&self) -> anyhow::Result<u64> {
        let (pod, metric) = match self.side {
            Side::Gateway => (&self.sink, REFUSED_CLIENT),
            Side::Sink => (&self.gateway, REFUSED_SERVER),
        };
        Ok(self.ferry.pod(pod).counters().await?.sum(&metric))
    }

    /// Asks the gateway's Envoy for one more session; returns when that was closed again.
    async fn one_more_session(&self) -> anyhow::Result<()> {
        let mut stream = self.ferry.pod(&self.gateway).egress().await?;
        // Nothing is said on it, so an answer would be one to somebody else.
        match stream.read_u8().await {
            Err(_) => Ok(()),
            Ok(byte) => anyhow::bail!("the sink has said {byte} to nobody"),
        }
    }

    /// What must hold while `wosp` is away, up to when the identity has expired; what waits for its return.
    async fn live_without_wosp(&self, handshakes: u64) -> anyhow::Result<Option<Acks>> {
        let ferry = &self.ferry;
        let refused = self.refused().await?;

        // Before the end: the pod says so, and works.
        let text = self.lacks("workload identity").await?;
        assert!(
            text.contains("a new workload identity: this one is valid for "),
            "the pod must warn while its identity is valid: {text}"
        );
        assert_delivered(&ferry.messages().deliver(payloads(3)).await?, 3);

        // After it: no new session, and the running one stays.
        self.lacks("the last one was valid until").await?;
        self.one_more_session().await?;
        Wait::until("a session to be refused for the age of a certificate")
            .poll(|| async {
                let now = self.refused().await?;
                Ok(if now > refused {
                    Seen::Ready(())
                } else {
                    Seen::Waiting(format!("{now} refused"))
                })
            })
            .await?;
        let mark = ferry.messages().last_index().await?;
        let waiting = match self.side {
            // What cannot be signed is not taken in the first place.
            Side::Gateway => {
                let error = ferry
                    .messages()
                    .trigger(&Trigger::Each(payloads(1)))
                    .await
                    .unwrap_err();
                assert!(
                    format!("{error:#}").contains("no valid workload identity"),
                    "{error:#}"
                );
                None
            }
            // What the sink cannot sign waits for it.
            Side::Sink => Some(ferry.messages().begin(&Trigger::Each(payloads(3))).await?),
        };
        assert_eq!(
            ferry.messages().last_index().await?,
            mark,
            "nothing must be stored without a signature"
        );
        assert_eq!(
            self.handshakes().await?,
            handshakes,
            "the running session must go on, without another"
        );
        Ok(waiting)
    }
}

/// One side of a ferry loses its `wosp` for longer than an identity lives.
async fn lose_wosp(ferry: &Ferry, side: Side) -> anyhow::Result<()> {
    let scene = Scene::new(ferry, side).await?;
    let ferry = &scene.ferry;
    assert_delivered(&ferry.messages().deliver(payloads(3)).await?, 3);
    let handshakes = scene.handshakes().await?;

    let waiting = ferry
        .faults()
        .without(
            scene.broken(),
            Container::Wosp,
            scene.live_without_wosp(handshakes),
        )
        .await?;
    if let Some(mut waiting) = waiting {
        let mut acks = vec![];
        while let Some(ack) = waiting.next().await? {
            acks.push(ack);
        }
        assert_all_delivered(&acks, 3);
    }
    assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
    assert_eq!(
        scene.handshakes().await?,
        handshakes,
        "all of it must have come by the one session"
    );

    ferry.faults().restart(&scene.gateway).await?;
    assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
    assert!(
        scene.handshakes().await? > handshakes,
        "a new session must be made again"
    );
    Ok(())
}

/// By both protocols side by side: it is a long wait for the end of an identity.
#[rstest]
#[case::gateway(Side::Gateway)]
#[case::sink(Side::Sink)]
#[tokio::test]
async fn lost_wosp_keeps_sessions_warns_and_heals(#[case] side: Side) -> anyhow::Result<()> {
    const WEBSOCKET: &str = "fast-international-ferry";
    const GRPC: &str = "international-ferry";
    let lose = async |ferry: Ferry| {
        // Two of them are too large for the stack of a test.
        let lost = Box::pin(lose_wosp(&ferry, side)).await;
        lost.with_context(|| format!("{side:?} of {}", ferry.blueprint()))
    };
    Setup::of(WEBSOCKET)
        .and(GRPC)
        .lasting_identities()
        .no_other_settings()
        .run(|ferry| async move {
            let grpc = ferry.other(GRPC);
            // Not `try_join`: each brings its own `wosp` back.
            let (websocket, grpc) = tokio::join!(lose(ferry), lose(grpc));
            websocket.and(grpc)
        })
        .await
}
