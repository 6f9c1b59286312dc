//! Authorities and roots are replaced while messages flow, and none is lost.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use blueprint::{container::Container, failure::Failure, pinhole_name};
use e2e::testing::{Ferry, Setup, assert_delivered, payloads, program, with_environment};
use harness::{
    ops::rotate::{self, Overview, Standing},
    pinhole::Trigger,
};
use host::{
    environment::{PodRecord, Store},
    http::{Request, Tls},
    process::{self, CommandLine},
    timeline::Timeline,
    wait::{Seen, Wait},
};
use identity::{Authority, LeafRequest, ROOTS, Root, trusted_roots};
use messages::signature::verify_trail;
use rstest::rstest;

use crate::{
    attackers::door::{Door, Version},
    operator::give_certificate,
};

/// An environment whose sessions are replaced every few seconds: new handshakes meet every state of a rotation.
fn busy(blueprint: &str) -> Setup {
    Setup::of(blueprint).quick_identities()
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
            assert_delivered(&ferry.messages().deliver(payloads(100)).await?, 100);
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
    let overview = rotate::show(&ferry.environment()?, None).await?;
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

fn pinhole_folder(ferry: &Ferry, pod: &PodRecord) -> anyhow::Result<PathBuf> {
    Ok(ferry.environment()?.layout().pinhole(&pod.name))
}

/// Whether the pod's HTTPS shows a certificate of `root`, to a client that trusts no other.
async fn shows(pod: &PodRecord, root: &str) -> anyhow::Result<bool> {
    let address = pod.local_address.clone().context("it has no address")?;
    let tls = Tls::of(root.as_bytes(), &pinhole_name(&pod.name))?;
    match Request::get(address, "/health").secured(tls).send().await {
        Ok(answer) => {
            assert_eq!(answer.status, 200);
            Ok(true)
        }
        Err(error) => {
            assert!(format!("{error:#}").contains("UnknownIssuer"), "{error:#}");
            Ok(false)
        }
    }
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn rotation_of_authorities_and_root_loses_none(
    #[case] blueprint: &str,
) -> anyhow::Result<()> {
    busy(blueprint)
        .run(|ferry| async move {
            let (store, silent) = (Store::find()?, Timeline::default());
            let environment = ferry.environment()?;
            let (name, folder) = (environment.name(), environment.layout().identity());
            let first = show(&ferry).await?;
            let first_root = Root::load(&folder)?.certificate_pem().to_owned();
            let mark = ferry.messages().last_index().await?;

            under_traffic(&ferry, async {
                rotate::rotate(&store, name, None, &silent).await?;
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
            let old_messages = ferry.messages().output(mark).await?;

            under_traffic(&ferry, rotate::rotate_root(&store, name, &silent)).await?;
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

            let third_root = Root::load(&folder)?.certificate_pem().to_owned();
            for pod in [ferry.gateway()?, ferry.sink()?] {
                let trusted = std::fs::read_to_string(pinhole_folder(&ferry, &pod)?.join(ROOTS))?;
                assert_eq!(
                    trusted, third_root,
                    "clients of {} must trust the new root alone",
                    pod.name
                );
                assert!(shows(&pod, &third_root).await?, "{}", pod.name);
                assert!(!shows(&pod, &first_root).await?, "{}", pod.name);
            }

            let alone = [Root::load(&folder)?.certificate_der().clone()];
            let all = trusted_roots(&folder)?;
            let old = &old_messages.first().ok_or(anyhow::anyhow!("none"))?.message;
            assert!(
                verify_trail(old.id, &old.trail, &alone).is_err(),
                "a trail of before must not go back to the new root"
            );
            verify_trail(old.id, &old.trail, &all)?;
            let mark = ferry.messages().last_index().await?;
            assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
            for stored in ferry.messages().output(mark).await? {
                verify_trail(stored.message.id, &stored.message.trail, &alone)?;
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn interrupted_root_rotation_is_completed() -> anyhow::Result<()> {
    with_environment("international-ferry", |ferry| async move {
        let (store, silent) = (Store::find()?, Timeline::default());
        let environment = ferry.environment()?;
        let (name, folder) = (environment.name(), environment.layout().identity());
        let retired = || std::fs::read_dir(folder.join("retired")).map_or(0, Iterator::count);
        let before = retired();
        let sink = ferry.sink()?;
        let roots_file = pinhole_folder(&ferry, &sink)?.join(ROOTS);
        let trusted = || std::fs::read_to_string(&roots_file);
        let trusted_before = trusted()?;

        for cut in ["begun", "reached the pinholes", "promoted"] {
            let come = Wait::until(format!("a root that has {cut}")).poll(|| async {
                let seen = match cut {
                    "begun" => folder.join("next").exists(),
                    "reached the pinholes" => trusted()? != trusted_before,
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
                ended = rotate::rotate_root(&store, name, &silent) => {
                    ended?;
                    anyhow::bail!("it must be cut short once it has {cut}");
                }
            }
            let overview = show_unchecked(&ferry).await?;
            assert!(overview.unfinished, "{overview:#?}");
            let refused = rotate::rotate(&store, name, None, &silent).await;
            let refused = refused.unwrap_err();
            assert_eq!(Failure::exit_code(&refused), 2, "{refused:#}");
            assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
        }

        rotate::rotate_root(&store, name, &silent).await?;
        let overview = show(&ferry).await?;
        assert!(!overview.unfinished, "{overview:#?}");
        assert_eq!(retired(), before + 1, "one root must follow one other");
        let root = Root::load(&folder)?.certificate_pem().to_owned();
        assert_eq!(trusted()?, root);
        assert!(shows(&sink, &root).await?);
        assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
        Ok(())
    })
    .await
}

/// While a root is replaced, a pod may have what the state folder has not, and the other way round.
async fn show_unchecked(ferry: &Ferry) -> anyhow::Result<Overview> {
    rotate::show(&ferry.environment()?, None).await
}

#[tokio::test]
async fn stolen_authority_ends_with_its_root() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        let (store, silent) = (Store::find()?, Timeline::default());
        let environment = ferry.environment()?;
        let gateway = ferry.gateway()?.name;
        let stolen = Authority::load(&environment.layout().authority(&gateway))?;
        let leaf = || stolen.leaf(&LeafRequest::of(&gateway));
        Door::of_sink(&ferry)?.admitted(&leaf()?).await?;
        rotate::rotate(&store, environment.name(), None, &silent).await?;
        Door::of_sink(&ferry)?.admitted(&leaf()?).await?;
        rotate::rotate_root(&store, environment.name(), &silent).await?;
        Door::of_sink(&ferry)?
            .refused(Some(&leaf()?), Version::Tls13)
            .await?;
        assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn with_an_agent_down_nothing_is_replaced() -> anyhow::Result<()> {
    Setup::of("international-ferry")
        .run(|ferry| async move {
            let environment = ferry.environment()?;
            let (store, silent, name) = (Store::find()?, Timeline::default(), environment.name());
            let before = show(&ferry).await?;
            let sink = ferry.sink()?.name.pod().to_owned();
            let with_it_away = async {
                for root in [false, true] {
                    let result = match root {
                        true => rotate::rotate_root(&store, name, &silent).await,
                        false => rotate::rotate(&store, name, None, &silent).await.map(drop),
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
                Ok(())
            };
            ferry
                .faults()
                .without(&sink, Container::Wosp, with_it_away)
                .await?;
            let rotated = rotate::rotate(&store, name, Some(&sink), &silent).await?;
            assert_eq!(rotated, 1, "one pod only");
            let acks = ferry
                .messages()
                .trigger(&Trigger::Default { count: 1 })
                .await?;
            assert_eq!(acks.len(), 1);
            Ok(())
        })
        .await
}

#[tokio::test]
async fn operator_certificate_outlives_root() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        let environment = ferry.environment()?;
        let (store, silent, sink) = (Store::find()?, Timeline::default(), ferry.sink()?);
        let folder = pinhole_folder(&ferry, &sink)?;
        let operator = Root::create("operator")?;
        give_certificate(&ferry, &sink, &operator).await?;
        let files = || {
            ["tls.key", "tls.crt", ROOTS]
                .map(|file| std::fs::read(folder.join(file)).unwrap())
                .to_vec()
        };
        let own = files();
        ferry.messages().output(0).await?;

        rotate::rotate_root(&store, environment.name(), &silent).await?;
        assert!(files() == own, "the operator's files must stay as they are");
        assert!(shows(&sink, operator.certificate_pem()).await?);
        let root = Root::load(&environment.layout().identity())?;
        assert!(!shows(&sink, root.certificate_pem()).await?);
        assert!(shows(&ferry.gateway()?, root.certificate_pem()).await?);
        assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);

        // Others may attach to the same environment.
        give_certificate(&ferry, &sink, &root).await?;
        ferry.messages().output(0).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn foreign_root_keeps_pinhole_certificates() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let files = ["root.crt", "root.key"].map(|file| folder.path().join(file));
    let (root, key) = (files[0].display(), files[1].display());
    let openssl = |args: String| async move {
        process::run(&CommandLine::new("openssl").args(args.split(' '))).await
    };
    if program(&["openssl"], "authorities under somebody else's CA")?.is_none() {
        return Ok(());
    }
    openssl(format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {root} -subj /CN=theirs -days 30"
    ))
    .await?;
    with_environment("fast-international-ferry", |ferry| async move {
        let (store, silent) = (Store::find()?, Timeline::default());
        let environment = ferry.environment()?;
        let (name, sink) = (environment.name(), ferry.sink()?);
        let roots_file = pinhole_folder(&ferry, &sink)?.join(ROOTS);
        let before = std::fs::read_to_string(&roots_file)?;
        for request in rotate::export(&store, name, &[], folder.path(), &silent).await? {
            let certificate = request.with_extension("crt");
            openssl(format!(
                "x509 -req -in {} -CA {root} -CAkey {key} -copy_extensions copyall -days 20 -out {}",
                request.display(),
                certificate.display()
            ))
            .await?;
        }
        rotate::import(&store, name, folder.path(), &silent).await?;
        let theirs = Root::load(&environment.layout().identity())?;
        assert!(!theirs.has_key());
        assert_eq!(std::fs::read_to_string(&roots_file)?, before);
        assert!(shows(&sink, &before).await?);
        assert!(!shows(&sink, theirs.certificate_pem()).await?);
        assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);

        // And a root of Ferry's own takes them back.
        rotate::rotate_root(&store, name, &silent).await?;
        let root = Root::load(&environment.layout().identity())?;
        assert_eq!(std::fs::read_to_string(&roots_file)?, root.certificate_pem());
        assert!(shows(&sink, root.certificate_pem()).await?);
        assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
        Ok(())
    })
    .await
}
