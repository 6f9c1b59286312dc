//! The pinhole: HTTPS by its own name, beside the tunnel on one port, for the bearer of the token and nobody else.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use blueprint::{container::Container, pinhole_name, plan::PeerAddress};
use e2e::testing::{Ferry, assert_all_delivered, payloads, program, with_environment};
use futures_util::{TryStreamExt as _, future::join_all};
use harness::{
    pinhole::{Pinhole, Trigger},
    runtime::{self, Follow},
};
use host::{
    environment::PodRecord,
    http::{Endpoint, Request, Tls},
    process::{self, CommandLine},
    wait::{Seen, Wait},
};
use identity::{ExtendedKeyUsagePurpose, LeafRequest, ROOT_CERTIFICATE, Root};
use rstest::rstest;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13},
};

use crate::operator::{give_certificate, running};

const GUESS: &str = "a-guess-that-a-stranger-makes-of-it";

fn identity(ferry: &Ferry) -> anyhow::Result<PathBuf> {
    Ok(ferry.environment()?.layout().identity())
}

fn root(ferry: &Ferry) -> anyhow::Result<Root> {
    Root::load(&identity(ferry)?)
}

fn address(pod: &PodRecord) -> anyhow::Result<PeerAddress> {
    pod.local_address.clone().context("it has no address")
}

fn token(pod: &PodRecord) -> anyhow::Result<String> {
    let file = pod.token_file.as_ref().context("it has no token")?;
    Ok(std::fs::read_to_string(file)?)
}

