//! The embedded runtime: pods as local processes with the real services, `wosp` and Envoy;
//! needs no Docker and no root.
//!
//! Each cluster has a separate loopback network with a load balancer, each pod an address in it.
//! The processes
//! outlive the command. What a later command needs to know of a pod is in `pods/<pod>/pod.json`.

mod authorities;
mod balancers;
mod bring_up;
mod judge;
mod network;
mod pod;
mod probe;
mod refresh;
mod shared;
mod tear_down;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use blueprint::{container::Container, failure::Failure};
use futures_util::future::join_all;
use host::{
    clock::{Clocks, Seen},
    environment::{Environment, Lock, PodRecord, Record, Store},
    http::Request,
    pods::{ContainerState, Liveness, PodState, Readiness},
    process,
    timeline::Timeline,
};
use messages::WorkloadName;

use super::{
    Follow, LogLines, Pods, Removed, Runtime, UpError,
    logs::file_lines,
    request::{Ending, State, UpRequest},
};
use pod::{PodFile, start};

pub(crate) use authorities::look;
use bring_up::up;
use refresh::refresh;
use tear_down::down;
pub(crate) use tear_down::end_unrecorded;

/// How many lines of a log a message shows.
const TAIL: usize = 20;

/// Longest wait for metrics: a container that is flooded with connections answers late.
const METRICS_LIMIT: Duration = Duration::from_secs(60);

/// Longest time that a container may take to drain when it is stopped on purpose: more than the 10 s that `app` allows
/// itself.
const DRAIN_LIMIT: Duration = Duration::from_secs(12);

/// Pods as processes on this machine.
pub struct Embedded;

#[async_trait]
impl Runtime for Embedded {
    async fn up(
        &self,
        store: &Store,
        lock: &Lock,
        request: &UpRequest,
        timeline: &Timeline,
    ) -> Result<Environment, UpError> {
        up(store, lock, request, timeline).await
    }

    async fn refresh(
        &self,
        environment: &mut Environment,
        request: &UpRequest,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        refresh(environment, request, timeline).await
    }

    async fn down(
        &self,
        environment: &Environment,
        state: State,
        timeline: &Timeline,
    ) -> anyhow::Result<Removed> {
        let processes = down(environment, state, timeline).await?;
        Ok(Removed {
            processes,
            ..Removed::default()
        })
    }

