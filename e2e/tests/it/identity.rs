//! Authorities and roots are replaced while messages flow, and none is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{
    environment::Store,
    failure::Failure,
    identity::{Root, trusted_roots},
    pinhole::Trigger,
    runtime::{
        Container, Ending,
        authorities::{self, Overview, Standing},
    },
    testing::{Ferry, Setup, assert_delivered, payloads, with_environment},
    timeline::Timeline,
    wait::{Seen, Wait},
    wire::{env, signature::verify_trail},
};
use rstest::rstest;

/// An environment whose sessions are replaced every other second: new handshakes meet every state of a rotation.
fn busy(blueprint: &str) -> Setup {
    Setup::of(blueprint).setting(env::SESSION_LIFETIME, "2s")
}

/// Runs `change` while messages flow, and demands that each of them arrives once, in order, with a trail that is good.
async fn under_traffic(
    ferry: &Ferry,
    change: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let ended = AtomicBool::new(false);
    let traffic = async {
        loop {
            // Looked at before the batch, so that one whole batch follows the change.
            let last = ended.load(Ordering::Relaxed);
            assert_delivered(&ferry.deliver(payloads(100)).await?, 100);
            if last {
                return anyhow::Ok(());
            }
        }
    };
    let change = async {
        let result = change.await;
        ended.store(true, Ordering::Relaxed);
        result
    };
    tokio::try_join!(traffic, change).map(drop)
}

async fn show(ferry: &Ferry) -> anyhow::Result<Overview> {
    let overview = authorities::show(&ferry.environment()?, None).await?;
    for pod in &overview.pods {
        assert!(pod.trouble.is_none(), "every pod must answer: {pod:#?}");
        for live in &pod.live {
            assert_eq!(
                live.report.authority, pod.authority,
                "what is in force must be what the state folder has"
            );
        }
    }
    Ok(overview)
}

fn authority_serials(overview: &Overview) -> Vec<&str> {
    let pods = overview.pods.iter();
    pods.map(|pod| pod.authority.serial.as_str()).collect()
}

