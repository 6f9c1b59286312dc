//! A sidecar that hangs is restarted by the kubelet, and messages flow again.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::container::Container;
use e2e::testing::assert_delivered;
use harness::{ops::faults, proof, runtime};
use host::{
    environment::PodRecord,
    select,
    wait::{Seen, Wait},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use crate::scene::Scene;

/// Longest time from the freeze to the restart: six probes of 5 s with 2 s each to answer, and the kill.
const RESTART_LIMIT: Duration = Duration::from_secs(90);

/// How often the kubelet has restarted a sidecar of the pod's one Kubernetes pod.
async fn restarts(scene: &Scene, pod: &PodRecord, sidecar: &str) -> anyhow::Result<i32> {
    let cluster = scene
        .clusters
        .get(pod.name.cluster())
        .with_context(|| format!("no cluster `{}`", pod.name.cluster()))?;
    let pods = Api::<Pod>::namespaced(cluster.client(), &pod.name.namespace());
    let pods = pods.list(&ListParams::default()).await?;
    let statuses = pods
        .items
        .into_iter()
        .filter_map(|pod| pod.status?.init_container_statuses)
        .flatten();
    Ok(statuses
        .filter(|status| status.name == sidecar)
        .map(|status| status.restart_count)
        .sum())
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn hung_sidecars_are_restarted() -> anyhow::Result<()> {
    const BLUEPRINT: &str = "international-ferry";
    let scene = &Scene::alone().await?;
    let sink = select::sinks(&scene.environment.record, BLUEPRINT)
        .next()
        .context("no sink")?
        .clone();
    for container in [Container::Wosp, Container::Envoy] {
        let name = container.as_str();
        let before = restarts(scene, &sink, name).await?;
        faults::freeze(&scene.environment, &sink.name, container).await?;
        Wait::until(format!("the kubelet to restart `{name}`"))
            .within(RESTART_LIMIT)
            .poll(|| async {
                let now = restarts(scene, &sink, name).await?;
                Ok(match now > before {
                    true => Seen::Ready(()),
                    false => Seen::Waiting(format!("{now} restarts")),
                })
            })
            .await?;
        for pod in scene.environment.record.pods_of(BLUEPRINT) {
            runtime::of(scene.environment.record.runtime)
                .pods()
                .wait_ready(&scene.environment, &pod.name, scene.timeline())
                .await?;
        }
        let verdict = proof::again(&scene.environment, BLUEPRINT, scene.timeline()).await?;
        assert_delivered(&verdict, 5);
    }
    Ok(())
}