/// A request to a pod's pinhole, as its holder makes it but for the token.
fn ask(ferry: &Ferry, pod: &PodRecord, method: &str, path: &str) -> anyhow::Result<Request> {
    let roots = identity(ferry)?.join(ROOT_CERTIFICATE);
    let (address, tls) = (
        address(pod)?,
        Tls::trusting(&roots, &pinhole_name(&pod.name))?,
    );
    let request = match method {
        "POST" => Request::post(address, path),
        _ => Request::get(address, path),
    };
    Ok(request.secured(tls))
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn its_name_and_its_root_are_both_needed(#[case] blueprint: &str) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        let own = root(&ferry)?.certificate_pem().to_owned();
        let other = Root::create("other")?.certificate_pem().to_owned();
        for pod in [ferry.gateway()?, ferry.sink()?] {
            let name = pinhole_name(&pod.name);
            let elsewhere = format!("pinhole.x{}", pod.name);
            let workload = pod.name.to_string();
            for (roots, server, reason) in [
                (&own, &name, None),
                (&other, &name, Some("UnknownIssuer")),
                // No other name leads there: on the sink these meet the tunnel, on the gateway nothing.
                (&own, &elsewhere, Some("no TLS")),
                (&own, &workload, Some("")),
            ] {
                let tls = Tls::of(roots.as_bytes(), server)?;
                let request = Request::get(address(&pod)?, "/health").secured(tls);
                match (request.send().await, reason) {
                    (Ok(answer), None) => assert_eq!(answer.status, 200, "{name}"),
                    (Err(error), Some(reason)) => {
                        assert!(format!("{error:#}").contains(reason), "{server}: {error:#}");
                    }
                    (answer, _) => panic!("{server} at {name} must not get {answer:?}"),
                }
            }
            // Without a server name there is no HTTPS either.
            let Endpoint::Tcp(by_address) = Endpoint::from(address(&pod)?) else {
                continue;
            };
            let tls = Tls::of(own.as_bytes(), &by_address.host)?;
            let request = Request::get(by_address, "/health").secured(tls);
            assert!(request.send().await.is_err(), "{name} without its name");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_it_serves_is_what_plaintext_serves() -> anyhow::Result<()> {
    with_environment("international-ferry", |ferry| async move {
        let (gateway, sink) = (ferry.gateway()?, ferry.sink()?);
        for (pod, method, path, expected) in [
            (&gateway, "POST", "/trigger?count=1", 200),
            (&gateway, "GET", "/output", 404),
            (&sink, "GET", "/output?limit=1", 200),
            (&sink, "POST", "/trigger", 404),
            (&sink, "GET", "/metrics", 404),
            (&sink, "GET", "/v1/carry", 404),
            (&sink, "GET", "/ready", 404),
        ] {
            let secure = ask(&ferry, pod, method, path)?.bearer(token(pod)?);
            assert_eq!(secure.send().await?.status, expected, "{method} {path}");
            let plain = match method {
                "POST" => Request::post(address(pod)?, path),
                _ => Request::get(address(pod)?, path),
            };
            let plain = plain.bearer(token(pod)?);
            assert_eq!(plain.send().await?.status, expected, "{method} {path}");
        }
        Ok(())
    })
    .await
}

/// A TLS connection to a pod for a server name, with a certificate of the client's where there is one.
async fn connect(
    ferry: &Ferry,
    pod: &PodRecord,
    server: &str,
    shown: Option<(&str, &str)>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root(ferry)?.certificate_der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let config = match shown {
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
            config.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
        None => config.with_no_client_auth(),
    };
    let PeerAddress { host, port } = address(pod)?;
    let stream = TcpStream::connect((host, port)).await?;
    let server = ServerName::try_from(server.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(server, stream)
        .await?)
}

/// Says something through the tunnel; what comes back first. In TLS 1.3 only an answer shows that the client was let in.
async fn talk(
    ferry: &Ferry,
    pod: &PodRecord,
    shown: Option<(&str, &str)>,
) -> anyhow::Result<String> {
    let mut stream = connect(ferry, pod, &pod.name.to_string(), shown).await?;
    stream
        .write_all(b"GET /v1/carry HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn its_certificate_is_no_identity_in_the_tunnel() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        let (gateway, sink) = (ferry.gateway()?.name, ferry.sink()?);
        let root = root(&ferry)?;

        // The gateway's own identity is let in: so it is the certificate that makes the difference below.
        let identity = root.authority(&gateway)?.leaf(&LeafRequest::of(&gateway))?;
        let shown = (&*identity.certificate_chain_pem, &*identity.key_pem);
        assert_eq!(talk(&ferry, &sink, Some(shown)).await?, "HTTP/1.1");

        for pod in [&gateway, &sink.name] {
            let server = root.server(pod)?;
            let shown = (server.certificate_pem(), server.key_pem());
            let answer = talk(&ferry, &sink, Some(shown)).await;
            assert!(
                answer.is_err(),
                "the pinhole of {pod} is no peer of the sink, it got {answer:?}"
            );
        }
        // Even a certificate with the gateway's name is none, where it is for servers only.
        let server_only = root.authority(&gateway)?.leaf(&LeafRequest {
            extended_key_usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..LeafRequest::of(&gateway)
        })?;
        let shown = (&*server_only.certificate_chain_pem, &*server_only.key_pem);
        let answer = talk(&ferry, &sink, Some(shown)).await;
        assert!(answer.is_err(), "a server is no client, it got {answer:?}");
        // And without any, as ever.
        let answer = talk(&ferry, &sink, None).await;
        assert!(answer.is_err(), "nobody is no client, it got {answer:?}");
        Ok(())
    })
    .await
}

/// The whole log of every container of a pod.
async fn all_logs(ferry: &Ferry, pod: &PodRecord) -> anyhow::Result<String> {
    let environment = ferry.environment()?;
    let mut all = String::new();
    for container in [Container::App, Container::Wosp, Container::Envoy] {
        let lines = runtime::of(environment.record.runtime)
            .pods()
            .logs(&environment, &pod.name, container, Follow::No)
            .await?;
        let lines: Vec<_> = lines.try_collect().await?;
        all.push_str(&lines.join("\n"));
    }
    Ok(all)
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn guessing_is_limited_and_never_logged(#[case] blueprint: &str) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        let (gateway, sink) = (ferry.gateway()?, ferry.sink()?);
        for (pod, method, path) in [(&gateway, "POST", "/trigger"), (&sink, "GET", "/output")] {
            let guess = || async {
                let answer = ask(&ferry, pod, method, path)?.bearer(GUESS).send().await?;
                assert_eq!(answer.text(), "", "a refusal says nothing");
                anyhow::Ok(answer.status)
            };
            assert_eq!(guess().await?, 401, "{path}");
            Wait::until(format!("a limit to guesses at {path}"))
                .poll(|| async {
                    let answers: Vec<_> = join_all((0..12).map(|_| guess()))
                        .await
                        .into_iter()
                        .collect::<Result<_, _>>()?;
                    assert!(
                        answers.iter().all(|status| [401, 429].contains(status)),
                        "{answers:?}"
                    );
                    Ok(if answers.contains(&429) {
                        Seen::Ready(())
                    } else {
                        Seen::Waiting(format!("{answers:?}"))
                    })
                })
                .await?;
        }
        // While that limit is in force.
        let (guesses, acks) = tokio::join!(
            join_all((0..20).map(|_| async {
                ask(&ferry, &gateway, "POST", "/trigger")?
                    .bearer(GUESS)
                    .send()
                    .await
            })),
            async {
                Pinhole::of(&gateway)?
                    .trigger_all(&Trigger::Each(payloads(5)))
                    .await
            }
        );
        assert_all_delivered(&acks?, 5);
        assert!(
            guesses
                .into_iter()
                .any(|answer| answer.is_ok_and(|answer| answer.status == 429)),
            "the limit must have been in force meanwhile"
        );
        Pinhole::of(&sink)?.output(0).await?;

        for pod in [&gateway, &sink] {
            let (log, token) = (all_logs(&ferry, pod).await?, token(pod)?);
            assert!(
                log.contains("without the token"),
                "{} must say that somebody guessed",
                pod.name
            );
            for secret in [GUESS, token.trim()] {
                assert!(!log.contains(secret), "{} must not log it", pod.name);
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn operator_certificate_needs_no_restart() -> anyhow::Result<()> {
    with_environment("international-ferry", |ferry| async move {
        let (sink, operator) = (ferry.sink()?, Root::create("operator")?);
        let before = running(&ferry, &sink).await?;
        give_certificate(&ferry, &sink, &operator).await?;
        // The commands trust what is beside it, and the environment's root does not stand for it.
        ferry.messages().output(0).await?;
        let environment = Tls::of(
            root(&ferry)?.certificate_pem().as_bytes(),
            &pinhole_name(&sink.name),
        )?;
        let request = Request::get(address(&sink)?, "/health").secured(environment);
        assert!(request.send().await.is_err());
        assert_eq!(
            running(&ferry, &sink).await?,
            before,
            "nothing must have been started again"
        );
        // Others may attach to the same environment.
        give_certificate(&ferry, &sink, &root(&ferry)?).await?;
        ferry.messages().output(0).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn curl_asks_it_as_the_readme_says() -> anyhow::Result<()> {
    if program(&["curl"], "asking the pinhole as docs/operations.md says")?.is_none() {
        return Ok(());
    }
    with_environment("fast-international-ferry", |ferry| async move {
        let sink = ferry.sink()?;
        let (name, PeerAddress { host, port }) = (pinhole_name(&sink.name), address(&sink)?);
        let roots = identity(&ferry)?.join(ROOT_CERTIFICATE);
        let header = format!("Authorization: Bearer {}\n", token(&sink)?.trim());
        let curl = |url: String, more: &[&str]| {
            let line = CommandLine::new("curl")
                .args([
                    "-q",
                    "-sS",
                    "--fail-with-body",
                    "--noproxy",
                    "*",
                    "-H",
                    "@-",
                ])
                .args(more)
                .args([url])
                .stdin(header.clone());
            async move { process::output(&line).await }
        };
        let https = format!("https://{name}:{port}/output?limit=2");
        let roots = roots.to_string_lossy();
        let resolve = format!("{name}:{port}:{host}");
        let done = curl(https.clone(), &["--cacert", &*roots, "--resolve", &resolve]).await?;
        anyhow::ensure!(done.status.success(), "{}", done.tail(10));
        let plain = curl(format!("http://{host}:{port}/output?limit=2"), &[]).await?;
        anyhow::ensure!(plain.status.success(), "{}", plain.tail(10));
        assert_eq!(done.stdout.lines().count(), 2, "{}", done.stdout);
        assert_eq!(done.stdout, plain.stdout);

        // Without the environment's root curl trusts nobody of that name.
        let done = curl(https, &["--resolve", &resolve]).await?;
        assert_eq!(done.status.code(), Some(60), "{}", done.tail(10));
        Ok(())
    })
    .await
}
