//! What the pods of an environment on k3d are doing, by their API servers' account.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use messages::WorkloadName;

use super::clusters::Clusters;
use crate::{
    deploy, docker,
    environment::{Environment, PodRecord},
    kubernetes::{Cluster, LivePod},
    plan,
    runtime::{Container, ContainerState, Follow, Liveness, LogLines, PodState, Readiness},
    timeline::Timeline,
};

/// How many lines of a log a message shows.
const TAIL: i64 = 20;

/// # Errors
///
/// Where no engine answers, which is why no API server does.
pub(in crate::runtime) async fn status(environment: &Environment) -> anyhow::Result<Vec<PodState>> {
    let pods = &environment.record.pods;
    let looks = join_all(pods.iter().map(|record| seen(environment, record))).await;
    let broken = looks.iter().any(Result::is_err);
    let down = if broken {
        clusters_down(environment).await?
    } else {
        BTreeMap::new()
    };
    let states = pods
        .iter()
        .zip(looks)
        .map(|(record, look)| pod_state(record, look, down.get(record.name.cluster()).copied()));
    Ok(states.collect())
}

/// The clusters whose API servers cannot answer, and what they are.
async fn clusters_down(environment: &Environment) -> anyhow::Result<BTreeMap<&str, &'static str>> {
    // Says what to do where the engine itself is down.
    docker::info().await?;
    let clusters = Clusters::new(environment.name().as_str(), environment.layout().root());
    let mut down = BTreeMap::new();
    for cluster in &environment.record.clusters {
        let nodes = clusters.look(&cluster.reference).await?;
        if nodes.is_empty() {
            down.insert(cluster.name.as_str(), "gone");
        } else if !nodes.iter().all(docker::Container::is_running) {
            down.insert(cluster.name.as_str(), "stopped");
        }
    }
    Ok(down)
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
    let cluster = cluster(environment, &record.name).await?;
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
    let readiness = cluster.missing(pod).map_or(Readiness::Ready, |missing| {
        Readiness::Waiting(vec![missing])
    });
    Ok((containers, readiness, LivePod::of(pod)))
}

async fn liveness(cluster: &Cluster, pod: &Pod, container: Container) -> Liveness {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| {
            status
                .init_container_statuses
                .iter()
                .chain(&status.container_statuses)
        })
        .flatten();
    let Some(status) = statuses
        .into_iter()
        .find(|status| status.name == container.as_str())
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

pub(in crate::runtime) async fn live_pods(
    environment: &Environment,
) -> anyhow::Result<BTreeMap<WorkloadName, Vec<String>>> {
    let mut live = BTreeMap::new();
    for record in &environment.record.pods {
        let pods = cluster(environment, &record.name)
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

pub(in crate::runtime) async fn logs(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
    follow: Follow,
) -> anyhow::Result<LogLines> {
    let cluster = cluster(environment, pod).await?;
    let newest = newest(&cluster, pod).await?;
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

pub(in crate::runtime) async fn metrics(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<String> {
    let port = match container {
        Container::App => plan::HTTP_PORT,
        Container::Wosp => plan::WOSP_PORT,
        Container::Envoy => plan::ENVOY_STATS_PORT,
    };
    let cluster = cluster(environment, pod).await?;
    let newest = newest(&cluster, pod).await?;
    cluster
        .get_of_pod(
            &pod.namespace(),
            &newest.name,
            port,
            container.metrics_path(),
        )
        .await
}

/// The pod of a workload that is the youngest of those that run.
async fn newest(cluster: &Cluster, pod: &WorkloadName) -> anyhow::Result<LivePod> {
    let live = cluster.live_pods(pod).await?.into_iter();
    live.max_by_key(|live| live.created_at)
        .with_context(|| format!("{} in {} has no running pod", pod.pod(), pod.cluster()))
}

pub(in crate::runtime) async fn wait_ready(
    environment: &Environment,
    pod: &WorkloadName,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let cluster = cluster(environment, pod).await?;
    timeline
        .run(format!("wait for {pod}"), |step| async move {
            cluster
                .rolled_out(pod, deploy::ROLLOUT_LIMIT, &step)
                .await
                .map(drop)
        })
        .await
}

/// Connections to all clusters, by their names in the blueprint.
pub(in crate::runtime) async fn connect(
    environment: &Environment,
) -> anyhow::Result<BTreeMap<String, Cluster>> {
    let clusters = Clusters::new(environment.name().as_str(), environment.layout().root());
    let mut all = BTreeMap::new();
    for record in &environment.record.clusters {
        let kubeconfig = clusters.kubeconfig_of(&record.reference);
        let cluster = Cluster::connect(&record.name, &kubeconfig).await?;
        all.insert(record.name.clone(), cluster);
    }
    Ok(all)
}

/// A connection to the cluster of a pod.
async fn cluster(environment: &Environment, pod: &WorkloadName) -> anyhow::Result<Cluster> {
    let record = environment
        .record
        .clusters
        .iter()
        .find(|cluster| cluster.name == pod.cluster());
    let record = record.with_context(|| {
        format!(
            "environment `{}` has no cluster {}",
            environment.name(),
            pod.cluster()
        )
    })?;
    let clusters = Clusters::new(environment.name().as_str(), environment.layout().root());
    Cluster::connect(&record.name, &clusters.kubeconfig_of(&record.reference)).await
}
