//! Probes containers and reads what they wait for.

use std::{net::SocketAddr, path::Path, time::Duration};

use blueprint::{container::Container, failure::Failure, plan::PeerAddress};
use futures_util::future::join_all;
use host::{
    clock::{self, Offset},
    environment::ProcessRecord,
    http::Request,
    process,
    timeline::Step,
    wait::{Seen, Wait},
};
use messages::{Readiness, WorkloadName, env};

use super::{TAIL, pod::PodFile};

/// Longest time from the start of a container to its answer; a machine that is busy with other things is slow.
const LIMIT: Duration = Duration::from_secs(60);

/// Longest time of one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Time for a container that runs to answer, before it is taken for one that hangs: a busy machine is slow.
const HANG_LIMIT: Duration = Duration::from_secs(10);

/// Longest pause between two looks: local processes are asked often, since every wait is on the way to the first message.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks `GET <path>`: `None` for 200, else what is there instead.
async fn obstacle(address: &PeerAddress, path: &str) -> Option<String> {
    match Request::get(address, path)
        .within(ANSWER_LIMIT)
        .send()
        .await
    {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => {
            let readiness = serde_json::from_slice::<Readiness>(&answer.body).ok();
            let obstacle = readiness.and_then(|readiness| readiness.obstacle());
            Some(obstacle.unwrap_or_else(|| {
                format!(
                    "`{path}` returned {} {}",
                    answer.status,
                    answer.text().trim()
                )
            }))
        }
        Err(error) => Some(error.root_cause().to_string()),
    }
}

fn address(socket: SocketAddr) -> PeerAddress {
    PeerAddress {
        host: socket.ip().to_string(),
        port: socket.port(),
    }
}

/// What asks a container by itself: `/health` of the app, which is ready only with its path.
fn own_probe(file: &PodFile, container: Container) -> (PeerAddress, &'static str) {
    match container {
        Container::Wosp => (address(file.wosp), "/ready"),
        Container::Envoy => (address(file.envoy_stats), "/ready"),
        Container::App => (address(file.http), "/health"),
    }
}

/// What asks for everything that a container needs.
fn full_probe(file: &PodFile, container: Container) -> (PeerAddress, &'static str) {
    match container {
        Container::App => (address(file.http), "/ready"),
        other => own_probe(file, other),
    }
}

