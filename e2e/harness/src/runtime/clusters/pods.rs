//! Reads the state of pods on clusters from their API servers.

use std::collections::BTreeMap;

use anyhow::Context as _;
use blueprint::{container::Container, plan};
use cluster::kubernetes::{Cluster, LivePod, container_statuses};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use host::{
    clock::{self, Clocks},
    environment::{Environment, PodRecord},
    pods::{ContainerState, Liveness, PodState, Readiness},
    timeline::Timeline,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use messages::WorkloadName;
use render::Controller;

use super::cluster_of;
use crate::runtime::{Follow, LogLines, Pods, clusters::deploy};

use async_trait::async_trait;

/// How many lines of a log a message shows.
const TAIL: i64 = 20;

/// Pods as objects of API servers.
pub(crate) struct OnClusters;

#[async_trait]
impl Pods for OnClusters {
    async fn clocks(&self, environment: &Environment) -> Clocks {
        let record = &environment.record;
        let clusters = record.clusters.iter();
        let clusters = clusters.map(|cluster| super::connect(environment, &cluster.name));
        let clusters: Vec<_> = join_all(clusters).await.into_iter().flatten().collect();
        let looks = record.pods.iter().map(|pod| {
            let mut clusters = clusters.iter();
            let cluster = clusters.find(|cluster| cluster.name() == pod.name.cluster());
            async move {
                let cluster = cluster?;
                let live = cluster.newest(&pod.name).await.ok()?;
                let offset = cluster.pod_clock(&pod.namespace, &live.name).await.ok()??;
                Some(clock::Seen {
                    cluster: cluster.name().into(),
                    pod: Some(pod.name.pod().into()),
                    offset,
                })
            }
        });
        let (mut clocks, pods) = tokio::join!(api_clocks(&clusters), join_all(looks));
        pods.into_iter().flatten().for_each(|seen| clocks.see(seen));
        clocks
    }

    async fn live_pods(
        &self,
        environment: &Environment,
    ) -> anyhow::Result<BTreeMap<WorkloadName, Vec<String>>> {
        let mut live = BTreeMap::new();
        for record in &environment.record.pods {
            let pods = cluster_of(environment, &record.name)
                .await?
                .live_pods(&record.name)
                .await?;
            live.insert(
                record.name.clone(),
                pods.into_iter().map(|pod| pod.name).collect(),
            );
        }
        Ok(live)
    }

    async fn logs(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
        follow: Follow,
    ) -> anyhow::Result<LogLines> {
        let cluster = cluster_of(environment, pod).await?;
        let newest = cluster.newest(pod).await?;
        let lines = cluster
            .log_lines(
                &pod.namespace(),
                &newest.name,
                container.as_str(),
                follow == Follow::Yes,
            )
            .await?;
        Ok(lines.map_err(anyhow::Error::from).boxed())
    }

    async fn metrics(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<String> {
        let port = match container {
            Container::App => plan::HTTP_PORT,
            Container::Wosp => plan::WOSP_PORT,
            Container::Envoy => plan::ENVOY_STATS_PORT,
        };
        let cluster = cluster_of(environment, pod).await?;
        let newest = cluster.newest(pod).await?;
        cluster
            .ask(
                &pod.namespace(),
                &newest.name,
                port,
                container.metrics_path(),
            )
            .await
    }

    async fn wait_ready(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        let cluster = cluster_of(environment, pod).await?;
        let record = environment.record.pod(pod);
        let role = record
            .with_context(|| format!("{pod} is not recorded"))?
            .role;
        timeline
            .run(format!("wait for {pod}"), |step| async move {
                cluster
                    .rolled_out(pod, Controller::of(role), deploy::ROLLOUT_LIMIT, &step)
                    .await
                    .map(drop)
            })
            .await
    }
}

/// What every API server knows of the pods, in deploy order.
pub(crate) async fn looks(environment: &Environment) -> Vec<anyhow::Result<Look>> {
    let pods = environment.record.pods.iter();
    join_all(pods.map(|record| seen(environment, record))).await
}

/// The states of the pods by what was seen of them. `down` holds the clusters that do not run, each with its state.
pub(crate) fn states(
    environment: &Environment,
    looks: Vec<anyhow::Result<Look>>,
    down: &BTreeMap<&str, &'static str>,
) -> Vec<PodState> {
    let pods = environment.record.pods.iter();
    pods.zip(looks)
        .map(|(record, look)| pod_state(record, look, down.get(record.name.cluster()).copied()))
        .collect()
}

/// `down` is what the pod's cluster is, where it does not run.
fn pod_state(record: &PodRecord, look: anyhow::Result<Look>, down: Option<&str>) -> PodState {
    let (containers, readiness, live) = look.unwrap_or_else(|error| {
        let missing = match down {
            Some(state) => format!("its cluster, which is {state}"),
            None => format!("its cluster: {error:#}"),
        };
        (vec![], Readiness::Waiting(vec![missing]), None)
    });
    let (pod_name, node) = live.map_or_else(
        || (record.pod_name.clone(), record.node.clone()),
        |live| (live.name, live.node),
    );
    PodState {
        name: record.name.clone(),
        role: record.role,
        pod_name,
        node,
        local_address: record.local_address.clone(),
        containers,
        readiness,
    }
}

/// What an API server tells of a workload.
type Look = (Vec<ContainerState>, Readiness, Option<LivePod>);

async fn seen(environment: &Environment, record: &PodRecord) -> anyhow::Result<Look> {
    let cluster = cluster_of(environment, &record.name).await?;
    let pods = cluster.pods(&record.name).await?;
    let newest = pods
        .iter()
        .max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let Some(pod) = newest else {
        return Ok((vec![], Readiness::Waiting(vec!["a pod".into()]), None));
    };
    let mut containers = vec![];
    for container in Container::ALL {
        containers.push(ContainerState {
            container,
            state: liveness(&cluster, pod, container).await,
        });
    }
    let readiness = match cluster.missing(pod) {
        None => Readiness::Ready,
        Some(missing) => Readiness::Waiting(vec![
            account(&cluster, pod, &containers).await.unwrap_or(missing),
        ]),
    };
    Ok((containers, readiness, LivePod::of(pod)))
}

/// What a pod whose containers all run reports to wait for: the API server knows only that it is
/// not ready.
async fn account(cluster: &Cluster, pod: &Pod, containers: &[ContainerState]) -> Option<String> {
    let all_run = containers
        .iter()
        .all(|container| container.state == Liveness::Running);
    let (namespace, name) = (
        pod.metadata.namespace.as_ref()?,
        pod.metadata.name.as_ref()?,
    );
    if !all_run {
        return None;
    }
    let said = cluster.account(namespace, name, plan::HTTP_PORT).await?;
    Some(format!("{}: {said}", Container::App))
}

async fn liveness(cluster: &Cluster, pod: &Pod, container: Container) -> Liveness {
    let Some(status) = container_statuses(pod).find(|status| status.name == container.as_str())
    else {
        return Liveness::Stopped;
    };
    if status
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some())
    {
        return Liveness::Running;
    }
    if !has_ended(status) {
        return Liveness::Stopped;
    }
    let (namespace, name) = (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let log_tail = cluster
        .log_tail(namespace, name, container.as_str(), TAIL)
        .await
        .unwrap_or_else(|error| format!("{error:#}"));
    Liveness::Crashed { log_tail }
}

fn has_ended(status: &ContainerStatus) -> bool {
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some())
    };
    terminated(&status.state) || terminated(&status.last_state)
}

/// The clocks of these clusters' API servers, where they say their time.
pub(crate) async fn api_clocks<'a>(clusters: impl IntoIterator<Item = &'a Cluster>) -> Clocks {
    let looks = clusters.into_iter().map(|cluster| async move {
        Some(clock::Seen {
            cluster: cluster.name().into(),
            pod: None,
            offset: cluster.clock().await.ok()?,
        })
    });
    collect(join_all(looks).await)
}

fn collect(all: Vec<Option<clock::Seen>>) -> Clocks {
    let mut clocks = Clocks::default();
    all.into_iter().flatten().for_each(|seen| clocks.see(seen));
    clocks
}

/// Ends the pod of a workload as an update does, with time to drain; its controller immediately
/// creates another.
pub(crate) async fn replace(environment: &Environment, pod: &WorkloadName) -> anyhow::Result<()> {
    let cluster = cluster_of(environment, pod).await?;
    let newest = cluster.newest(pod).await?;
    cluster.drain_pod(&pod.namespace(), &newest.name).await
}
