//! What goes on without `wosp`, what ends, in which order, and that all heals. On the embedded runtime only: a kubelet would
//! start `wosp` again at once.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use e2e::{
    pinhole::Trigger,
    runtime::{Container, Ending},
    testing::{Ferry, Setup, assert_all_delivered, assert_delivered, payloads},
    wait::{Seen, Wait},
    wire::env,
};
use rstest::rstest;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// Long enough that the last quarter of an identity's life is seen on a busy machine.
const LIFETIME: &str = "16s";
const ROTATION: &str = "2s";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Gateway,
    Sink,
}

/// A blueprint's two pods, one of them without `wosp`.
struct Scene {
    ferry: Ferry,
    gateway: String,
    sink: String,
    side: Side,
}

impl Scene {
    fn new(ferry: Ferry, side: Side) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: ferry.gateway()?.name.pod().into(),
            sink: ferry.sink()?.name.pod().into(),
            ferry,
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
                Ok(match self.ferry.app_lacks(self.broken()).await? {
                    Some(text) if text.contains(what) => Seen::Ready(text),
                    Some(text) => Seen::Waiting(text),
                    None => Seen::Waiting("it is ready".into()),
                })
            })
            .await
    }

    /// Handshakes that the sink has completed.
    async fn handshakes(&self) -> anyhow::Result<u64> {
        let counters = self.ferry.envoy_counters(&self.sink).await?;
        Ok(counters.tunnel_handshakes())
    }

    /// Certificates that the other pod has refused.
    async fn refused(&self) -> anyhow::Result<u64> {
        let (pod, prefix) = match self.side {
            Side::Gateway => (&self.sink, "listener.ingress"),
            Side::Sink => (&self.gateway, "cluster.peer/"),
        };
        let counters = self.ferry.envoy_counters(pod).await?;
        Ok(counters.sum(prefix, ".ssl.fail_verify_error"))
    }

    /// Asks the gateway's Envoy for one more session; returns when that was closed again.
    async fn one_more_session(&self) -> anyhow::Result<()> {
        let egress: SocketAddr = self.ferry.egress(&self.gateway)?;
        let mut stream = TcpStream::connect(egress).await?;
        // Nothing is said on it, so an answer would be one to somebody else.
        match stream.read_u8().await {
            Err(_) => Ok(()),
            Ok(byte) => anyhow::bail!("the sink has said {byte} to nobody"),
        }
    }
}

#[rstest]
#[tokio::test]
async fn without_wosp_sessions_go_on_new_ones_fail_after_a_warning_and_all_heals(
    #[values("fast-international-ferry", "international-ferry")] blueprint: &str,
    #[values(Side::Gateway, Side::Sink)] side: Side,
) -> anyhow::Result<()> {
    let setup = Setup::of(blueprint)
        .setting(env::IDENTITY_LIFETIME, LIFETIME)
        .setting(env::ROTATION_INTERVAL, ROTATION)
        .no_other_settings();
    setup
        .run(|ferry| async move {
            let scene = Scene::new(ferry.clone(), side)?;
            assert_delivered(&ferry.deliver(payloads(3)).await?, 3);
            let (handshakes, refused) = (scene.handshakes().await?, scene.refused().await?);
            ferry
                .stop(scene.broken(), Container::Wosp, Ending::Abrupt)
                .await?;

            // Before the end: the pod says so, and works.
            let text = scene.lacks("workload identity").await?;
            assert!(
                text.contains("a new workload identity: this one is valid for "),
                "the pod must warn while its identity is valid: {text}"
            );
            assert_delivered(&ferry.deliver(payloads(3)).await?, 3);

            // After it: no new session, and the running one stays.
            scene.lacks("the last one was valid until").await?;
            scene.one_more_session().await?;
            Wait::until("a certificate to be refused for its age")
                .poll(|| async {
                    let now = scene.refused().await?;
                    Ok(if now > refused {
                        Seen::Ready(())
                    } else {
                        Seen::Waiting(format!("{now} refused"))
                    })
                })
                .await?;
            let mark = ferry.last_index().await?;
            let waiting = match side {
                // What cannot be signed is not taken in the first place.
                Side::Gateway => {
                    let error = ferry
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
                Side::Sink => {
                    let pinhole = ferry.gateway_inside()?;
                    Some(pinhole.trigger(&Trigger::Each(payloads(3))).await?)
                }
            };
            assert_eq!(
                ferry.last_index().await?,
                mark,
                "nothing must be stored without a signature"
            );
            assert_eq!(
                scene.handshakes().await?,
                handshakes,
                "the running session must go on, without another"
            );

            ferry.start(scene.broken(), Container::Wosp).await?;
            if let Some(mut waiting) = waiting {
                let mut acks = vec![];
                while let Some(ack) = waiting.next().await? {
                    acks.push(ack);
                }
                assert_all_delivered(&acks, 3);
            }
            assert_delivered(&ferry.deliver(payloads(5)).await?, 5);
            assert_eq!(
                scene.handshakes().await?,
                handshakes,
                "all of it must have come by the one session"
            );

            ferry
                .stop(&scene.gateway, Container::App, Ending::Graceful)
                .await?;
            ferry.start(&scene.gateway, Container::App).await?;
            assert_delivered(&ferry.deliver(payloads(5)).await?, 5);
            assert!(
                scene.handshakes().await? > handshakes,
                "a new session must be made again"
            );
            Ok(())
        })
        .await
        .with_context(|| format!("{side:?}"))
}