/// What a pod is still missing; empty when it is ready.
pub(super) async fn missing(file: &PodFile) -> Vec<String> {
    let looks = [Container::Wosp, Container::Envoy, Container::App].map(|container| async move {
        let (address, path) = full_probe(file, container);
        let obstacle = obstacle(&address, path).await?;
        Some(format!("{container}: {obstacle}"))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// Fails with the end of its log if a process has ended.
fn all_run(whose: &str, processes: &[ProcessRecord]) -> anyhow::Result<()> {
    match processes.iter().find(|process| !process.id.is_running()) {
        None => Ok(()),
        Some(ended) => Err(crash(whose, ended).into()),
    }
}

fn crash(whose: &str, ended: &ProcessRecord) -> Failure {
    let tail = process::log_tail(&ended.log, TAIL);
    let taken = [
        "Address already in use",
        "address already in use",
        "Address in use",
    ]
    .into_iter()
    .any(|text| tail.contains(text));
    let hint = if taken {
        "something else listens on one of its addresses: `ss -ltnp` shows what; end it, or run it again"
    } else {
        "mend what its log says; where the environment is kept, `cargo xtask logs` shows all of it"
    };
    Failure::infrastructure(format!(
        "{whose}: {} has crashed; end of its log:\n{tail}",
        ended.container
    ))
    .hint(hint)
}

/// `cluster-b: `sink``, as messages name a pod.
pub(super) fn named(pod: &WorkloadName) -> String {
    format!("{}: `{}`", pod.cluster(), pod.pod())
}

fn wait<'a>(what: String, step: &'a Step) -> Wait<'a> {
    Wait::until(what)
        .within(LIMIT)
        .looking_every(PAUSE)
        .hint("if the environment is kept, run `cargo xtask logs` for the containers' logs")
        .showing(step)
}

/// How far a pod's clock is ahead of this machine's, as its app reports; `None` if it does not.
pub(super) async fn clock(file: &PodFile) -> anyhow::Result<Option<Offset>> {
    let request = Request::get(file.http, "/ready").within(ANSWER_LIMIT);
    let asked = clock::now();
    let answer = request.send().await?;
    Ok(Offset::of_ready(&answer.body, asked, clock::now()))
}

/// Waits until a pod's app responds, ready or not, and returns its clock.
pub(super) async fn wait_for_clock(
    pod: &WorkloadName,
    file: &PodFile,
    processes: &[ProcessRecord],
    step: &Step,
) -> anyhow::Result<Option<Offset>> {
    wait(format!("{}: the time by its clock", named(pod)), step)
        .looking_every(Duration::from_millis(10))
        .poll(|| async {
            all_run(&named(pod), processes)?;
            Ok(match clock(file).await {
                Ok(offset) => Seen::Ready(offset),
                Err(error) => Seen::Waiting(error.root_cause().to_string()),
            })
        })
        .await
}

/// Waits for the first identity of a pod: Envoy starts with it or not at all.
pub(super) async fn wait_for_identity(
    pod: &WorkloadName,
    identity_dir: &Path,
    processes: &[ProcessRecord],
    step: &Step,
) -> anyhow::Result<()> {
    let file = identity_dir.join(env::IDENTITY_FILE);
    wait(format!("{}: the first identity", named(pod)), step)
        .looking_every(Duration::from_millis(10))
        .poll(|| async {
            all_run(&named(pod), processes)?;
            Ok(if file.exists() {
                Seen::Ready(())
            } else {
                Seen::Waiting(format!("no `{}`", file.display()))
            })
        })
        .await
}

/// Waits until a pod has everything it needs to carry messages.
pub(super) async fn wait_for_pod(
    pod: &WorkloadName,
    file: &PodFile,
    processes: &[ProcessRecord],
    step: &Step,
) -> anyhow::Result<()> {
    wait(named(pod), step)
        .poll(|| async {
            all_run(&named(pod), processes)?;
            Ok(match missing(file).await {
                missing if missing.is_empty() => Seen::Ready(()),
                missing => Seen::Waiting(missing.join("; ")),
            })
        })
        .await
}

/// Whether something answers with a 200 before it is taken for one that hangs.
pub(super) async fn answers(address: &PeerAddress, path: &str) -> bool {
    let wait = Wait::until(format!("an answer from http://{address}{path}"))
        .within(HANG_LIMIT)
        .looking_every(PAUSE)
        .poll(|| async {
            Ok(match obstacle(address, path).await {
                None => Seen::Ready(()),
                Some(obstacle) => Seen::Waiting(obstacle),
            })
        });
    wait.await.is_ok()
}

/// As [`answers`], for a container by itself.
pub(super) async fn container_answers(file: &PodFile, container: Container) -> bool {
    let (address, path) = own_probe(file, container);
    answers(&address, path).await
}

/// Waits until a container answers by itself.
pub(super) async fn wait_for_container(
    file: &PodFile,
    container: Container,
    process: &ProcessRecord,
    step: &Step,
) -> anyhow::Result<()> {
    let (address, path) = own_probe(file, container);
    wait_for_answer(
        container.as_str(),
        &address,
        path,
        std::slice::from_ref(process),
        step,
    )
    .await
}

/// Waits for a 200; gives up when one of the processes on the way has ended.
pub(super) async fn wait_for_answer(
    what: &str,
    address: &PeerAddress,
    path: &str,
    processes: &[ProcessRecord],
    step: &Step,
) -> anyhow::Result<()> {
    wait(
        format!("{what}: an answer from http://{address}{path}"),
        step,
    )
    .poll(|| async {
        all_run(what, processes)?;
        Ok(match obstacle(address, path).await {
            None => Seen::Ready(()),
            Some(obstacle) => Seen::Waiting(obstacle),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use host::{process::Launch, timeline::Timeline};

    async fn crash_of(output: &str) -> anyhow::Error {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), format!("echo first; echo '{output}'; exit 4")],
            env: BTreeMap::new(),
            folder: folder.path().into(),
            log: folder.path().join("log"),
        };
        let process = ProcessRecord {
            container: "app".into(),
            id: launch.start().unwrap(),
            log: launch.log.clone(),
            log_start: 0,
            made_of: None,
        };
        let nobody = address("127.0.0.1:1".parse().unwrap());
        let step = Timeline::default().step("test");
        wait_for_answer("cluster-b: `sink`", &nobody, "/ready", &[process], &step)
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn a_crash_ends_the_wait_with_the_end_of_the_log() {
        let error = crash_of("it hurts").await;
        assert!(
            format!("{error:#}").ends_with(
                ": cluster-b: `sink`: app has crashed; end of its log:\nfirst\nit hurts"
            ),
            "{error:#}"
        );
        assert_eq!(Failure::exit_code(&error), 3);
    }

    #[tokio::test]
    async fn a_crash_for_want_of_an_address_says_so() {
        let error = crash_of("bind: Address already in use").await;
        let hint = Failure::of(&error).unwrap().next_step().unwrap();
        assert!(hint.starts_with("something else listens"), "{hint}");
    }
}