    fn pods(&self) -> &'static dyn Pods {
        &Embedded
    }

    async fn status(&self, environment: &Environment) -> anyhow::Result<Vec<PodState>> {
        let pods = environment.record.pods.iter();
        Ok(join_all(pods.map(|pod| pod_state(environment, pod))).await)
    }

    fn stays(&self, record: &Record) -> bool {
        record.processes().any(|process| process.id.is_running())
    }

    fn has_api_servers(&self) -> bool {
        false
    }

    async fn stop_container(
        &self,
        environment: &mut Environment,
        pod: &WorkloadName,
        container: Container,
        ending: Ending,
    ) -> anyhow::Result<()> {
        let running = running(environment, pod, container)?;
        match ending {
            Ending::Abrupt => process::kill(&running).await?,
            Ending::Graceful => {
                process::stop(&running, DRAIN_LIMIT).await?;
            }
        }
        if let Some(record) = environment.record.pod_mut(pod) {
            record
                .processes
                .retain(|process| process.container != container.as_str());
        }
        environment.save()
    }

    async fn start_container(
        &self,
        environment: &mut Environment,
        pod: &WorkloadName,
        container: Container,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        if liveness(record_of(environment, pod)?, container) == Liveness::Running {
            return Err(
                Failure::usage(format!("{container} of {pod} is already running"))
                    .hint("stop it first")
                    .into(),
            );
        }
        let file = PodFile::load(environment.layout(), pod)?;
        let process = start(environment, pod, container, file.launch(container)?)?;
        timeline
            .run(format!("start {container} of {pod}"), |step| async move {
                probe::wait_for_container(&file, container, &process, &step).await
            })
            .await
    }

    async fn freeze(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<()> {
        process::freeze(&running(environment, pod, container)?)
    }

    async fn thaw(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<()> {
        process::thaw(&running(environment, pod, container)?)
    }

    async fn restart(
        &self,
        environment: &mut Environment,
        pod: &WorkloadName,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        let app = Container::App;
        self.stop_container(environment, pod, app, Ending::Graceful)
            .await?;
        self.start_container(environment, pod, app, timeline).await
    }
}

#[async_trait]
impl Pods for Embedded {
    async fn clocks(&self, environment: &Environment) -> Clocks {
        let looks = environment.record.pods.iter().map(|pod| async move {
            let file = PodFile::load(environment.layout(), &pod.name).ok()?;
            let offset = probe::clock(&file).await.ok()??;
            Some(Seen {
                cluster: pod.name.cluster().into(),
                pod: Some(pod.name.pod().into()),
                offset,
            })
        });
        let mut clocks = Clocks::default();
        let all = join_all(looks).await;
        all.into_iter().flatten().for_each(|seen| clocks.see(seen));
        clocks
    }

    async fn live_pods(
        &self,
        environment: &Environment,
    ) -> anyhow::Result<BTreeMap<WorkloadName, Vec<String>>> {
        let pods = environment.record.pods.iter();
        let live = pods
            .filter(|pod| liveness(pod, Container::App) == Liveness::Running)
            .map(|pod| (pod.name.clone(), vec![pod.pod_name.clone()]))
            .collect();
        Ok(live)
    }

    async fn logs(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
        follow: Follow,
    ) -> anyhow::Result<LogLines> {
        let writer =
            pod::process_of(record_of(environment, pod)?, container).map(|process| process.id);
        let path = environment.layout().pod_log(pod, container.as_str());
        file_lines(path, follow, writer).await
    }

    // Empty if its process is gone, or if the log was cut since.
    async fn log_since_start(
        &self,
        _: &Environment,
        pod: &PodRecord,
        container: Container,
    ) -> anyhow::Result<String> {
        let Some(process) = pod::process_of(pod, container) else {
            return Ok(String::new());
        };
        let log = std::fs::read(&process.log)
            .with_context(|| format!("cannot read `{}`", process.log.display()))?;
        let start = usize::try_from(process.log_start)?.min(log.len());
        Ok(String::from_utf8_lossy(&log[start..]).into_owned())
    }

    async fn metrics(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<String> {
        let file = PodFile::load(environment.layout(), pod)?;
        let address = match container {
            Container::App => file.http,
            Container::Wosp => file.wosp,
            Container::Envoy => file.envoy_stats,
        };
        let path = container.metrics_path();
        let request = Request::get(address, path).within(METRICS_LIMIT);
        let answer = request.send().await?;
        anyhow::ensure!(
            answer.status == 200,
            "{container} of {pod} returned status {} for {path}",
            answer.status
        );
        Ok(answer.text())
    }

    async fn wait_ready(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        let file = PodFile::load(environment.layout(), pod)?;
        let processes = record_of(environment, pod)?.processes.clone();
        timeline
            .run(format!("wait for {pod}"), |step| async move {
                probe::wait_for_pod(pod, &file, &processes, &step).await
            })
            .await
    }
}

async fn pod_state(environment: &Environment, pod: &PodRecord) -> PodState {
    let containers: Vec<_> = Container::ALL
        .into_iter()
        .map(|container| ContainerState {
            container,
            state: liveness(pod, container),
        })
        .collect();
    let mut missing: Vec<_> = containers
        .iter()
        .filter_map(|state| match state.state {
            Liveness::Running => None,
            Liveness::Stopped => Some(format!("{} (stopped)", state.container)),
            Liveness::Crashed { .. } => Some(format!("{} (crashed)", state.container)),
        })
        .collect();
    if missing.is_empty() {
        missing = match PodFile::load(environment.layout(), &pod.name) {
            Ok(file) => probe::missing(&file).await,
            Err(error) => vec![format!("{error:#}")],
        };
    }
    PodState {
        name: pod.name.clone(),
        role: pod.role,
        pod_name: pod.pod_name.clone(),
        node: pod.node.clone(),
        local_address: pod.local_address.clone(),
        containers,
        readiness: if missing.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Waiting(missing)
        },
    }
}

fn liveness(pod: &PodRecord, container: Container) -> Liveness {
    match pod::process_of(pod, container) {
        None => Liveness::Stopped,
        Some(process) if process.id.is_running() => Liveness::Running,
        Some(process) => Liveness::Crashed {
            log_tail: process::log_tail(&process.log, TAIL),
        },
    }
}

/// The processes of a container: one, or none where it has ended.
fn running(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<Vec<process::ProcessId>> {
    let process = pod::process_of(record_of(environment, pod)?, container);
    Ok(process.map(|process| process.id).into_iter().collect())
}

fn record_of<'a>(
    environment: &'a Environment,
    pod: &WorkloadName,
) -> anyhow::Result<&'a PodRecord> {
    environment
        .record
        .pod(pod)
        .with_context(|| format!("environment `{}` has no pod {pod}", environment.name()))
}