fn standings(overview: &Overview, standing: Standing) -> Vec<&str> {
    let roots = overview.roots.iter();
    roots
        .filter(|root| root.standing == standing)
        .map(|root| root.certificate.fingerprint.as_str())
        .collect()
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn new_authorities_and_a_new_root_cost_no_message(
    #[case] blueprint: &str,
) -> anyhow::Result<()> {
    busy(blueprint)
        .run(|ferry| async move {
            let (store, silent) = (Store::find()?, Timeline::silent());
            let environment = ferry.environment()?;
            let (name, folder) = (environment.name(), environment.layout().identity());
            let first = show(&ferry).await?;
            let mark = ferry.last_index().await?;

            under_traffic(&ferry, async {
                authorities::rotate(&store, name, None, &silent).await?;
                Ok(())
            })
            .await?;
            let second = show(&ferry).await?;
            for (before, after) in authority_serials(&first)
                .iter()
                .zip(authority_serials(&second))
            {
                assert_ne!(*before, after, "every authority must be another");
            }
            assert_eq!(
                standings(&first, Standing::Current),
                standings(&second, Standing::Current),
                "the root must stay"
            );
            let old_messages = ferry.output(mark).await?;

            under_traffic(&ferry, authorities::rotate_root(&store, name, &silent)).await?;
            let third = show(&ferry).await?;
            let current = standings(&third, Standing::Current);
            assert_ne!(standings(&second, Standing::Current), current);
            assert!(!third.unfinished, "{third:#?}");
            for live in third.pods.iter().flat_map(|pod| &pod.live) {
                let roots = live.report.roots.iter();
                assert_eq!(
                    roots
                        .map(|root| root.fingerprint.as_str())
                        .collect::<Vec<_>>(),
                    current,
                    "only the new root may be trusted: {live:#?}"
                );
            }

            let alone = [Root::load(&folder)?.certificate_der().clone()];
            let all = trusted_roots(&folder)?;
            let old = &old_messages.first().ok_or(anyhow::anyhow!("none"))?.message;
            assert!(
                verify_trail(old.id, &old.trail, &alone).is_err(),
                "a trail of before must not go back to the new root"
            );
            verify_trail(old.id, &old.trail, &all)?;
            let mark = ferry.last_index().await?;
            assert_delivered(&ferry.deliver(payloads(5)).await?, 5);
            for stored in ferry.output(mark).await? {
                verify_trail(stored.message.id, &stored.message.trail, &alone)?;
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_new_root_that_is_cut_short_is_completed_by_the_next_try() -> anyhow::Result<()> {
    with_environment("international-ferry", |ferry| async move {
        let (store, silent) = (Store::find()?, Timeline::silent());
        let environment = ferry.environment()?;
        let (name, folder) = (environment.name(), environment.layout().identity());
        let retired = || std::fs::read_dir(folder.join("retired")).map_or(0, Iterator::count);
        let before = retired();

        for cut in ["begun", "promoted"] {
            let come = Wait::until(format!("a root that has {cut}")).poll(|| async {
                let seen = match cut {
                    "begun" => folder.join("next").exists(),
                    _ => retired() > before,
                };
                Ok(if seen {
                    Seen::Ready(())
                } else {
                    Seen::Waiting("nothing".into())
                })
            });
            tokio::select! {
                biased;
                come = come => come?,
                ended = authorities::rotate_root(&store, name, &silent) => {
                    ended?;
                    anyhow::bail!("it must be cut short once it has {cut}");
                }
            }
            let overview = show_unchecked(&ferry).await?;
            assert!(overview.unfinished, "{overview:#?}");
            let refused = authorities::rotate(&store, name, None, &silent).await;
            let refused = refused.unwrap_err();
            assert_eq!(Failure::exit_code(&refused), 2, "{refused:#}");
            assert_delivered(&ferry.deliver(payloads(5)).await?, 5);
        }

        authorities::rotate_root(&store, name, &silent).await?;
        let overview = show(&ferry).await?;
        assert!(!overview.unfinished, "{overview:#?}");
        assert_eq!(retired(), before + 1, "one root must follow one other");
        assert_delivered(&ferry.deliver(payloads(5)).await?, 5);
        Ok(())
    })
    .await
}

/// While a root is replaced, a pod may have what the state folder has not, and the other way round.
async fn show_unchecked(ferry: &Ferry) -> anyhow::Result<Overview> {
    authorities::show(&ferry.environment()?, None).await
}

#[tokio::test]
async fn with_an_agent_down_nothing_is_replaced() -> anyhow::Result<()> {
    Setup::of("international-ferry")
        .run(|ferry| async move {
            let environment = ferry.environment()?;
            let (store, silent, name) = (Store::find()?, Timeline::silent(), environment.name());
            let before = show(&ferry).await?;
            let sink = ferry.sink()?.name.pod().to_owned();
            ferry.stop(&sink, Container::Wosp, Ending::Abrupt).await?;
            for root in [false, true] {
                let result = match root {
                    true => authorities::rotate_root(&store, name, &silent).await,
                    false => authorities::rotate(&store, name, None, &silent)
                        .await
                        .map(drop),
                };
                let text = format!("{:#}", result.unwrap_err());
                assert!(text.contains("nothing was changed"), "{text}");
            }
            let overview = show_unchecked(&ferry).await?;
            assert_eq!(authority_serials(&overview), authority_serials(&before));
            assert!(!overview.unfinished);
            assert!(
                overview.pods.iter().any(|pod| pod.trouble.is_some()),
                "a pod that does not answer must be shown so: {overview:#?}"
            );
            ferry.start(&sink, Container::Wosp).await?;
            let rotated = authorities::rotate(&store, name, Some(&sink), &silent).await?;
            assert_eq!(rotated, 1, "one pod only");
            let acks = ferry.trigger(&Trigger::Default { count: 1 }).await?;
            assert_eq!(acks.len(), 1);
            Ok(())
        })
        .await
}
